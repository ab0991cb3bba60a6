"""The claims under test, each with an estimate, an interval and a computed verdict: claims.json.

`holds` and `does not hold` each need an interval, or a corrected p, that excludes the other. Everything else
is `not separable at this sample size`. The best pair and the best chain are chosen on the same questions that
they are measured on. Such a claim is therefore compared with every candidate, under Holm's correction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from encoder_roles.analysis.claims.claim import (
    FAILS,
    HOLDS,
    OPEN,
    UNTESTED,
    Claim,
    Evidence,
    Verdict,
    add_seed_note,
    by_interval,
    judged,
    points,
    seed_note,
    untested,
)
from encoder_roles.analysis.lattice import (
    Lattice,
    LatticeSet,
    all_present,
    of_size,
    singles,
    subset_index,
    subset_name,
)
from encoder_roles.analysis.measures.chains import best_chain
from encoder_roles.analysis.measures.pairs import Pairs, Ranks
from encoder_roles.analysis.measures.pareto import points_per_doubling
from encoder_roles.analysis.measures.rankings import comparisons, reversal_p
from encoder_roles.analysis.statistics import Array, holm, two_sided_p
from encoder_roles.study.stages import RoleStage


@dataclass(frozen=True)
class Findings:
    """The tables and arrays that the claims are read from."""

    settings: RoleStage
    lattices: LatticeSet
    pairs: Pairs
    ranks: Ranks
    costs: pd.DataFrame
    rankings: pd.DataFrame
    regression: pd.DataFrame

    @property
    def point(self) -> Array:
        """Overall retrained scores, (2^n,)."""
        point: Array = self.lattices.retrained.point[0]
        return point

    @property
    def draws(self) -> Array:
        """Their resamples, (resamples, 2^n)."""
        draws: Array = self.lattices.retrained.draws[:, 0]
        return draws

    @property
    def ranks_known(self) -> bool:
        """Whether any rank ratio was given."""
        return not np.isnan(self.ranks.ratio).all()

    @property
    def alpha(self) -> float:
        """1 - the confidence level: a difference is one whose corrected p lies below it."""
        return 1 - self.settings.statistics.level

    @property
    def margin(self) -> float:
        """Points below which a difference counts as little."""
        return self.settings.statistics.margin

    @property
    def seed_note(self) -> str:
        """What the intervals say about the noise between training seeds."""
        stated = self.settings.statistics.seed_deviation
        return self.lattices.interval_note or seed_note(self.lattices.seeds, stated)

    def name(self, index: int) -> str:
        """The name of a subset, `clip+sam`."""
        return subset_name(index, self.lattices.pool)

    def bounds(self, draws: Array) -> tuple[float, float]:
        """The interval of one number's resamples, (resamples,)."""
        low, high = self.lattices.bounds(draws)
        return float(low), float(high)


def judge_claims(findings: Findings) -> list[Claim]:
    """Every claim in the order of the study's text; a claim without data says why it was not tested."""
    tests: list[Callable[[Findings], Claim]] = [
        *(rankings_differ, first_differs, capacity_pair_suboptimal, anchored_pair_matches, more_add_little),
        *(ranks_explain, best_pair_roles, pair_beats_either),
    ]
    claims = [test(findings) for test in tests]
    levels = "Fusing a low and a high layer of each encoder beats the last layer alone."
    connectors = "Simple connectors suffice against cross-attention or a resampler."
    claims += [
        untested("4b", levels, "one layer each"),
        untested("5", connectors, "one connector"),
        untested("6", "Trained encoders score higher than frozen ones.", "one way of training"),
        gain_is_worth_it(findings),
    ]
    claims = add_seed_note(claims, findings.seed_note)
    if not len(findings.draws):  # an estimate without an interval decides nothing
        claims = [replace(claim, verdict=UNTESTED) for claim in claims]
    return claims


def rankings_differ(findings: Findings) -> Claim:
    """1a: encoder rankings from retraining and from masking differ: some pair is reversed beyond noise."""
    statement = "The ranking of encoders by Necessity differs between retraining and masking."
    masked = default_mask(findings.lattices)
    row = None if masked is None else _ranking_row(findings, masked.operator)
    if masked is None or row is None:
        return untested("1a", statement, "no complete leave-one-out results on both sides")
    p, pairs = reversal_p(next(comparisons(findings.lattices.retrained, masked, 0)))
    reversed_ = [pair for pair, value in zip(pairs, p, strict=True) if value < findings.alpha]
    same = row["kendall_tau"] == 1 and not row["not_separable_retrained"] and not row["not_separable_masked"]
    listed = ", ".join(f"{first} and {second}" for first, second in reversed_)
    return judged(
        "1a",
        statement,
        HOLDS if reversed_ else FAILS if same else OPEN,
        estimate=row["kendall_tau"],
        bounds=(row["kendall_low"], row["kendall_high"]),
        estimate_of="Kendall's τ",
        note=f"Reversed beyond noise: {listed}." if reversed_ else "No pair is reversed beyond noise.",
        evidence=_ranking_evidence(row),
    )


def first_differs(findings: Findings) -> Claim:
    """1b: the first encoder of the two rankings differs."""
    statement = "The first encoder of the two rankings by Necessity differs."
    masked = default_mask(findings.lattices)
    row = None if masked is None else _ranking_row(findings, masked.operator)
    if row is None or not len(findings.draws):
        return untested("1b", statement, "no complete leave-one-out results on both sides, or no intervals")
    share = float(row["probability_first_differs"])
    first, first_masked = row["first_retrained"], row["first_masked"]
    return judged(
        "1b",
        statement,
        _by_share(share, findings.alpha),
        estimate=share,
        estimate_of="share of resamples in which it differs",
        note=f"The first is {first} when retrained, {first_masked} when masked.",
        evidence=_ranking_evidence(row),
    )


def capacity_pair_suboptimal(findings: Findings) -> Claim:
    """2a: some pair beats the pair of the two highest-Capacity encoders."""
    statement = "The pair of the two encoders with the highest Capacity is not the best pair."
    n, point, draws = len(findings.lattices.pool), findings.point, findings.draws
    if n < 3 or not all_present(point[None], [*singles(n), *of_size(2, n)]):
        return untested("2a", statement, "not all singles and pairs, or too few encoders")
    top = sum(sorted(singles(n), key=lambda i: -float(point[i]))[:2])
    others = [i for i in of_size(2, n) if i != top]
    best = max(others, key=lambda i: float(point[i]))
    ahead, ahead_draws = point[others] - point[top], draws[:, others] - draws[:, [top]]
    sure = holm(two_sided_p(ahead, ahead_draws)) < findings.alpha
    beaten, beats_all = ((ahead > 0) & sure).any(), ((ahead < 0) & sure).all()
    leads = f"points by which the best other pair, {findings.name(best)}, is ahead of {findings.name(top)}"
    return judged(
        "2a",
        statement,
        HOLDS if beaten else FAILS if beats_all else OPEN,
        estimate=float(point[best] - point[top]),
        bounds=findings.bounds(draws[:, best] - draws[:, top]),
        estimate_of=leads,
        note="The verdict compares with all pairs under Holm's correction.",
        evidence=_pair_evidence(findings, top),
    )


def anchored_pair_matches(findings: Findings) -> Claim:
    """2b: a pair with an anchor and a complement matches the full pool, within the margin."""
    statement = "A pair of an anchor and a complement matches the full pool."
    pairs, n = findings.pairs, len(findings.lattices.pool)
    if n < 3 or not pairs.roled.any() or np.isnan(findings.point[-1]):
        reason = "no pair with both an anchor and a complement"
        if np.isnan(findings.point[-1]) or not findings.ranks_known:
            reason = "no effective ranks, or no model of the full pool"
        return untested("2b", statement, reason)
    best = int(max(pairs.index[pairs.roled], key=lambda i: float(findings.point[i])))
    bounds = findings.bounds(findings.draws[:, best] - findings.draws[:, -1])
    return judged(
        "2b",
        statement,
        by_interval(*bounds, -findings.margin),
        estimate=float(findings.point[best] - findings.point[-1]),
        bounds=bounds,
        estimate_of=f"v({findings.name(best)}) minus v(full pool), in points",
        note=f"It matches if it is at most {findings.margin:g} behind.",
        evidence=_pair_evidence(findings, best),
    )


def more_add_little(findings: Findings) -> Claim:
    """2c: beyond the pair of the best chain, an encoder adds less than the margin on average."""
    statement = "Encoders beyond the best pair add little."
    n = len(findings.lattices.pool)
    if n < 3 or not all_present(findings.point[None], range(1, 2**n)):
        return untested("2c", statement, "an incomplete lattice or too few encoders")
    pair = best_chain(findings.point)[1]
    low, high = findings.bounds((findings.draws[:, -1] - findings.draws[:, pair]) / (n - 2))
    added = f"mean points per encoder added to {findings.name(pair)}, the pair of the best chain"
    return judged(
        "2c",
        statement,
        HOLDS if high < findings.margin else FAILS if low > findings.margin else OPEN,
        estimate=float(findings.point[-1] - findings.point[pair]) / (n - 2),
        bounds=(low, high),
        estimate_of=added,
        note=f"Little is less than {findings.margin:g}.",
        evidence=Evidence("chains.csv", {"kind": "best_chain", "size": 3}),
    )


def ranks_explain(findings: Findings) -> Claim:
    """3a: rank terms explain the score's residual at a fixed parameter count, within and across sizes."""
    statement = "At a fixed parameter count, effective rank explains the residual of the score."
    table = findings.regression.drop_duplicates("model").set_index("model").to_dict("index")
    names = ("ranks", "ranks_within_size")
    if not all(name in table for name in names):
        return untested("3a", statement, "too few subsets with ranks and costs for this regression")
    passed, failed = [], []
    for name in names:
        row, control = table[name], table[name.replace("ranks", "random")]
        ahead, p = row["r2_leave_one_out"], row["permutation_p"]
        passed.append(ahead > control["r2_leave_one_out_high"] and ahead > 0 and p < findings.alpha)
        failed.append(ahead <= 0 or p >= findings.alpha)
    row, control = table["ranks"], table["random"]
    note = (
        f"In-sample R² {row['r2']:.2f}, with random numbers instead of ranks {control['r2']:.2f} (up to "
        f"{control['r2_high']:.2f}); permutation p {row['permutation_p']:.3f}, within subset sizes "
        f"{table[names[1]]['permutation_p']:.3f}; p of exchanging the encoders' names "
        f"{row['relabel_p']:.3f}. It holds only if both regressions pass."
    )
    return judged(
        "3a",
        statement,
        HOLDS if all(passed) else FAILS if all(failed) else OPEN,
        estimate=row["r2_leave_one_out"],
        bounds=(row["r2_leave_one_out_low"], row["r2_leave_one_out_high"]),
        estimate_of="leave-one-out R² of the residual",
        note=note,
        evidence=Evidence("rank_regression.csv", {"model": "ranks"}),
    )


def best_pair_roles(findings: Findings) -> Claim:
    """3b: the best pair joins an anchor whose rank survives with a complement whose rank expands."""
    statement = "The best pair joins an anchor whose rank survives with a complement whose rank expands."
    n, pairs = len(findings.lattices.pool), findings.pairs
    if n < 3 or len(pairs.index) < len(of_size(2, n)) or not len(findings.draws):
        return untested("3b", statement, "not all pairs, too few encoders, or no intervals")
    if not findings.ranks_known:
        return untested("3b", statement, "no effective ranks")
    best_draws = findings.draws[:, pairs.index].argmax(-1)
    share = float(np.take_along_axis(pairs.roled_draws, best_draws[:, None], axis=1).mean())
    best = int(findings.point[pairs.index].argmax())
    pair = int(pairs.index[best])
    note = (
        f"{int(pairs.roled.sum())} of {len(pairs.index)} pairs have them; the best pair, "
        f"{findings.name(pair)}, {'has' if pairs.roled[best] else 'has not'}."
    )
    return judged(
        "3b",
        statement,
        _by_share(share, findings.alpha),
        estimate=share,
        estimate_of="share of resamples (of scores and rank ratios) in which the best pair has both roles",
        note=note,
        evidence=_pair_evidence(findings, pair),
    )


def pair_beats_either(findings: Findings) -> Claim:
    """4a: CLIP with DINOv2 (or, where the pool lacks them, the best pair) beats either of the two alone."""
    pool, point, draws = findings.lattices.pool, findings.point, findings.draws
    n = len(pool)
    named = {"clip", "dinov2"} <= set(pool)
    measured = [i for i in of_size(2, n) if not np.isnan(point[i])]
    if not measured or not all_present(point[None], singles(n)):
        return untested("4a", "A pair of encoders beats either alone.", "no pair with both its singles")
    pair = max(measured, key=lambda i: float(point[i]))
    if named:
        pair = sum(1 << pool.index(e) for e in ("clip", "dinov2"))
    if pair not in measured:
        return untested("4a", "The pair clip+dinov2 beats either alone.", "no model of clip+dinov2")
    alone = [bit for bit in singles(n) if pair & bit]
    bounds = findings.bounds(draws[:, pair] - draws[:, alone].max(-1))
    stand_in = "The pool has no clip+dinov2; the best pair stands for it, chosen on the same questions."
    return judged(
        "4a",
        f"The pair {findings.name(pair)} beats either encoder alone.",
        by_interval(*bounds, 0.0),
        estimate=float(point[pair] - point[alone].max()),
        bounds=bounds,
        estimate_of="points above the better of the two",
        note="" if named else stand_in,
        evidence=_pair_evidence(findings, pair),
    )


def gain_is_worth_it(findings: Findings) -> Claim:
    """7: what all encoders gain over the best one, per doubling of the parameters, against the margin."""
    statement = (
        f"All encoders together gain at least {points(findings.margin)} per doubling of the model over the "
        "best single encoder."
    )
    gained = points_per_doubling(findings.lattices, findings.costs, "parameters")
    if gained is None:
        return untested("7", statement, "no costs or scores of both, or a full pool that is not larger")
    single, estimate, draws = gained
    bounds, full = findings.bounds(draws), findings.name(len(findings.point) - 1)
    gain = float(findings.point[-1] - findings.point[subset_index(single, findings.lattices.pool)])
    ratios = _cost_ratios(findings.costs, full, single)
    return judged(
        "7",
        statement,
        by_interval(*bounds, findings.margin),
        estimate=estimate,
        bounds=bounds,
        estimate_of="points per doubling of parameters",
        note=f"The full pool gains {gain:.2f} points over {single} at {', '.join(ratios)}.",
        evidence=Evidence("pareto.csv", {"subset": full}),
    )


def default_mask(lattices: LatticeSet) -> Lattice | None:
    """The lattice the masking claims are read from: the zero operator's, or the first there is."""
    return lattices.masked[0] if lattices.masked else None


def _by_share(share: float, alpha: float) -> Verdict:
    """The verdict of an event that a share of the resamples shows."""
    return HOLDS if share >= 1 - alpha else FAILS if share <= alpha else OPEN


def _cost_ratios(costs: pd.DataFrame, full: str, single: str) -> list[str]:
    """How many times one subset costs what another does, in words, for each cost that both have."""
    words = {"parameters": "parameters", "flops": "training FLOPs"}
    prices = {word: costs[column].to_dict() for column, word in words.items() if column in costs.columns}
    return [
        f"{price[full] / price[single]:.2f} times the {word}"
        for word, price in prices.items()
        if price[single] > 0
    ]


def _ranking_row(findings: Findings, operator: str) -> dict[str, Any] | None:
    """The overall row of encoders by Necessity, which `comparisons` yields first; None if not measured."""
    rows = findings.rankings[findings.rankings["operator"] == operator]
    rows = rows[(rows["level"] == "overall") & (rows["measure"] == "necessity")]
    return None if rows.empty else {str(column): value for column, value in rows.iloc[0].items()}


def _ranking_evidence(row: dict[str, Any]) -> Evidence:
    key = ("level", "group", "comparison", "measure", "operator")
    return Evidence("rankings.csv", {column: str(row[column]) for column in key})


def _pair_evidence(findings: Findings, pair: int) -> Evidence:
    first, second = findings.name(pair).split("+")
    return Evidence("pairs.csv", {"first": first, "second": second})
