from __future__ import annotations

import math
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lattice_simulation import coverage_of, make_plan, simulate, true_lattice, true_score
from scipy import stats

from encoder_roles.analysis.measures.rankings import kendall, permutation_p, spearman
from encoder_roles.analysis.seed_noise import join_seeds
from encoder_roles.analysis.statistics import (
    ScoreArrays,
    build_score_arrays,
    holm,
    percentile_interval,
    score_intervals,
    two_sided_p,
)
from encoder_roles.analysis.tables import check_pool, check_scores
from encoder_roles.study.names import GROUPS, StudyError
from encoder_roles.study.sections import StatisticsSettings

POOL = ("clip", "dinov2", "sam")
FEW = {"General": ("mme", "seed"), "OCR & Chart": ("chartqa",)}


def statistics(**changes: object) -> StatisticsSettings:
    return StatisticsSettings.model_validate(
        {"resamples": 400, "level": 0.95, "seed": 0, "overall": "benchmarks"} | changes
    )


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    random = np.random.default_rng(1)
    return simulate(make_plan(random, POOL, FEW), random, questions=120).scores


def test_a_score_is_the_weighted_mean_of_its_questions_and_averages_are_plain_means(
    scores: pd.DataFrame,
) -> None:
    table = score_intervals(scores, statistics())
    model = ["subset", "seed", "mask", "operator"]
    by_hand = (
        scores.assign(ws=scores["score"] * scores["weight"])
        .groupby([*model, "benchmark"])[["ws", "weight"]]
        .sum()
    )
    by_hand["score"] = by_hand["ws"] / by_hand["weight"]
    result = table[table["level"] == "benchmark"].set_index([*model, "benchmark"])["score"]
    pd.testing.assert_series_equal(result.sort_index(), by_hand["score"].sort_index(), check_dtype=False)
    wide = result.unstack("benchmark")
    at = table.set_index(model)
    overall, general = (at[at["benchmark"] == name]["score"] for name in ("overall", "General"))
    np.testing.assert_allclose(overall.reindex(wide.index), wide.mean(axis=1))
    np.testing.assert_allclose(general.reindex(wide.index), wide[["mme", "seed"]].mean(axis=1))
    grouped = score_intervals(scores, statistics(overall="groups")).set_index(model)
    of_groups = grouped[grouped["level"] == "group"].groupby(model)["score"].mean()
    result = grouped[grouped["level"] == "overall"]["score"]
    np.testing.assert_allclose(result.reindex(of_groups.index), of_groups)


def test_intervals_depend_on_the_seed_and_not_on_the_order_of_the_rows(scores: pd.DataFrame) -> None:
    first = score_intervals(scores, statistics())
    pd.testing.assert_frame_equal(first, score_intervals(scores.sample(frac=1, random_state=3), statistics()))
    other = score_intervals(scores, statistics(seed=1))
    assert np.array_equal(first["score"], other["score"])
    assert not np.array_equal(first["low"], other["low"])


def test_leaving_a_benchmark_out_does_not_change_the_intervals_of_the_others(scores: pd.DataFrame) -> None:
    key = ["subset", "mask", "operator", "benchmark"]
    both = score_intervals(scores, statistics()).set_index(key)["low"]
    fewer = score_intervals(scores[scores["benchmark"] != "mme"], statistics()).set_index(key)["low"]
    rows = [k for k in fewer.index if k[-1] in ("seed", "chartqa")]
    assert np.array_equal(both[rows], fewer[rows])


def test_the_bootstrap_spread_is_that_of_independent_clusters(scores: pd.DataFrame) -> None:
    rows = scores[(scores["subset"] == "clip") & (scores["benchmark"] == "mme")]
    sums = rows.assign(ws=rows["score"] * rows["weight"]).groupby("cluster")[["ws", "weight"]].sum()
    mean = sums["ws"].sum() / sums["weight"].sum()
    expected = np.sqrt(((sums["ws"] - mean * sums["weight"]) ** 2).sum()) / sums["weight"].sum()
    arrays = build_score_arrays(rows, statistics(resamples=4000))
    assert arrays.draws.std() == pytest.approx(expected, rel=0.05)


def test_pairing_makes_a_difference_of_models_less_variable_than_independent_draws(
    scores: pd.DataFrame,
) -> None:
    settings = statistics(resamples=2000)
    names = ["clip+dinov2", "clip+dinov2+sam"]
    rows = scores[scores["subset"].isin(names) & (scores["operator"] == "unmasked")]
    paired = build_score_arrays(rows, settings).draws.mean(-1)
    apart = [
        build_score_arrays(rows[rows["subset"] == name], statistics(resamples=2000, seed=k)).draws.mean(-1)[
            :, 0
        ]
        for k, name in enumerate(names)
    ]
    # their answers share the questions' difficulties
    assert (paired[:, 0] - paired[:, 1]).var() < 0.9 * (apart[0] - apart[1]).var()


@given(st.lists(st.just(math.nan) | st.floats(0, 1), max_size=40))
def test_holm_is_its_definition_and_keeps_unknown_p_unknown(values: list[float]) -> None:
    p = np.array(values)
    known = sorted(value for value in values if not math.isnan(value))
    # the k-th smallest of m is (m - k) p, but never less than a smaller one's, and at most 1
    steps = [(len(known) - k) * value for k, value in enumerate(known)]
    expected = [
        math.nan if math.isnan(value) else min(1.0, max(steps[: known.index(value) + 1])) for value in values
    ]
    np.testing.assert_allclose(holm(p), expected, rtol=0, atol=1e-12)


def test_p_is_one_for_identical_models_and_small_for_distant_ones() -> None:
    draws = np.stack([np.zeros(500), np.random.default_rng(0).normal(5, 1, 500)], axis=1)
    p = two_sided_p(np.array([0.0, 5.0]), draws)
    assert p[0] == 1
    assert 1e-8 < p[1] < 1e-4


def test_rank_correlations_are_those_of_scipy_also_with_ties_and_in_stacks() -> None:
    random = np.random.default_rng(5)
    a, b = random.integers(0, 6, (20, 8)).astype(float), random.integers(0, 6, (20, 8)).astype(float)
    np.testing.assert_allclose(
        kendall(a, b), [stats.kendalltau(x, y).statistic for x, y in zip(a, b, strict=True)]
    )
    np.testing.assert_allclose(
        spearman(a, b), [stats.spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    )


def test_kendall_p_over_the_120_orders_of_five_encoders_is_scipys_exact_p() -> None:
    random = np.random.default_rng(2)
    for _ in range(10):
        a, b = random.permutation(5).astype(float), random.permutation(5).astype(float)
        assert permutation_p(a, b)[0] == pytest.approx(stats.kendalltau(a, b, method="exact").pvalue)
    assert permutation_p(np.arange(5.0), np.arange(5.0))[0] == pytest.approx(2 / 120)


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_of_scores_and_of_linear_measures_cover_the_truth(seeds: int) -> None:
    # performance/analysis_coverage.py does this for 1,000 studies
    for name, (held, errors) in coverage_of(100, seeds, questions=100, resamples=300)[0].items():
        error = held.mean(1).std() / np.sqrt(len(held))
        assert abs(held.mean() - 0.95) < 0.02 + 3 * error, (name, held.mean(), error)
        assert 0.9 < errors.std() < 1.12, (name, errors.std())


def test_three_seeds_widen_intervals_so_that_they_cover_the_expected_score() -> None:
    covered, narrow = [], []
    for study in range(40):
        random = np.random.default_rng(500 + study)
        plan = make_plan(random, POOL, FEW, seed_noise=0.6)
        simulation = simulate(plan, random, seeds=(0, 1, 2), questions=80, operators=())
        truth = true_lattice(simulation, POOL)
        arrays = build_score_arrays(simulation.scores, statistics(resamples=300))
        joined = join_seeds(arrays, statistics(resamples=300))
        order = [list(joined.models["subset"]).index(n) for n in ["blind", "clip", "clip+dinov2+sam"]]
        low, high = percentile_interval(joined.draws.mean(-1)[:, order], 0.95)
        covered.append((low <= truth[[0, 1, 7]]) & (truth[[0, 1, 7]] <= high))
        seeds = [np.flatnonzero(arrays.models["subset"] == joined.models["subset"][o]) for o in order]
        low, high = percentile_interval(
            np.stack([arrays.draws[:, s].mean((1, 2)) for s in seeds], axis=-1), 0.95
        )
        narrow.append((low <= truth[[0, 1, 7]]) & (truth[[0, 1, 7]] <= high))
    assert 0.90 < np.mean(covered) < 0.99
    assert np.mean(narrow) < np.mean(covered) - 0.1  # without the seed level they would miss it


def test_noise_that_is_estimated_from_few_seeds_has_the_tails_of_students_t() -> None:
    random = np.random.default_rng(0)
    point = random.normal(50, 2, (6, 1))  # two models of three seeds: four degrees of freedom
    models = pd.DataFrame({"subset": ["clip"] * 3 + ["sam"] * 3, "seed": [0, 1, 2] * 2})
    models = models.assign(mask=models["subset"], operator="unmasked")
    benchmarks = pd.DataFrame({"benchmark": ["mme"], "group": ["General"], "n": [100]})
    draws = np.broadcast_to(point, (40_000, 6, 1))
    joined = join_seeds(ScoreArrays(models, benchmarks, (), point * 0, point, draws), statistics())
    error = np.sqrt(point.reshape(2, 3).var(axis=1, ddof=1).mean() / 3)
    for level in (0.9, 0.975, 0.995):
        result = np.quantile(joined.draws[:, 0, 0] - joined.point[0, 0], level)
        assert result == pytest.approx(error * stats.t.ppf(level, 4), rel=0.05)


def test_seed_noise_is_not_counted_twice_when_seeds_differ_by_chance_alone() -> None:
    random = np.random.default_rng(9)
    simulation = simulate(
        make_plan(random, POOL, GROUPS, seed_noise=0.0), random, seeds=(0, 1, 2), operators=()
    )
    arrays = build_score_arrays(simulation.scores, statistics())
    joined = join_seeds(arrays, statistics())
    place = list(joined.models["subset"]).index("clip")
    alone = arrays.draws[:, np.flatnonzero(arrays.models["subset"] == "clip")].mean((1, 2))
    assert joined.draws[:, place].mean(-1).std() < 1.25 * alone.std()


def test_a_stated_seed_deviation_widens_the_interval_of_a_single_seed(scores: pd.DataFrame) -> None:
    plain = join_seeds(build_score_arrays(scores, statistics()), statistics())
    stated = statistics(seed_deviation=3.0)
    wider = join_seeds(build_score_arrays(scores, stated), stated)
    expected = np.sqrt(plain.draws.mean(-1).var(0) + 9)
    np.testing.assert_allclose(wider.draws.mean(-1).std(0), expected, rtol=0.12)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: pd.concat([t, t.iloc[[5]]]), "duplicate row"),
        (lambda t: t.assign(score=t["score"].where(t.index != 7)), "'score' is empty or NaN"),
        (lambda t: t.assign(score=t["score"] + 1), "score is outside 0-100"),
        (lambda t: t.assign(weight=0.0), "weight is not a positive number"),
        (lambda t: t.assign(study=np.where(t.index == 3, "other", t["study"])), "several studies"),
        (lambda t: t.drop(index=11), "of the 120 questions"),
        (lambda t: t.drop(columns="cluster"), "no column cluster"),
        (lambda t: t.assign(cluster=np.where(t.index == 2, "else", t["cluster"])), "two clusters"),
        (lambda t: t.assign(group=np.where(t.index < 9, "else", t["group"])), "two groups"),
        (lambda t: t.assign(operator="unmasked"), "the mask is not the subset"),
        (lambda t: t.iloc[:0], "no rows"),
    ],
)
def test_a_table_that_would_give_a_wrong_number_is_refused_in_one_line(scores, spoil, message) -> None:
    with pytest.raises(StudyError, match=message) as error:
        check_scores(spoil(scores))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t.assign(subset=t["subset"].replace("sam", "mae")), "'mae' is not in the pool"),
        (lambda t: t[(t["subset"] != "clip+dinov2+sam")], "no rows of the full pool"),
        (lambda t: pd.concat([t, t[t["subset"] == "clip"].assign(seed=1)]), "add the missing seeds"),
        (lambda t: t.assign(subset=t["subset"].replace("clip+sam", "sam+clip")), "not in pool order"),
        (lambda t: t.assign(study="other"), "rows of study 'other'"),
    ],
)
def test_a_table_that_does_not_fit_the_pool_is_refused_in_one_line(scores, spoil, message) -> None:
    with pytest.raises(StudyError, match=message) as error:
        check_pool(spoil(scores), POOL, "simulated", "scores.parquet")
    assert "\n" not in str(error.value)


def test_the_truth_of_the_simulation_is_the_mean_of_its_answers() -> None:
    random = np.random.default_rng(3)
    skill = np.array([-1.0, 0.0, 1.5])
    drawn = 0.25 + 0.75 / (1 + np.exp(-(skill - random.normal(0, np.hypot(1.0, 0.5), (400_000, 1)))))
    np.testing.assert_allclose(true_score(skill, 0.5), 100 * drawn.mean(0), atol=0.1)


def test_the_bootstrap_of_a_whole_laptop_study_takes_seconds() -> None:
    random = np.random.default_rng(0)
    simulation = simulate(make_plan(random), random, questions=500, operators=("zero",))
    start = time.process_time()
    build_score_arrays(simulation.scores, statistics(resamples=2000))
    assert time.process_time() - start < 5
