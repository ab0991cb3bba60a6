"""Uncertainty: a cluster bootstrap within each benchmark, paired across models (seeds: `seed_noise`).

In every benchmark, a resample draws as many clusters (pictures, pairs, circles) as the benchmark has, with
replacement. Every model is scored on that same draw, so the difference of two models does not depend on how
hard the drawn questions are. All B resamples of a benchmark are one matrix product: (B x clusters) counts
times (clusters x models) weighted sums.
"""

from __future__ import annotations

import gc
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr, ndtri

from encoder_roles.analysis.tables import MODEL, check_scores, long_table, number, order_benchmarks
from encoder_roles.study.sections import StatisticsSettings

Array = npt.NDArray[np.float64]

BLOCK = 4_000_000  # counts held at once (32 MB); fixed, so that the stream of random numbers does not move


@dataclass(frozen=True)
class ClusterSums:
    """What each cluster of a benchmark adds to each model's score, which is sum(sums) / sum(weights)."""

    sums: Array  # (clusters, models): weight x score
    weights: Array  # (clusters, models)


@dataclass(frozen=True)
class ScoreArrays:
    """Every evaluated model on every benchmark, with resamples.

    Attributes:
        models: a row per model: subset, seed, mask, operator.
        benchmarks: a row per benchmark: benchmark, group, n (questions).
        clusters: the sums of each benchmark.
        unparsable: share of answers that could not be read, (models, benchmarks).
        point: scores 0-100, (models, benchmarks).
        draws: their resamples, (resamples, models, benchmarks).
    """

    models: pd.DataFrame
    benchmarks: pd.DataFrame
    clusters: tuple[ClusterSums, ...]
    unparsable: Array
    point: Array
    draws: Array


def build_score_arrays(scores: pd.DataFrame, settings: StatisticsSettings) -> ScoreArrays:
    """Scores and resamples of a checked scores table (a row per question and model)."""
    model, models = number(scores, MODEL)
    order = models.sort_values(MODEL).index.to_numpy()
    models = models.iloc[order].reset_index(drop=True)
    model = np.argsort(order)[model]
    benchmarks = order_benchmarks(number(scores, ["benchmark", "group"])[1])
    place = pd.Index(benchmarks["benchmark"]).get_indexer(scores["benchmark"])
    weight = scores["weight"].to_numpy(float)
    weighted = weight * scores["score"].to_numpy(float)
    failed = scores["unparsable"].to_numpy(float)
    clusters, counts, unparsable = [], [], []
    for b in range(len(benchmarks)):
        rows = np.flatnonzero(place == b)
        # sorted cluster names: the resamples must not depend on the order of the rows
        cluster, names = pd.factorize(scores["cluster"].iloc[rows], sort=True)
        cell, shape = cluster * len(models) + model[rows], (len(names), len(models))
        clusters.append(
            ClusterSums(_sum_cells(cell, weighted[rows], shape), _sum_cells(cell, weight[rows], shape))
        )
        answered = np.bincount(model[rows], minlength=len(models))
        counts.append(int(answered[0]))
        unparsable.append(np.bincount(model[rows], failed[rows], minlength=len(models)) / answered)
    benchmarks["n"] = counts
    point = np.stack([c.sums.sum(0) / c.weights.sum(0) for c in clusters], axis=-1)
    draws = np.stack(
        [
            _draw_benchmark(c, name, settings)
            for c, name in zip(clusters, benchmarks["benchmark"], strict=True)
        ],
        axis=-1,
    )
    return ScoreArrays(models, benchmarks, tuple(clusters), np.stack(unparsable, axis=-1), point, draws)


def _sum_cells(cell: npt.NDArray[np.int64], values: Array, shape: tuple[int, int]) -> Array:
    """Sum `values` into the cells of a matrix; `cell` is each value's flat index."""
    return np.bincount(cell, values, minlength=shape[0] * shape[1]).astype(float).reshape(shape)


def generator(seed: int, *names: str) -> np.random.Generator:
    """A random stream for one purpose: leaving a benchmark out does not change the draws of the others."""
    return np.random.default_rng([seed & 0xFFFFFFFF, *(zlib.crc32(name.encode()) for name in names)])


def _draw_benchmark(clusters: ClusterSums, benchmark: str, settings: StatisticsSettings) -> Array:
    """Resamples (resamples, models) of one benchmark, with a binomial bound for scores of 0 and of 100."""
    drawn = resample_clusters(clusters, settings.resamples, generator(settings.seed, "clusters", benchmark))
    for score, side in ((0.0, 1.0), (100.0, -1.0)):
        at_bound = np.flatnonzero((clusters.sums == score * clusters.weights).all(0))
        if at_bound.size:
            random = generator(settings.seed, f"bound {score:g}", benchmark)
            shape = (settings.resamples, at_bound.size)
            drawn[:, at_bound] += side * bound_draws(len(clusters.sums), shape, random)
    return drawn


def bound_draws(clusters: int, shape: tuple[int, int], random: np.random.Generator) -> Array:
    """How far a score of 0 of n clusters may truly be above 0, in points; 0 in half of the draws.

    A bootstrap of equal answers has no width. The other half of the draws is Beta(1, n), so that the 97.5%
    quantile is the exact binomial bound 1 - 0.05^(1/n): about 3/n, as in the rule of three.

    >>> draws = bound_draws(250, (100_000, 1), np.random.default_rng(0))
    >>> float(np.quantile(draws, 0.975).round(1)), float(np.quantile(draws, 0.025))
    (1.2, 0.0)
    """
    moved: Array = 100 * random.beta(1, clusters, shape) * (random.random(shape) < 0.5)
    return moved


def resample_clusters(clusters: ClusterSums, resamples: int, random: np.random.Generator) -> Array:
    """Scores (resamples, models) of one benchmark; every model is scored on the same drawn clusters."""
    drawn = [
        (counts @ clusters.sums) / (counts @ clusters.weights)
        for counts in _counts(len(clusters.sums), resamples, random)
    ]
    return np.concatenate(drawn) if drawn else np.empty((0, clusters.sums.shape[1]))


def _counts(clusters: int, resamples: int, random: np.random.Generator) -> Iterator[Array]:
    """How often each cluster is drawn: (resamples, clusters), in blocks that bound the memory."""
    block = max(1, BLOCK // clusters)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        drawn = random.integers(0, clusters, size=(size, clusters))
        drawn += np.arange(size)[:, None] * clusters
        yield np.bincount(drawn.ravel(), minlength=size * clusters).reshape(size, clusters).astype(float)


def level_table(benchmarks: pd.DataFrame, overall: str) -> tuple[pd.DataFrame, Array]:
    """The levels of a score (level, benchmark, group, n) and their weights, a (levels, benchmarks) matrix.

    With `overall` = `benchmarks` the overall score is the plain mean of the benchmarks; with `groups` it is
    the mean of the group means. A group's score is the mean of its benchmarks. A benchmark without a group,
    whose name is then empty, counts there as one.
    """
    names, group_of = list(benchmarks["benchmark"]), benchmarks["group"].to_numpy()
    groups = [g for g in dict.fromkeys(group_of) if g]
    member = np.array([(group_of == g) / np.count_nonzero(group_of == g) for g in groups])
    member = member.reshape(len(groups), len(names))
    alone = np.eye(len(names))[group_of == ""]
    overall_weights = np.full(len(names), 1 / len(names))
    if overall == "groups":
        overall_weights = np.vstack([member, alone]).mean(0)
    counts = benchmarks["n"].to_numpy()
    rows = [("overall", "overall", "overall", int(counts.sum()))]
    rows += [("group", g, g, int(counts[group_of == g].sum())) for g in groups]
    rows += [("benchmark", b, g, int(n)) for b, g, n in zip(names, group_of, counts, strict=True)]
    levels = pd.DataFrame(rows, columns=["level", "benchmark", "group", "n"])
    return levels, np.vstack([overall_weights, member, np.eye(len(names))])


def percentile_interval(draws: Array, level: float) -> tuple[Array, Array]:
    """Percentile interval along the first axis, (low, high); NaN without resamples.

    >>> low, high = percentile_interval(np.arange(101.0), level=0.9)
    >>> round(float(low), 6), round(float(high), 6)
    (5.0, 95.0)
    """
    if len(draws) == 0:
        nothing = np.full(draws.shape[1:], np.nan)
        return nothing, nothing
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high


def normal_quantile(level: float) -> float:
    """Half the width of a normal interval at a confidence level, in standard errors.

    >>> round(normal_quantile(0.95), 2)
    1.96
    """
    return float(ndtri((1 + level) / 2))


def two_sided_p(difference: Array, draws: Array) -> Array:
    """p of a zero difference: normal, with the spread of its draws (first axis) as standard error.

    The share of draws beyond zero is not used: it cannot fall below 2 / (resamples + 1), which Holm's
    correction over a few hundred pairs turns into 1. A mean over hundreds of clusters is close to normal.

    >>> draws = np.random.default_rng(0).normal(2.0, 1.0, size=(10_000, 1))
    >>> two_sided_p(np.array([2.0]), draws).round(2).tolist()
    [0.05]
    """
    if len(draws) == 0:
        return np.full(draws.shape[1:], np.nan)
    spread = draws.std(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(difference == 0, 0.0, np.abs(difference) / spread)
    p: Array = 2 * ndtr(-z)
    return p


def holm(p: Array) -> Array:
    """Holm's step-down correction of a family of p values (1-d); NaN stays NaN and is not counted.

    >>> holm(np.array([0.01, np.nan, 0.04, 0.03])).tolist()
    [0.03, nan, 0.06, 0.06]
    """
    # a second to import: the analysis starts without it
    from statsmodels.stats.multitest import multipletests

    adjusted = np.full(p.shape, np.nan)
    known = ~np.isnan(p)
    if not known.any():
        return adjusted
    gc.freeze()  # multipletests runs a full collection at every call: with nothing to visit it is free
    try:
        adjusted[known] = multipletests(p[known], method="holm")[1]
    finally:
        gc.unfreeze()
    return adjusted


def score_intervals(scores: pd.DataFrame, settings: StatisticsSettings) -> pd.DataFrame:
    """scores.csv without `metric`, from a table with the columns of scores.parquet.

    A row per model and level (overall, groups, benchmarks), model by model. The interval comes from a cluster
    bootstrap over questions. Each row is one seed, so the noise between seeds is not in it. Raises StudyError
    on duplicate or missing rows, NaN, and scores outside 0-100.
    """
    check_scores(scores)
    arrays = build_score_arrays(scores, settings)
    levels, weights = level_table(arrays.benchmarks, settings.overall)
    low, high = percentile_interval(arrays.draws @ weights.T, settings.level)
    values = {"score": arrays.point @ weights.T, "low": low, "high": high}
    values["unparsable_share"] = arrays.unparsable @ weights.T
    table = long_table([arrays.models, levels], values).assign(study=scores["study"].iloc[0])
    of_score = ["score", "low", "high", "n", "unparsable_share"]
    return table[["study", *MODEL, "level", "benchmark", "group", *of_score]]
