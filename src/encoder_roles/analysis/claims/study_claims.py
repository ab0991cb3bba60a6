"""The claims under test, each with an estimate, an interval and a computed verdict: claims.json.

A verdict never needs more than the tables say: `holds` and `does not hold` both need an interval (or a
corrected p) that excludes the other, and everything between is `not separable at this sample size`. Choices
made on the same questions (the best pair, the best chain) are guarded by comparing with every candidate under
Holm's correction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from encoder_roles.analysis.lattice import (
    Lattice,
    Lattices,
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

HOLDS = "holds"
FAILS = "does not hold"
OPEN = "not separable at this sample size"
UNTESTED = "not tested in this study"

Claim = dict[str, Any]


@dataclass(frozen=True)
class Findings:
    """All that the claims are read from."""

    settings: RoleStage
    lattices: Lattices
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
        """1 - the confidence level: below it a corrected p is taken as a difference."""
        return 1 - self.settings.statistics.level

    @property
    def margin(self) -> float:
        """Points below which a difference counts as little."""
        return self.settings.statistics.margin

    def name(self, index: int) -> str:
        return subset_name(index, self.lattices.pool)

    def interval(self, draws: Array) -> tuple[float, float]:
        low, high = self.lattices.interval(draws)
        return float(low), float(high)


def judge_claims(study: Findings) -> list[Claim]:
    """Every claim in the order of the study's text; what has no data is there with its verdict and the
    reason.
    """
    note = seed_note(study)
    tests: list[Callable[[Findings], Claim]] = [
        *(rankings_differ, first_differs, capacity_pair_suboptimal, anchored_pair_matches, more_add_little),
        *(ranks_explain, best_pair_roles, pair_beats_either),
    ]
    claims = [test(study) for test in tests]
    claims += [
        untested(
            "4b",
            "Fusing a low and a high layer of each encoder beats the last layer alone.",
            "one layer each",
        ),
        untested("5", "Simple connectors suffice against cross-attention or a resampler.", "one connector"),
        untested("6", "Trained encoders score higher than frozen ones.", "one way of training"),
        gain_is_worth_it(study),
    ]
    if not len(study.draws):  # an estimate without an interval decides nothing
        judged = {"verdict": UNTESTED}
        claims = [
            c if c["verdict"] == UNTESTED else c | judged | {"note": f"{c['note']} {note}"} for c in claims
        ]
    return [c if c["verdict"] == UNTESTED else c | {"note": f"{c['note']} {note}".strip()} for c in claims]


def seed_note(study: Findings) -> str:
    """What the intervals say about the noise of training seeds, in words."""
    if study.lattices.intervals is not None:
        return study.lattices.intervals
    stated = study.settings.statistics.seed_deviation
    if stated is not None:
        return f"Intervals include a stated seed deviation of {stated:g} points."
    if study.lattices.seeds == 1:
        return (
            "One training seed: intervals hold for these checkpoints; the noise between seeds is not in "
            "them, so differences of about a point may not survive retraining."
        )
    return f"Intervals include the noise between {study.lattices.seeds} training seeds."


def claim_of(
    number: str,
    statement: str,
    estimate: float | None,
    bounds: tuple[float | None, float | None],
    verdict: str,
    evidence: Mapping[str, Any],
    note: str = "",
) -> Claim:
    """One entry of claims.json; numbers rounded to what they can carry."""
    rounded = [None if v is None or np.isnan(v) else round(float(v), 4) for v in (estimate, *bounds)]
    found: Claim = {"claim": number, "statement": statement, "verdict": verdict, "note": note}
    return found | {
        "estimate": rounded[0],
        "low": rounded[1],
        "high": rounded[2],
        "evidence": dict(evidence),
    }


def untested(number: str, statement: str, reason: str) -> Claim:
    """A claim the study has no data for."""
    return claim_of(
        number, statement, None, (None, None), UNTESTED, {}, f"Not tested: the study has {reason}."
    )


def by_interval(low: float, high: float, threshold: float) -> str:
    """Holds above the threshold, does not hold below it, open where the interval contains it or is NaN."""
    return HOLDS if low > threshold else FAILS if high < threshold else OPEN


def default_mask(lattices: Lattices) -> Lattice | None:
    """The lattice the masking claims are read from: the zero operator's, or the first there is."""
    return lattices.masked[0] if lattices.masked else None


def rankings_differ(study: Findings) -> Claim:
    """1a: encoder rankings from retraining and from masking differ: some pair is reversed beyond noise."""
    statement = "The ranking of encoders by Necessity differs between retraining and masking."
    masked = default_mask(study.lattices)
    row = None if masked is None else _ranking_row(study, masked.operator)
    if masked is None or row is None:
        return untested("1a", statement, "no complete leave-one-out results on both sides")
    p, pairs = reversal_p(next(comparisons(study.lattices.retrained, masked, 0)))
    reversed_ = [pair for pair, value in zip(pairs, p, strict=True) if value < study.alpha]
    same = row["kendall_tau"] == 1 and not row["not_separable_retrained"] and not row["not_separable_masked"]
    verdict = HOLDS if reversed_ else FAILS if same else OPEN
    listed = ", ".join(f"{a} and {b}" for a, b in reversed_)
    note = f"Reversed beyond noise: {listed}." if reversed_ else "No pair is reversed beyond noise."
    evidence = {
        "file": "rankings.csv",
        "row": _key(row, ("level", "group", "comparison", "measure", "operator")),
    }
    bounds = (row["kendall_low"], row["kendall_high"])
    return claim_of(
        "1a", statement, row["kendall_tau"], bounds, verdict, evidence, f"Estimate: Kendall's τ. {note}"
    )


def first_differs(study: Findings) -> Claim:
    """1b: the first encoder of the two rankings differs."""
    statement = "The first encoder of the two rankings by Necessity differs."
    masked = default_mask(study.lattices)
    row = None if masked is None else _ranking_row(study, masked.operator)
    if row is None or not len(study.draws):
        return untested("1b", statement, "no complete leave-one-out results on both sides, or no intervals")
    share = float(row["probability_first_differs"])
    verdict = HOLDS if share >= 1 - study.alpha else FAILS if share <= study.alpha else OPEN
    note = (
        f"Estimate: share of resamples in which it differs; {row['first_retrained']} is first when "
        f"retrained, {row['first_masked']} when masked."
    )
    evidence = {
        "file": "rankings.csv",
        "row": _key(row, ("level", "group", "comparison", "measure", "operator")),
    }
    return claim_of("1b", statement, share, (None, None), verdict, evidence, note)


def capacity_pair_suboptimal(study: Findings) -> Claim:
    """2a: some pair beats the pair of the two highest-Capacity encoders."""
    statement = "The pair of the two encoders with the highest Capacity is not the best pair."
    n, point, draws = len(study.lattices.pool), study.point, study.draws
    if n < 3 or not all_present(point[None], [*singles(n), *of_size(2, n)]):
        return untested("2a", statement, "not all singles and pairs, or too few encoders")
    top = sum(sorted(singles(n), key=lambda i: -float(point[i]))[:2])
    others = [i for i in of_size(2, n) if i != top]
    best = max(others, key=lambda i: float(point[i]))
    ahead, ahead_draws = point[others] - point[top], draws[:, others] - draws[:, [top]]
    p = holm(two_sided_p(ahead, ahead_draws))
    beaten, beats_all = (
        bool(((ahead > 0) & (p < study.alpha)).any()),
        bool(((ahead < 0) & (p < study.alpha)).all()),
    )
    verdict = HOLDS if beaten else FAILS if beats_all else OPEN
    note = (
        f"Estimate: points by which the best other pair, {study.name(best)}, is ahead of {study.name(top)}; "
        "the verdict compares with all pairs under Holm's correction."
    )
    bounds = study.interval(draws[:, best] - draws[:, top])
    evidence = _pair_evidence(study, top)
    return claim_of("2a", statement, float(point[best] - point[top]), bounds, verdict, evidence, note)


def anchored_pair_matches(study: Findings) -> Claim:
    """2b: a pair with an anchor and a complement matches the full pool, within the margin."""
    statement = "A pair of an anchor and a complement matches the full pool."
    pairs, n = study.pairs, len(study.lattices.pool)
    if n < 3 or not pairs.roled.any() or np.isnan(study.point[-1]):
        reason = "no pair with both an anchor and a complement"
        if np.isnan(study.point[-1]) or not study.ranks_known:
            reason = "no effective ranks, or no model of the full pool"
        return untested("2b", statement, reason)
    best = int(max(pairs.index[pairs.roled], key=lambda i: float(study.point[i])))
    bounds = study.interval(study.draws[:, best] - study.draws[:, -1])
    verdict = by_interval(*bounds, -study.margin)
    note = (
        f"Estimate: v({study.name(best)}) minus v(full pool), in points; it matches if it is not more than "
        f"{study.margin:g} behind."
    )
    estimate = float(study.point[best] - study.point[-1])
    return claim_of("2b", statement, estimate, bounds, verdict, _pair_evidence(study, best), note)


def more_add_little(study: Findings) -> Claim:
    """2c: beyond the pair of the best chain, an encoder adds less than the margin on average."""
    statement = "Encoders beyond the best pair add little."
    n = len(study.lattices.pool)
    if n < 3 or not all_present(study.point[None], range(1, 2**n)):
        return untested("2c", statement, "an incomplete lattice or too few encoders")
    pair = best_chain(study.point)[1]
    bounds = study.interval((study.draws[:, -1] - study.draws[:, pair]) / (n - 2))
    verdict = HOLDS if bounds[1] < study.margin else FAILS if bounds[0] > study.margin else OPEN
    note = (
        f"Estimate: mean points per encoder added to {study.name(pair)}, the pair of the best chain; little "
        f"is less than {study.margin:g}."
    )
    evidence = {"file": "chains.csv", "row": {"kind": "best_chain", "size": 3}}
    estimate = float(study.point[-1] - study.point[pair]) / (n - 2)
    return claim_of("2c", statement, estimate, bounds, verdict, evidence, note)


def ranks_explain(study: Findings) -> Claim:
    """3a: rank terms explain the score's residual at a fixed parameter count, within and across sizes."""
    statement = "At a fixed parameter count, effective rank explains the residual of the score."
    table = study.regression.drop_duplicates("model").set_index("model").to_dict("index")
    names = ("ranks", "ranks_within_size")
    if not all(name in table for name in names):
        return untested("3a", statement, "too few subsets with ranks and costs for this regression")
    passed, failed = [], []
    for name in names:
        row, control = table[name], table[name.replace("ranks", "random")]
        ahead, p = row["r2_leave_one_out"], row["permutation_p"]
        passed.append(ahead > control["r2_leave_one_out_high"] and ahead > 0 and p < study.alpha)
        failed.append(ahead <= 0 or p >= study.alpha)
    verdict = HOLDS if all(passed) else FAILS if all(failed) else OPEN
    row, control = table["ranks"], table["random"]
    note = (
        f"Estimate: leave-one-out R² of the residual. In-sample R² {row['r2']:.2f}, with random numbers "
        f"instead of ranks {control['r2']:.2f} (up to {control['r2_high']:.2f}); permutation p "
        f"{row['permutation_p']:.3f}, within subset sizes {table[names[1]]['permutation_p']:.3f}; p of "
        f"exchanging the encoders' names {row['relabel_p']:.3f}. It holds only if both regressions pass."
    )
    bounds = (row["r2_leave_one_out_low"], row["r2_leave_one_out_high"])
    evidence = {"file": "rank_regression.csv", "row": {"model": "ranks"}}
    return claim_of("3a", statement, row["r2_leave_one_out"], bounds, verdict, evidence, note)


def best_pair_roles(study: Findings) -> Claim:
    """3b: the best pair joins an anchor whose rank survives with a complement whose rank expands."""
    statement = "The best pair joins an anchor whose rank survives with a complement whose rank expands."
    n, pairs = len(study.lattices.pool), study.pairs
    if n < 3 or len(pairs.index) < len(of_size(2, n)) or not len(study.draws):
        return untested("3b", statement, "not all pairs, too few encoders, or no intervals")
    if not study.ranks_known:
        return untested("3b", statement, "no effective ranks")
    best = study.draws[:, pairs.index].argmax(-1)
    share = float(np.take_along_axis(pairs.roled_draws, best[:, None], axis=1).mean())
    verdict = HOLDS if share >= 1 - study.alpha else FAILS if share <= study.alpha else OPEN
    first = int(study.point[pairs.index].argmax())
    note = (
        "Estimate: share of resamples (of scores and rank ratios) in which the best pair has both roles; "
        f"{int(pairs.roled.sum())} of {len(pairs.index)} pairs have them, the best pair, "
        f"{study.name(int(pairs.index[first]))}, {'has' if pairs.roled[first] else 'has not'}."
    )
    evidence = _pair_evidence(study, int(pairs.index[first]))
    return claim_of("3b", statement, share, (None, None), verdict, evidence, note)


def pair_beats_either(study: Findings) -> Claim:
    """4a: CLIP with DINOv2 (or, where the pool lacks them, the best pair) beats either of the two alone."""
    pool, point, draws = study.lattices.pool, study.point, study.draws
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
    bounds = study.interval(draws[:, pair] - draws[:, alone].max(-1))
    note = "Estimate: points above the better of the two."
    if not named:
        note += " The pool has no clip+dinov2; the best pair stands for it, chosen on the same questions."
    estimate = float(point[pair] - point[alone].max())
    statement = f"The pair {study.name(pair)} beats either encoder alone."
    evidence = _pair_evidence(study, pair)
    return claim_of("4a", statement, estimate, bounds, by_interval(*bounds, 0.0), evidence, note)


def gain_is_worth_it(study: Findings) -> Claim:
    """7: what all encoders together gain over the best one, per doubling of the parameters."""
    statement = (
        "All encoders together gain at least a point per doubling of the model over the best single encoder."
    )
    found = points_per_doubling(study.lattices, study.costs, "parameters")
    if found is None:
        return untested("7", statement, "no costs or scores of both, or a full pool that is not larger")
    single, estimate, draws = found
    bounds = study.interval(draws)
    full = study.name(len(study.point) - 1)
    ratios = [
        f"{float(study.costs[c].to_dict()[full] / study.costs[c].to_dict()[single]):.2f} times the {word}"
        for c, word in (("parameters", "parameters"), ("flops", "training FLOPs"))
        if c in study.costs.columns and study.costs[c].to_dict()[single] > 0
    ]
    gain = float(study.point[-1] - study.point[subset_index(single, study.lattices.pool)])
    note = (
        f"Estimate: points per doubling of parameters. The full pool gains {gain:.2f} points over {single} "
        f"at {', '.join(ratios)}."
    )
    evidence = {"file": "pareto.csv", "row": {"subset": full}}
    return claim_of("7", statement, estimate, bounds, by_interval(*bounds, 1.0), evidence, note)


def _ranking_row(study: Findings, operator: str) -> dict[str, Any] | None:
    """The overall row of encoders by Necessity, which `comparisons` yields first; None if not measured."""
    rows = study.rankings[study.rankings["operator"] == operator]
    rows = rows[(rows["level"] == "overall") & (rows["measure"] == "necessity")]
    return None if rows.empty else {str(column): value for column, value in rows.iloc[0].items()}


def _key(row: Mapping[str, Any], columns: tuple[str, ...]) -> dict[str, str]:
    return {column: str(row[column]) for column in columns}


def _pair_evidence(study: Findings, pair: int) -> dict[str, Any]:
    first, second = study.name(pair).split("+")
    return {"file": "pairs.csv", "row": {"first": first, "second": second}}
