"""Pairs of encoders and their roles, anchor and complement: pairs.csv.

The anchor of a pair is the encoder with the higher Capacity, if its effective rank survives joint training:
the interval of its rank ratio lies above 1 - tau. The complement is the other encoder, if its rank expands:
the interval of its ratio lies above 1. How many ratios exceed 1 + tau is counted beside it. A fixed demand
of 1 + tau would say nothing of an expansion that is smaller but certain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from encoder_roles.analysis.lattice import LatticeSet, members, of_size, singles, subset_index, subset_name
from encoder_roles.analysis.seed_noise import SeedNoise, ratio_variance
from encoder_roles.analysis.statistics import Array, generator, holm, normal_quantile, two_sided_p
from encoder_roles.analysis.tables import PRETRAINED
from encoder_roles.study.stages import RoleStage


@dataclass(frozen=True)
class Ranks:
    """Mean over seeds of the rows of ranks.csv: arrays (2^n, n), NaN where a subset or encoder has no row."""

    erank: Array
    ratio: Array
    spread: Array  # standard error of ln(ratio): its interval and the noise between seeds; 0 without either

    def lower(self, level: float) -> Array:
        """Lower ends of the ratios' intervals, (2^n, n)."""
        bound: Array = self.ratio * np.exp(-normal_quantile(level) * self.spread)
        return bound

    def draws(self, index: npt.NDArray[np.int64], settings: RoleStage) -> Array:
        """Rank ratios of some subsets, (resamples, subsets, n), log-normal around the estimate."""
        random = generator(settings.statistics.seed, "rank ratios")
        noise = random.standard_normal((settings.statistics.resamples, *self.ratio[index].shape))
        drawn: Array = self.ratio[index] * np.exp(self.spread[index] * noise)
        return drawn


@dataclass(frozen=True)
class Pairs:
    """All measured pairs.

    Attributes:
        index: subset indices, (pairs,).
        encoders: the places of both encoders in the pool, (pairs, 2).
        anchor, complement: places in the pool, (pairs,); -1 if no encoder has the role.
        roled: whether both roles are filled, (pairs,).
        roled_draws: whether ratios and Capacities fill both roles in a resample, (resamples, pairs).
        beyond_tau: how many of the 2 x pairs rank ratios exceed 1 + tau.
    """

    index: npt.NDArray[np.int64]
    encoders: npt.NDArray[np.int64]
    anchor: npt.NDArray[np.int64]
    complement: npt.NDArray[np.int64]
    roled: npt.NDArray[np.bool_]
    roled_draws: npt.NDArray[np.bool_]
    beyond_tau: int


def mean_ranks(
    ranks: pd.DataFrame, pool: tuple[str, ...], level: float, measured: SeedNoise | None = None
) -> Ranks:
    """The checked rows of ranks.csv as arrays over the lattice; `level` is that of their intervals.

    The noise between seeds is the study's own or, with one seed, `measured`. The pictures are the same for
    every seed, so seeds do not reduce the error that comes from them.
    """
    between, freedom = ratio_variance(ranks)
    if not freedom:
        between = 0.0 if measured is None or np.isnan(measured.ratio_variance) else measured.ratio_variance
    shape = (2 ** len(pool), len(pool))
    means = Ranks(np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape))
    trained = ranks[ranks["subset"] != PRETRAINED]
    for (subset, encoder), rows in trained.groupby(["subset", "encoder"]):
        place = subset_index(str(subset), pool), pool.index(str(encoder))
        means.erank[place], means.ratio[place] = rows["erank"].mean(), rows["ratio"].mean()
        width = np.log(rows["ratio_high"].to_numpy(float) / rows["ratio_low"].to_numpy(float))
        error = width / (2 * normal_quantile(level))
        pictures = np.mean(error**2) if np.isfinite(error).all() else 0.0
        means.spread[place] = np.sqrt(pictures + between / len(rows))
    return means


def find_pairs(lattices: LatticeSet, ranks: Ranks, settings: RoleStage) -> Pairs:
    """Roles of all measured pairs, as estimated and in every resample of Capacities and rank ratios."""
    n, tau = len(lattices.pool), settings.tau
    index = np.array(
        [i for i in of_size(2, n) if not np.isnan(lattices.retrained.point[0, i])], dtype=np.int64
    )
    encoders = np.array([[e for e in range(n) if i >> e & 1] for i in index], dtype=np.int64).reshape(-1, 2)
    lower = ranks.lower(settings.statistics.level)[index]
    point = _roles(lattices.retrained.point[0][singles(n)], lower, encoders, tau)
    alone = lattices.retrained.draws[:, 0][:, singles(n)]
    drawn = _roles(alone, ranks.draws(index, settings)[: len(alone)], encoders, tau)
    first, anchored, completed = point
    higher, other = np.where(first, *encoders.T), np.where(first, *encoders.T[::-1])
    return Pairs(
        index=index,
        encoders=encoders,
        anchor=np.where(anchored, higher, -1),
        complement=np.where(completed, other, -1),
        roled=anchored & completed,
        roled_draws=drawn[1] & drawn[2],
        beyond_tau=int((np.take_along_axis(ranks.ratio[index], encoders, axis=1) > 1 + tau).sum()),
    )


def _roles(
    alone: Array, ratio: Array, encoders: npt.NDArray[np.int64], tau: float
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Whether the first encoder has the higher Capacity, the anchor survives and the complement expands.

    `alone` is (..., n), `ratio` (..., pairs, n): estimates of a resample, or lower ends of intervals. Each
    result is (..., pairs). A comparison with a missing (NaN) Capacity or ratio is false.
    """
    pair = np.arange(len(encoders))
    one, two = encoders.T
    first = alone[..., one] >= alone[..., two]
    known = ~np.isnan(alone[..., one] + alone[..., two])
    ratio_one, ratio_two = ratio[..., pair, one], ratio[..., pair, two]
    anchored = known & (np.where(first, ratio_one, ratio_two) >= 1 - tau)
    completed = known & (np.where(first, ratio_two, ratio_one) > 1)
    return first, anchored, completed


def pair_table(lattices: LatticeSet, pairs: Pairs, ranks: Ranks, costs: pd.DataFrame) -> pd.DataFrame:
    """pairs.csv, best pair first: scores, shares of the full pool, roles, costs; `p_holm` is over all
    pairs."""
    pool, retrained = lattices.pool, lattices.retrained
    point, draws = retrained.point[0], retrained.draws[:, 0]
    score, drawn = point[pairs.index], draws[:, pairs.index]
    low, high = lattices.bounds(drawn)
    share_low, share_high = lattices.bounds(drawn / draws[:, [-1]])
    to_full = lattices.bounds(drawn - draws[:, [-1]])
    alone = point[singles(len(pool))][pairs.encoders]
    alone_draws = draws[:, singles(len(pool))][:, pairs.encoders]
    over_single = lattices.bounds(drawn - alone_draws.max(-1))
    names = [*pool, ""]  # place -1 is no encoder
    table = pd.DataFrame(
        {
            "first": [pool[i] for i in pairs.encoders[:, 0]],
            "second": [pool[i] for i in pairs.encoders[:, 1]],
            "score": score,
            "low": low,
            "high": high,
            "share_of_full": score / point[-1],
            "share_low": share_low,
            "share_high": share_high,
            "difference_to_full": score - point[-1],
            "difference_low": to_full[0],
            "difference_high": to_full[1],
            "p_holm": holm(two_sided_p(score - point[-1], drawn - draws[:, [-1]])),
            "over_best_single": score - alone.max(-1),
            "over_best_single_low": over_single[0],
            "over_best_single_high": over_single[1],
            "capacity_sum": alone.sum(-1),
            "ratio_first": ranks.ratio[pairs.index, pairs.encoders[:, 0]],
            "ratio_second": ranks.ratio[pairs.index, pairs.encoders[:, 1]],
            "anchor": [names[i] for i in pairs.anchor],
            "complement": [names[i] for i in pairs.complement],
            "probability_roles": pairs.roled_draws.mean(0) if len(pairs.roled_draws) else np.nan,
        }
    )
    known = [c for c in ("parameters", "flops") if c in costs.columns]  # measured time is in pareto.csv
    names_of = [subset_name(int(i), pool) for i in pairs.index]
    table = table.join(costs.reindex(names_of)[known].reset_index(drop=True))
    return table.sort_values("score", ascending=False, kind="stable").reset_index(drop=True)


def pair_members(index: int, pool: tuple[str, ...]) -> str:
    """`a and b`, for sentences."""
    return " and ".join(members(index, pool))
