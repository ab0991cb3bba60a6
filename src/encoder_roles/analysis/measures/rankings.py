"""Rankings from retraining against rankings from masking (claim 1): rankings.csv, and differences.csv.

Encoders are ranked by Necessity (as the masking literature's CUR does), by Capacity and by Shapley value.
Subsets are ranked by score, and masks by the score of the full checkpoint that keeps the same encoders.

Noise in two rankings pulls their resampled correlation towards zero. A correlation below 1 is therefore no
evidence that they differ: claim 1a in claims.json looks for pairs that are reversed beyond noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from encoder_roles.analysis.lattice import Lattice, LatticeSet, subset_name
from encoder_roles.analysis.measures.games import shapley
from encoder_roles.analysis.measures.roles import capacity, necessity
from encoder_roles.analysis.statistics import Array, holm, percentile_interval, two_sided_p

EXACT = 7  # items up to which the permutation p is exact by enumeration (7! = 5,040)


@dataclass(frozen=True)
class Ranked:
    """Items measured twice: `point` (items,) and `draws` (resamples, items) of each side."""

    comparison: str
    measure: str
    items: tuple[str, ...]
    retrained: Array
    retrained_draws: Array
    masked: Array
    masked_draws: Array


def kendall(first: Array, second: Array) -> Array:
    """Kendall's tau-b along the last axis, for stacks of rankings; NaN where one side is constant.

    >>> round(float(kendall(np.array([3.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0]))), 3)
    0.333
    """
    i, j = np.triu_indices(first.shape[-1], 1)
    a, b = np.sign(first[..., i] - first[..., j]), np.sign(second[..., i] - second[..., j])
    with np.errstate(invalid="ignore", divide="ignore"):
        tau: Array = (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return tau


def spearman(first: Array, second: Array) -> Array:
    """Spearman's rho along the last axis, for stacks of rankings; ties share their mean rank.

    >>> float(spearman(np.array([3.0, 2.0, 1.0]), np.array([3.0, 1.0, 2.0])))
    0.5
    """
    from scipy import stats  # 0.4 seconds to import: the analysis starts without it

    a, b = (stats.rankdata(side, axis=-1) for side in (first, second))
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        rho: Array = (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return rho


def permutation_p(first: Array, second: Array) -> tuple[float, float]:
    """Two-sided p of tau and of rho under random order: exact by enumeration up to 7 items, then scipy's.

    >>> permutation_p(np.array([4.0, 3.0, 2.0, 1.0]), np.array([4.0, 3.0, 2.0, 1.0]))  # 2 of 24 orders
    (0.08333333333333333, 0.08333333333333333)
    """
    if len(first) > EXACT:
        from scipy import stats

        return float(stats.kendalltau(first, second).pvalue), float(stats.spearmanr(first, second).pvalue)
    orders = second[np.array(list(itertools.permutations(range(len(second)))))]
    shares = []
    for correlation in (kendall, spearman):
        observed, null = np.abs(correlation(first, second)), np.abs(correlation(first, orders))
        shares.append(float(np.mean(null >= observed - 1e-12)))
    return shares[0], shares[1]


def ranking_table(lattices: LatticeSet) -> pd.DataFrame:
    """rankings.csv: one row per level (overall, groups), operator, comparison and measure."""
    rows = []
    for place, level in lattices.levels[lattices.levels["level"] != "benchmark"].iterrows():
        for masked in lattices.masked:
            for ranked in comparisons(lattices.retrained, masked, int(str(place))):
                start = {"level": level["level"], "group": level["group"], "comparison": ranked.comparison}
                start |= {"measure": ranked.measure, "operator": masked.operator}
                rows.append(start | _compare(ranked, lattices.confidence))
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = [
    *("level", "group", "comparison", "measure", "operator", "n"),
    *("kendall_tau", "kendall_low", "kendall_high", "kendall_p"),
    *("spearman_rho", "spearman_low", "spearman_high", "spearman_p"),
    *("first_retrained", "first_masked", "probability_first_differs"),
    *("ranking_retrained", "ranking_masked"),
    *("not_separable_retrained", "not_separable_masked", "biggest_reversal"),
]


def comparisons(retrained: Lattice, masked: Lattice, level: int) -> Iterator[Ranked]:
    """What can be ranked on both sides at one level: encoders by each measure, subsets by score."""
    for name, measure in (("necessity", necessity), ("capacity", capacity), ("shapley", shapley)):
        if name == "shapley" and (retrained.missing() or masked.missing()):
            continue
        sides = [(measure(side.point[level]), measure(side.draws[:, level])) for side in (retrained, masked)]
        if not any(np.isnan(point).any() for point, _ in sides):
            yield Ranked("encoders", name, retrained.pool, *sides[0], *sides[1])
    known = ~np.isnan(retrained.point[level]) & ~np.isnan(masked.point[level])
    known[0] = False
    places = np.flatnonzero(known)
    if places.size >= 2:
        names = tuple(subset_name(int(p), retrained.pool) for p in places)
        sides = [(side.point[level, places], side.draws[:, level][:, places]) for side in (retrained, masked)]
        yield Ranked("subsets", "score", names, *sides[0], *sides[1])


def _compare(ranked: Ranked, confidence: float) -> dict[str, Any]:
    """The correlations, their intervals and p, who comes first, and which neighbours are not separable."""
    tau_low, tau_high = percentile_interval(kendall(ranked.retrained_draws, ranked.masked_draws), confidence)
    rho_low, rho_high = percentile_interval(spearman(ranked.retrained_draws, ranked.masked_draws), confidence)
    tau_p, rho_p = permutation_p(ranked.retrained, ranked.masked)
    first = ranked.retrained_draws.argmax(-1) != ranked.masked_draws.argmax(-1)
    return {
        "n": len(ranked.items),
        "kendall_tau": float(kendall(ranked.retrained, ranked.masked)),
        "kendall_low": float(tau_low),
        "kendall_high": float(tau_high),
        "kendall_p": tau_p,
        "spearman_rho": float(spearman(ranked.retrained, ranked.masked)),
        "spearman_low": float(rho_low),
        "spearman_high": float(rho_high),
        "spearman_p": rho_p,
        "first_retrained": ranked.items[int(ranked.retrained.argmax())],
        "first_masked": ranked.items[int(ranked.masked.argmax())],
        "probability_first_differs": float(first.mean()) if first.size else np.nan,
        "ranking_retrained": _in_order(ranked.items, ranked.retrained),
        "ranking_masked": _in_order(ranked.items, ranked.masked),
        "not_separable_retrained": not_separable(
            ranked.items, ranked.retrained, ranked.retrained_draws, confidence
        ),
        "not_separable_masked": not_separable(ranked.items, ranked.masked, ranked.masked_draws, confidence),
        "biggest_reversal": _biggest_move(ranked),
    }


def _in_order(items: tuple[str, ...], point: Array) -> str:
    """The items from the first to the last: `sam>clip>dinov2`."""
    return ">".join(items[i] for i in np.argsort(-point, kind="stable"))


def not_separable(items: tuple[str, ...], point: Array, draws: Array, confidence: float) -> str:
    """Neighbours in a ranking whose difference has an interval that contains 0, best first: `a~b;b~c`."""
    order = np.argsort(-point, kind="stable")
    low, high = percentile_interval(draws[:, order[:-1]] - draws[:, order[1:]], confidence)
    pairs = [
        f"{items[a]}~{items[b]}"
        for a, b, lo, hi in zip(order[:-1], order[1:], low, high, strict=True)
        if not (lo > 0 or hi < 0)
    ]
    return ";".join(pairs)


def _biggest_move(ranked: Ranked) -> str:
    """The item that moves furthest, as `sam 5->1` (retrained to masked); empty if none moves."""
    from scipy import stats

    before, after = (stats.rankdata(-side, method="ordinal") for side in (ranked.retrained, ranked.masked))
    moved = int(np.abs(before - after).argmax())
    return "" if before[moved] == after[moved] else f"{ranked.items[moved]} {before[moved]}->{after[moved]}"


def reversal_p(ranked: Ranked) -> tuple[Array, list[tuple[str, str]]]:
    """Holm-corrected p, for every pair of items, that the two sides order it differently.

    A pair is reversed only if both sides' differences are non-zero with opposite signs, so its p is the
    larger of the two; pairs ordered alike have p = 1.
    """
    i, j = np.triu_indices(len(ranked.items), 1)
    before, after = ranked.retrained[i] - ranked.retrained[j], ranked.masked[i] - ranked.masked[j]
    p = np.maximum(
        two_sided_p(before, ranked.retrained_draws[:, i] - ranked.retrained_draws[:, j]),
        two_sided_p(after, ranked.masked_draws[:, i] - ranked.masked_draws[:, j]),
    )
    p = np.where(before * after < 0, p, np.where(np.isnan(p), np.nan, 1.0))
    return holm(p), [(ranked.items[a], ranked.items[b]) for a, b in zip(i, j, strict=True)]


def difference_table(lattices: LatticeSet) -> pd.DataFrame:
    """differences.csv: all pairs of subsets by score, of encoders by Necessity and Shapley value; overall.

    `p` is two-sided, from the spread of the resamples. `p_holm` corrects it over the pairs of one operator
    and measure.
    """
    tables = []
    for lattice in lattices.all:
        point, draws = lattice.point[0], lattice.draws[:, 0]
        known = np.flatnonzero(~np.isnan(point))
        names = [subset_name(int(k), lattice.pool) for k in known]
        families = [("score", names, point[known], draws[:, known])]
        for name, measure in (("necessity", necessity), ("shapley", shapley)):
            if name == "necessity" or not lattice.missing():
                families.append((name, list(lattice.pool), measure(point), measure(draws)))
        for name, items, value, drawn in families:
            table = _differences(items, value, drawn, lattices.confidence)
            table.insert(0, "operator", lattice.operator)
            table.insert(1, "measure", name)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _differences(items: list[str], value: Array, draws: Array, confidence: float) -> pd.DataFrame:
    i, j = np.triu_indices(len(items), 1)
    keep = ~np.isnan(value[i] - value[j])
    i, j = i[keep], j[keep]
    drawn = draws[:, i] - draws[:, j]
    low, high = percentile_interval(drawn, confidence)
    p = two_sided_p(value[i] - value[j], drawn)
    return pd.DataFrame(
        {
            "first": [items[k] for k in i],
            "second": [items[k] for k in j],
            "difference": value[i] - value[j],
            "low": low,
            "high": high,
            "p": p,
            "p_holm": holm(p),
        }
    )
