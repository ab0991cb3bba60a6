"""Effective rank: what a planted spectrum must give, and what must not change it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from encoder_roles.effective_rank import spectra
from encoder_roles.effective_rank.gram_sums import FileTriangles, GramSums, MemoryTriangles
from encoder_roles.effective_rank.spectra import PictureGrams, effective_rank, scaled_interval
from encoder_roles.study.names import StudyError


def features(pictures: int = 60, tokens: int = 16, width: int = 12, seed: int = 0) -> np.ndarray:
    """Correlated tokens with a mean, fp32."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(width, width)) * np.geomspace(1, 0.05, width)
    tokens_of = rng.normal(size=(pictures, tokens, width)) + rng.normal(size=(pictures, 1, width))
    return (tokens_of @ mixing + rng.normal(size=width)).astype(np.float32)


def grams(x: np.ndarray, batch: int = 7) -> PictureGrams:
    result = PictureGrams(x.shape[-1], len(x))
    for start in range(0, len(x), batch):
        result.add(x[start : start + batch])
    return result


def entropy_rank(values: np.ndarray) -> float:
    share = values / values.sum()
    return float(np.exp(-(share[share > 0] * np.log(share[share > 0])).sum()))


@pytest.mark.parametrize("rows", [5, 512])  # whose mean is subtracted at a time
def test_equals_a_direct_singular_value_decomposition(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectra, "ROWS", rows)
    x = features()
    flat = x.reshape(-1, x.shape[-1]).astype(np.float64)
    centred = np.linalg.svd(flat - flat.mean(0), compute_uv=False)
    uncentred = np.linalg.svd(flat, compute_uv=False)
    result = grams(x).measures()
    assert result.erank == pytest.approx(entropy_rank(centred), abs=1e-6)
    assert result.erank_uncentred == pytest.approx(entropy_rank(uncentred), abs=1e-6)
    assert result.erank_energy == pytest.approx(entropy_rank(centred**2), abs=1e-6)
    assert result.participation_ratio == pytest.approx((centred**2).sum() ** 2 / (centred**4).sum(), abs=1e-6)
    assert result.stable_rank == pytest.approx((centred**2).sum() / centred[0] ** 2, abs=1e-6)


@pytest.mark.parametrize("rank_of_x", [1, 3, 8])
def test_a_planted_flat_spectrum_has_its_own_rank(rank_of_x: int) -> None:
    rng = np.random.default_rng(1)
    basis, _ = np.linalg.qr(np.column_stack([np.ones(400), rng.normal(size=(400, rank_of_x))]))
    axes, _ = np.linalg.qr(rng.normal(size=(10, 10)))
    x = (basis[:, 1:] @ axes[:rank_of_x]).reshape(25, 16, 10)  # no mean: orthogonal to the ones
    result = grams(x).measures()
    for measure in (result.erank, result.erank_energy, result.participation_ratio, result.stable_rank):
        assert measure == pytest.approx(rank_of_x, abs=1e-6)


def test_rotation_scale_and_the_order_of_batches_change_nothing() -> None:
    x = features().astype(np.float64)
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(12, 12)))
    reference = grams(x).measures().erank
    assert grams(3.7 * x @ rotation).measures().erank == pytest.approx(reference, rel=1e-9)
    assert grams(x, batch=60).measures().erank == pytest.approx(reference, rel=1e-12)


def test_a_constant_channel_adds_nothing_once_centred() -> None:
    x = features().astype(np.float64)
    wider = np.concatenate([x, np.full((*x.shape[:2], 1), 1000.0)], axis=-1)
    plain, with_constant = grams(x).measures(), grams(wider).measures()
    assert with_constant.erank == pytest.approx(plain.erank, rel=1e-6)
    assert with_constant.erank_uncentred < plain.erank_uncentred / 2


def test_one_large_mean_direction_drowns_the_uncentred_energy() -> None:
    x = features().astype(np.float64) + 100 * np.ones(12)
    result = grams(x)
    _, uncentred = result.spectra()
    assert entropy_rank(uncentred**2) < 1.1
    assert result.measures().erank > 4


def test_a_resample_is_the_rank_of_the_drawn_pictures() -> None:
    x = features(pictures=20)
    drawn = np.random.default_rng(5).multinomial(20, np.full(20, 1 / 20), size=3)
    result = grams(x).bootstrap(3, seed=5)
    for row, value in zip(drawn, result, strict=True):
        assert value == pytest.approx(grams(np.repeat(x, row, axis=0)).measures().erank, rel=1e-9)


def test_equal_seeds_pair_two_encoders_on_the_same_pictures() -> None:
    x = features(pictures=200)
    noise = np.random.default_rng(3).normal(size=x.shape)
    before, after = grams(x).bootstrap(100, seed=0), grams(x + 0.02 * noise).bootstrap(100, seed=0)
    apart = grams(x + 0.02 * noise).bootstrap(100, seed=1)
    assert np.std(after / before) < np.std(apart / before) / 3


def test_the_curve_grows_to_the_rank_of_all_pictures() -> None:
    result = grams(features(pictures=64))
    curve = result.curve(steps=5)
    assert [pictures for pictures, _ in curve] == [4, 8, 16, 32, 64]
    assert curve[-1][1] == pytest.approx(result.measures().erank, rel=1e-12)
    assert curve[0][1] == pytest.approx(grams(features(pictures=64)[:4]).measures().erank, rel=1e-9)


def test_pictures_share_sums_when_memory_is_short_and_the_rank_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    x = features(pictures=100)
    plain = grams(x)
    monkeypatch.setattr(spectra, "GRAM_BYTES", 0)
    grouped = grams(x)
    assert plain.pictures_per_group == 1
    assert grouped.pictures_per_group == 4
    assert grouped.measures().erank == pytest.approx(plain.measures().erank, rel=1e-12)
    assert grouped.tokens == plain.tokens == 1600
    spread = np.std(grouped.bootstrap(200, 0)) / np.std(plain.bootstrap(200, 0))
    assert 0.6 < spread < 1.7


def test_sums_in_a_file_are_those_in_memory() -> None:
    random = np.random.default_rng(4)
    grams = random.standard_normal((40, 9, 9))
    grams += grams.transpose(0, 2, 1)
    groups = np.sort(random.integers(0, 6, 40))
    groups[20:] = np.roll(groups[20:], 5)  # a group may come back
    sums = GramSums(6, 9, memory=2**20), GramSums(6, 9, memory=0)
    assert [type(each.triangles) for each in sums] == [MemoryTriangles, FileTriangles]
    for start in range(0, 40, 7):
        for each in sums:
            each.add(groups[start : start + 7], grams[start : start + 7])
    weights = random.integers(0, 3, (4, 6)).astype(float)
    expected = np.einsum("rn,nij->rij", weights[:, groups], grams)
    for each in sums:
        np.testing.assert_allclose(each.weighted(weights), np.tril(expected), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(sums[1].weighted(weights), sums[1].weighted(weights))


def test_a_full_disk_under_the_sums_is_one_line() -> None:
    sums = FileTriangles(3, 10)
    words = r"No space left.* take 0\.0 GB there; make room, or name another"
    with Path("/dev/full").open("rb+", buffering=0) as sums.file, pytest.raises(StudyError, match=words):
        sums.add(np.array([0, 1]), np.ones((2, 10)))


def test_a_file_of_sums_that_was_cut_off_is_refused() -> None:
    sums = FileTriangles(3, 10)
    sums.file.truncate(8 * 25)
    with pytest.raises(StudyError, match="was cut off"):
        sums.weighted(np.ones((1, 3)))


def test_an_interval_lies_around_its_point() -> None:
    draws = np.random.default_rng(0).normal(45.0, 0.5, size=4000)  # resamples lie low
    low, high = scaled_interval(47.0, draws, 0.95)
    assert low < 47.0 < high
    assert high - low == pytest.approx(2 * 1.96 * 0.5 * 47 / 45, rel=0.1)


def test_features_that_are_not_finite_or_all_equal_are_refused() -> None:
    x = features(pictures=4)
    x[2, 0, 0] = np.nan
    with pytest.raises(StudyError, match="picture 2"):
        grams(x)
    with pytest.raises(StudyError, match="collapsed"):
        grams(np.ones((4, 16, 12))).measures()


def test_a_zero_spectrum_has_rank_zero() -> None:
    assert effective_rank(np.zeros((2, 5))).tolist() == [0.0, 0.0]
