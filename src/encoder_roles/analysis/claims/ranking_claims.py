"""Claims 1a and 1b: does masking rank the encoders as retraining does, overall and in each group?"""

from __future__ import annotations

from typing import Any

import numpy as np

from encoder_roles.analysis.claims.claim import FAILS, HOLDS, OPEN, Claim, Evidence, Verdict, judged, untested
from encoder_roles.analysis.claims.findings import Findings
from encoder_roles.analysis.lattice import Lattice, LatticeSet
from encoder_roles.analysis.measures.rankings import comparisons, reversal_p

Row = dict[str, Any]


def rankings_differ(findings: Findings) -> Claim:
    """1a: encoder rankings from retraining and from masking differ: some pair is reversed beyond noise."""
    statement = "The ranking of encoders by Necessity differs between retraining and masking."
    masked = default_mask(findings.lattices)
    rows = _rows(findings, masked)
    if masked is None or "overall" not in rows:
        return untested("1a", statement, "no complete leave-one-out results on both sides")
    verdicts, reversed_ = {}, {}
    for level, row in rows.items():
        verdicts[level], reversed_[level] = _order_differs(findings, masked, row)
    row, overall = rows["overall"], reversed_.pop("overall")
    verdict = verdicts.pop("overall")
    note = f"Reversed beyond noise: {_listed(overall)}." if overall else "No pair is reversed beyond noise."
    in_groups = "; ".join(f"{_listed(pairs)} in {group}" for group, pairs in reversed_.items() if pairs)
    if rows.keys() > {"overall"}:
        note += (
            f" By group, reversed: {in_groups}." if in_groups else " Nor is one in any group." * (not overall)
        )
    return judged(
        "1a",
        statement,
        verdict,
        estimate=row["kendall_tau"],
        bounds=(row["kendall_low"], row["kendall_high"]),
        estimate_of="Kendall's τ",
        note=note,
        evidence=_evidence(row),
        to_decide=_closest_order(findings, masked),
        by_group=verdicts,
    )


def first_differs(findings: Findings) -> Claim:
    """1b: the first encoder of the two rankings differs."""
    statement = "The first encoder of the two rankings by Necessity differs."
    rows = _rows(findings, default_mask(findings.lattices))
    if "overall" not in rows or not len(findings.draws):
        return untested("1b", statement, "no complete leave-one-out results on both sides, or no intervals")
    share = {level: float(row["probability_first_differs"]) for level, row in rows.items()}
    row, overall = rows["overall"], share.pop("overall")
    note = f"The first is {row['first_retrained']} when retrained, {row['first_masked']} when masked."
    if share:
        parts = [
            f"{value:.0%} in {group} ({rows[group]['first_retrained']}, {rows[group]['first_masked']})"
            for group, value in share.items()
        ]
        note += f" By group it differs in {', '.join(parts)}."
    verdicts = {group: by_share(value, findings.alpha) for group, value in share.items()}
    return judged(
        "1b",
        statement,
        by_share(overall, findings.alpha),
        estimate=overall,
        estimate_of="share of resamples in which it differs",
        note=note,
        evidence=_evidence(row),
        to_decide=_first_and_second(findings, row),
        by_group=verdicts,
    )


def default_mask(lattices: LatticeSet) -> Lattice | None:
    """The lattice the masking claims are read from: the zero operator's, or the first there is."""
    return lattices.masked[0] if lattices.masked else None


def by_share(share: float, alpha: float) -> Verdict:
    """The verdict of an event that a share of the resamples shows; `alpha` is two-sided, as an interval's."""
    return HOLDS if share >= 1 - alpha / 2 else FAILS if share <= alpha / 2 else OPEN


def _rows(findings: Findings, masked: Lattice | None) -> dict[str, Row]:
    """The rows of encoders by Necessity: `overall`, then by group. Empty if not measured."""
    if masked is None:
        return {}
    table = findings.rankings
    table = table[(table["operator"] == masked.operator) & (table["measure"] == "necessity")]
    rows = [{str(column): value for column, value in row.items()} for _, row in table.iterrows()]
    return {"overall" if row["level"] == "overall" else str(row["group"]): row for row in rows}


def _level(findings: Findings, row: Row) -> int:
    """The place of a row's level in the lattices' arrays."""
    levels = findings.lattices.levels
    same = (levels["level"] == row["level"]) & (levels["group"] == row["group"])
    return int(np.flatnonzero(same)[0])


def _order_differs(findings: Findings, masked: Lattice, row: Row) -> tuple[Verdict, list[tuple[str, str]]]:
    """The verdict on one level's two rankings, and the pairs that are reversed beyond noise."""
    retrained = findings.lattices.retrained
    p, pairs = reversal_p(next(comparisons(retrained, masked, _level(findings, row))))
    reversed_ = [pair for pair, value in zip(pairs, p, strict=True) if value < findings.alpha]
    same = row["kendall_tau"] == 1 and not row["not_separable_retrained"] and not row["not_separable_masked"]
    return HOLDS if reversed_ else FAILS if same else OPEN, reversed_


def _closest_order(findings: Findings, masked: Lattice) -> str:
    """What would decide the claim: the widest reversal that is estimated, or else the closest neighbours."""
    ranked = next(comparisons(findings.lattices.retrained, masked, 0))
    n = len(ranked.items)
    i, j = np.triu_indices(n, 1)
    before, after = ranked.retrained[i] - ranked.retrained[j], ranked.masked[i] - ranked.masked[j]
    apart = np.minimum(np.abs(before), np.abs(after))
    reversed_ = before * after < 0
    order = np.where(reversed_, apart, -1) if reversed_.any() else -np.abs(before)
    pair = int(order.argmax())
    return _necessities_apart(findings, int(i[pair]), int(j[pair]), len(i))


def _first_and_second(findings: Findings, row: Row) -> str:
    """What would separate the first encoder from the next, when retrained."""
    order = [findings.lattices.pool.index(encoder) for encoder in row["ranking_retrained"].split(">")]
    return _necessities_apart(findings, order[0], order[1], 1)


def _necessities_apart(findings: Findings, first: int, second: int, comparisons: int) -> str:
    """What separates two encoders' Necessity: the difference of the full pool without either."""
    full = findings.lattices.retrained.full
    return findings.needed(full ^ (1 << second), full ^ (1 << first), comparisons=comparisons)


def _listed(pairs: list[tuple[str, str]]) -> str:
    return ", ".join(f"{first} and {second}" for first, second in pairs)


def _evidence(row: Row) -> Evidence:
    key = ("level", "group", "comparison", "measure", "operator")
    return Evidence("rankings.csv", {column: str(row[column]) for column in key})
