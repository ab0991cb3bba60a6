"""The lattice of subsets as an array: 2^n values, index = bits of the pool, and their resamples.

Every measure of the analysis is a function of such an array along its last axis. One function thus serves the
estimate and its resamples. A value that was not measured is NaN, and so is all that depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd

from encoder_roles.analysis.seed_noise import SeedNoise, join_seeds, seed_covariances
from encoder_roles.analysis.statistics import (
    Array,
    ScoreArrays,
    build_score_arrays,
    level_table,
    percentile_interval,
)
from encoder_roles.analysis.tables import long_table
from encoder_roles.study.names import BLIND, NO_MASK, NONE_KEPT, StudyError, name_subset, parse_subset
from encoder_roles.study.sections import Operator
from encoder_roles.study.stages import RoleStage

RETRAINED = "retrained"  # the operator of measures that come from models trained on their subset


@dataclass(frozen=True)
class Lattice:
    """The scores of all subsets (retrained) or of all masks of the full checkpoint (one operator).

    `point` is (levels, 2^n) and `draws` (resamples, levels, 2^n), both 0-100, NaN where a subset was not
    measured.
    """

    pool: tuple[str, ...]
    operator: str
    point: Array
    draws: Array

    @property
    def full(self) -> int:
        """Index of the full pool."""
        return len(self.point[0]) - 1

    def missing(self) -> list[str]:
        """Names of the subsets (kept encoders) without a score."""
        return [subset_name(int(i), self.pool) for i in np.flatnonzero(np.isnan(self.point[0]))]


@dataclass(frozen=True)
class LatticeSet:
    """The lattice of retrained models and one per mask operator, on the same resamples.

    Attributes:
        pool: the encoders, in order.
        levels: a row per level of a score: overall, groups, benchmarks.
        confidence: the level of the intervals, 0.95.
        seeds: the number of training seeds.
        retrained, masked: the lattices; `masked` has one per operator.
        interval_note: what the intervals contain, if it is not the usual bootstrap.
        seed_variance: of the overall score of one training seed, in points squared; NaN if it is not known,
            and then the noise between seeds is not in the resamples.
        measured: the noise between seeds that another study measured, if these resamples contain it.
    """

    pool: tuple[str, ...]
    levels: pd.DataFrame
    confidence: float
    seeds: int
    retrained: Lattice
    masked: tuple[Lattice, ...]
    interval_note: str | None = None
    seed_variance: float = float("nan")
    measured: SeedNoise | None = None

    @property
    def all(self) -> tuple[Lattice, ...]:
        """The retrained lattice, then the masked ones."""
        return (self.retrained, *self.masked)

    def bounds(self, draws: Array) -> tuple[Array, Array]:
        """Percentile interval of resamples along their first axis, at the study's level."""
        return percentile_interval(draws, self.confidence)


def build_lattices(
    scores: pd.DataFrame, settings: RoleStage, measured: SeedNoise | None = None
) -> LatticeSet:
    """The lattices of a checked scores table. Raises StudyError for a pool of fewer than two encoders."""
    return arrange_lattices(build_score_arrays(scores, settings.statistics), settings, measured=measured)


def arrange_lattices(
    arrays: ScoreArrays,
    settings: RoleStage,
    interval_note: str | None = None,
    measured: SeedNoise | None = None,
) -> LatticeSet:
    """The lattices of scores with a row per seed. Raises StudyError as `build_lattices`.

    `measured` is the noise between seeds of the same recipe, for a study with one seed.
    """
    pool = settings.pool
    if len(pool) < 2:
        raise StudyError(f"settings: pool {list(pool)}: encoder roles need a pool of at least two encoders")
    levels, weights = level_table(arrays.benchmarks, settings.statistics.overall)
    noise = seed_covariances(arrays, settings.statistics, measured).get(NO_MASK)
    variance = float("nan") if noise is None else max(float(weights[0] @ noise[0] @ weights[0]), 0.0)
    arrays = join_seeds(arrays, settings.statistics, measured)
    point, draws = arrays.point @ weights.T, arrays.draws @ weights.T
    operators = [o for o in get_args(Operator) if o in set(arrays.models["operator"])]
    build = [_build_lattice(o, pool, arrays, point, draws) for o in (NO_MASK, *operators)]
    seeds = int(arrays.models["seeds"].max())
    level = settings.statistics.level
    used = measured if seeds == 1 and settings.statistics.seed_deviation is None else None
    masked = tuple(build[1:])
    return LatticeSet(pool, levels, level, seeds, build[0], masked, interval_note, variance, used)


def _build_lattice(
    operator: str, pool: tuple[str, ...], arrays: ScoreArrays, point: Array, draws: Array
) -> Lattice:
    """Sort models into their places; the full pool is the same unmasked model in every lattice."""
    full, size = name_subset(pool, pool), 2 ** len(pool)
    values = np.full((point.shape[1], size), np.nan)
    resamples = np.full((len(draws), point.shape[1], size), np.nan)
    for row, (subset, mask, applied) in enumerate(
        arrays.models[["subset", "mask", "operator"]].itertuples(index=False, name=None)
    ):
        of_lattice = applied == operator and (operator == NO_MASK or subset == full)
        if not of_lattice and not (subset == full and applied == NO_MASK):
            continue
        place = subset_index(BLIND if mask == NONE_KEPT else mask, pool)
        values[:, place], resamples[:, :, place] = point[row], draws[:, row]
    return Lattice(pool, RETRAINED if operator == NO_MASK else operator, values, resamples)


def score_table(lattices: LatticeSet) -> pd.DataFrame:
    """lattice.csv: v(S) and w(M), the mean over seeds, with intervals; only measured subsets have rows."""
    subsets = {"subset": [subset_name(i, lattices.pool) for i in range(2 ** len(lattices.pool))]}
    tables = []
    for lattice in lattices.all:
        low, high = lattices.bounds(lattice.draws)
        values = {"score": lattice.point, "low": low, "high": high}
        tables.append(long_table([lattices.levels, subsets], values).assign(operator=lattice.operator))
    columns = ["level", "group", "benchmark", "operator", "subset", "score", "low", "high", "n"]
    return pd.concat(tables, ignore_index=True).dropna(subset="score")[columns].reset_index(drop=True)


def subset_index(name: str, pool: tuple[str, ...]) -> int:
    """Index of a subset: bit i is encoder i of the pool; 0 is `blind`.

    >>> subset_index("clip+sam", ("clip", "dinov2", "sam"))
    5
    """
    return sum(1 << pool.index(e) for e in parse_subset(name, pool))


def subset_name(index: int, pool: tuple[str, ...]) -> str:
    """Name of a subset's index, in pool order; `blind` for 0.

    >>> subset_name(5, ("clip", "dinov2", "sam"))
    'clip+sam'
    """
    return name_subset(frozenset(members(index, pool)), pool)


def members(index: int, pool: tuple[str, ...]) -> tuple[str, ...]:
    """The encoders of a subset's index, in pool order."""
    return tuple(e for i, e in enumerate(pool) if index >> i & 1)


def of_size(size: int, n: int) -> list[int]:
    """The indices of all subsets with `size` of n encoders, in ascending order."""
    return [i for i in range(2**n) if i.bit_count() == size]


def singles(n: int) -> list[int]:
    """The indices of the n subsets of one encoder, in pool order."""
    return [1 << i for i in range(n)]


def all_present(values: Array, indices: Iterable[int]) -> bool:
    """Whether all of these subsets were measured (first level of a (levels, 2^n) array)."""
    return not np.isnan(values[0, list(indices)]).any()
