"""Claim 3a: does effective rank explain what parameters leave of the score?"""

from __future__ import annotations

from typing import Any

import numpy as np

from encoder_roles.analysis.claims.claim import FAILS, HOLDS, OPEN, Claim, Evidence, judged, untested
from encoder_roles.analysis.claims.findings import Findings
from encoder_roles.analysis.measures.rank_regression import MODELS, TERMS

Row = dict[str, Any]
_WITHIN = "ranks_within_size"


def ranks_explain(findings: Findings) -> Claim:
    """3a: within subset sizes, rank terms explain the residual of the score: more rank, a higher score.

    Holds if three tests agree: exchanging the encoders' names (`relabel_p`), random numbers per encoder
    (`random_p`), and the sign. Fails if exchanged names explain as much, or if the sign is against it.
    """
    statement = "At a fixed parameter count, effective rank explains the residual of the score."
    rows = findings.regression.drop_duplicates("model").set_index("model").to_dict("index")
    table = {str(name): {str(column): value for column, value in row.items()} for name, row in rows.items()}
    singles = [f"{name}_within_size" for name in MODELS if name in TERMS]
    if not all(name in table for name in ("ranks", _WITHIN, *singles)):
        return untested("3a", statement, "too few subsets with ranks and costs for this regression")
    row = table[_WITHIN]
    # names of many encoders are not enumerated: shuffles over subsets of a size stand in
    p = row["permutation_p"] if np.isnan(row["relabel_p"]) else row["relabel_p"]
    sign = _sign([table[name] for name in singles])
    explains = p < findings.alpha and row["random_p"] < 0.05
    fails = p >= findings.alpha or sign < 0
    return judged(
        "3a",
        statement,
        HOLDS if explains and sign > 0 else FAILS if fails else OPEN,
        estimate=row["r2_leave_one_out"],
        bounds=(row["r2_leave_one_out_low"], row["r2_leave_one_out_high"]),
        estimate_of="leave-one-out R² of the residual, within subset sizes",
        note=_note(table, sign),
        evidence=Evidence("rank_regression.csv", {"model": _WITHIN}),
        to_decide=_encoders_needed(findings),
    )


def _sign(singles: list[Row]) -> int:
    """1 if the strongest single term rises with the score and none falls, -1 if it falls, else 0."""
    strongest = max(singles, key=lambda row: abs(np.nan_to_num(row["partial_correlation"])))
    if strongest["high"] < 0:
        return -1
    return int(strongest["low"] > 0 and not any(row["high"] < 0 for row in singles))


def _note(table: dict[str, Row], sign: int) -> str:
    """The tests, the single terms within sizes, and what ranks add to the strong baseline."""
    row, across = table[_WITHIN], table["ranks"]
    terms = ", ".join(
        f"{term.replace('_', ' ')} {single['coefficient']:+.2f} [{single['low']:.2f}, {single['high']:.2f}], "
        f"r {single['partial_correlation']:+.2f}"
        for term in TERMS
        if (single := table[f"{term}_within_size"])
    )
    words = {1: "as the claim says", 0: "not clear", -1: "against the claim"}
    note = (
        f"Within sizes R² is {row['r2']:.2f}; p of exchanging the encoders' names "
        f"{_p(row['relabel_p'])} (across sizes {_p(across['relabel_p'])}); random numbers per encoder "
        f"reach it in {row['random_p']:.0%} of draws (across sizes {across['random_p']:.0%}). "
        f"Single terms: {terms}; the sign is {words[sign]}."
    )
    if "encoders" in table:
        added = table["ranks_over_encoders"]["r2"]
        note += f" Log parameters with an indicator per encoder have R² {table['encoders']['r2']:.3f}; "
        note += f"rank terms add {added:.3f}."
    return note


def _p(value: float) -> str:
    return "not computed" if np.isnan(value) else f"{value:.3f}"


def _encoders_needed(findings: Findings) -> str:
    """Whether seeds, questions or encoders would decide: the share of noise in the residual within sizes."""
    known = np.flatnonzero(~np.isnan(findings.point))
    known = known[known > 0]
    sizes = np.array([int(i).bit_count() for i in known])
    residual = findings.point[known].copy()
    for size in set(sizes.tolist()):
        residual[sizes == size] -= residual[sizes == size].mean()
    if not findings.seeds_known or not len(findings.draws) or not residual.any():
        return ""
    share = min(1.0, float(findings.draws[:, known].var(0).mean() / residual.var()))
    if share < 0.2:
        return (
            f"Noise is {share:.0%} of the variance within sizes: more seeds and questions would change "
            "little; more encoders would, because exchanged names give a finer p."
        )
    seeds = int(np.ceil(findings.lattices.seeds * share / 0.1))
    return f"Noise is {share:.0%} of the variance within sizes: about {seeds} seeds would bring it below 10%."
