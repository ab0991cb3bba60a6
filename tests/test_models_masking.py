"""Masks at the projector's input, and the common grid."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from encoder_roles.models.connector import projector_inputs
from encoder_roles.models.connectors.channels import ChannelConcat
from encoder_roles.models.grid import resample_grid
from encoder_roles.models.masking import Calibration, calibrate, mask_features
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import ConnectorSettings

WIDTHS = {"clip": 6, "dinov2": 4, "sam": 5}


def inputs(pictures: int = 3, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    blocks = {e: 3 * torch.randn(pictures, 2, 2, w, generator=generator) + 1 for e, w in WIDTHS.items()}
    return projector_inputs(blocks)


def calibrations() -> dict[str, Calibration]:
    return calibrate([inputs(20, seed=5), inputs(12, seed=6)], keep_donors=True)


@pytest.mark.parametrize("removed", list(WIDTHS))
@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_zeroing_a_block_equals_deleting_its_columns_of_the_first_weight(removed: str, kind: str) -> None:
    settings = ConnectorSettings.model_validate({"kind": kind, "layers": 2, "grid": 2})
    full = ChannelConcat({e: (w,) for e, w in WIDTHS.items()}, settings, 8, seed=0)
    left = {e: w for e, w in WIDTHS.items() if e != removed}
    smaller = ChannelConcat({e: (w,) for e, w in left.items()}, settings, 8, seed=1)
    with torch.no_grad():
        blocks = dict(zip(WIDTHS, full.layers[0].weight.split(list(WIDTHS.values()), dim=1), strict=True))
        weights = full.state_dict() | {"layers.0.weight": torch.cat([blocks[e] for e in left], dim=1)}
        smaller.load_state_dict(weights)
    x = inputs()
    masked = full(mask_features(x, frozenset(left), "zero"))
    assert torch.allclose(masked, smaller({e: x[e] for e in left}), atol=1e-6)
    assert not torch.allclose(masked, full(x), atol=1e-3)


@pytest.mark.parametrize("operator", ["zero", "mean", "shuffle", "noise"])
def test_what_is_kept_stays_and_all_else_is_replaced(operator: str) -> None:
    x = inputs()
    before = {e: block.clone() for e, block in x.items()}
    masked = mask_features(x, frozenset({"sam"}), operator, calibrations(), torch.Generator().manual_seed(0))
    assert list(masked) == list(x)
    assert torch.equal(masked["sam"], x["sam"])
    for encoder in ("clip", "dinov2"):
        assert masked[encoder].shape == x[encoder].shape
        assert not torch.allclose(masked[encoder], x[encoder], atol=1e-3)
        assert torch.equal(x[encoder], before[encoder])


@pytest.mark.parametrize("operator", ["zero", "mean", "shuffle", "noise"])
def test_keeping_all_changes_nothing_and_keeping_none_forgets_the_picture(operator: str) -> None:
    result, generator = calibrations(), torch.Generator()
    x = inputs()
    whole = mask_features(x, frozenset(WIDTHS), operator, result, generator.manual_seed(0))
    assert all(torch.equal(whole[e], x[e]) for e in WIDTHS)
    one = mask_features(x, frozenset(), operator, result, generator.manual_seed(0))
    other = mask_features(inputs(seed=9), frozenset(), operator, result, generator.manual_seed(0))
    assert all(torch.equal(one[e], other[e]) for e in WIDTHS)


@pytest.mark.parametrize("operator", ["zero", "mean", "shuffle", "noise"])
def test_answers_do_not_depend_on_how_pictures_are_batched(operator: str) -> None:
    x, result = inputs(5), calibrations()
    generator = torch.Generator().manual_seed(7)
    whole = mask_features(x, frozenset({"clip"}), operator, result, generator)
    generator.manual_seed(7)
    for rows in (slice(0, 2), slice(2, 5)):
        part = mask_features(
            {e: b[rows] for e, b in x.items()}, frozenset({"clip"}), operator, result, generator
        )
        for encoder in WIDTHS:
            assert torch.equal(part[encoder], whole[encoder][rows])


def test_shuffling_gives_all_removed_encoders_the_same_other_picture() -> None:
    result = calibrations()
    masked = mask_features(inputs(4), frozenset({"sam"}), "shuffle", result, torch.Generator().manual_seed(1))
    for picture in range(4):
        rows = set()
        for encoder in ("clip", "dinov2"):
            donors = result[encoder].donors
            assert donors is not None
            same = (donors == masked[encoder][picture]).flatten(1).all(1)
            rows.add(int(same.nonzero().item()))
        assert len(rows) == 1


def test_noise_has_the_moments_of_each_channel() -> None:
    moments = Calibration(torch.tensor([0.0, 5.0, -2.0]), torch.tensor([1.0, 0.1, 3.0]))
    x = {"clip": torch.zeros(400, 4, 4, 3)}
    noise = mask_features(x, frozenset(), "noise", {"clip": moments}, torch.Generator().manual_seed(0))[
        "clip"
    ]
    assert torch.allclose(noise.mean((0, 1, 2)), moments.mean, atol=0.15)
    assert torch.allclose(noise.flatten(0, 2).std(0), moments.std, rtol=0.05)


def test_a_mask_that_lacks_what_it_needs_is_refused() -> None:
    with pytest.raises(StudyError, match="siglip"):
        mask_features(inputs(), frozenset({"siglip"}), "zero")
    with pytest.raises(StudyError, match="calibration"):
        mask_features(inputs(), frozenset({"clip"}), "mean")
    with pytest.raises(StudyError, match="calibration"):
        mask_features(inputs(), frozenset({"clip"}), "noise", calibrations())
    plain = calibrate([inputs(4)])
    with pytest.raises(StudyError, match="donors"):
        mask_features(inputs(), frozenset({"clip"}), "shuffle", plain, torch.Generator())


def test_the_projectors_input_is_normalised_per_token_and_encoder() -> None:
    for block in inputs().values():
        assert torch.allclose(block.mean(-1), torch.zeros(block.shape[:-1]), atol=1e-5)
        assert torch.allclose(block.std(-1, correction=0), torch.ones(block.shape[:-1]), atol=1e-3)


def test_a_grid_that_matches_is_left_as_it_is() -> None:
    x = torch.randn(2, 4, 4, 3)
    assert torch.equal(resample_grid(x, 4), x)


@pytest.mark.parametrize(
    ("height", "width", "size"), [(6, 6, 4), (27, 27, 24), (3, 5, 4), (2, 2, 4), (7, 2, 3)]
)
def test_resampling_keeps_the_mean_and_constants(height: int, width: int, size: int) -> None:
    x = torch.randn(2, height, width, 3, dtype=torch.float64)
    result = resample_grid(x, size)
    assert result.shape == (2, size, size, 3)
    assert torch.allclose(result.mean((1, 2)), x.mean((1, 2)))
    assert torch.allclose(resample_grid(torch.ones_like(x), size), torch.ones_like(result))


def test_whole_ratios_are_block_means_and_repetitions() -> None:
    x = torch.randn(1, 8, 8, 2, dtype=torch.float64)
    blocks = x.reshape(1, 4, 2, 4, 2, 2).mean((2, 4))
    assert torch.allclose(resample_grid(x, 4), blocks)
    assert torch.allclose(resample_grid(blocks, 8), blocks.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_the_grid_is_not_transposed() -> None:
    x = torch.zeros(1, 4, 4, 1)
    x[0, 0, 3] = 4.0
    result = resample_grid(x, 2)[0, :, :, 0]
    assert result.tolist() == [[0.0, 1.0], [0.0, 0.0]]
