"""The claims under test, each with an estimate, an interval and a computed verdict: claims.json.

`holds` and `does not hold` each need an interval, or a corrected p, that excludes the other. Everything else
is `not separable at this sample size`. Every claim compares models that were trained apart. A study whose
noise between training seeds is not known therefore has estimates and no verdicts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd

from encoder_roles.analysis.claims.claim import (
    UNTESTED,
    Claim,
    Evidence,
    add_seed_note,
    by_interval,
    judged,
    points,
    untested,
    withhold,
)
from encoder_roles.analysis.claims.findings import Findings
from encoder_roles.analysis.claims.pair_claims import (
    anchored_pair_matches,
    best_pair_roles,
    capacity_pair_suboptimal,
    more_add_little,
    pair_beats_either,
)
from encoder_roles.analysis.claims.rank_claims import ranks_explain
from encoder_roles.analysis.claims.ranking_claims import first_differs, rankings_differ
from encoder_roles.analysis.lattice import subset_index
from encoder_roles.analysis.measures.pareto import points_per_doubling


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
    return claims if findings.seeds_known else withhold(claims)


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
    alone = subset_index(single, findings.lattices.pool)
    gain = float(findings.point[-1] - findings.point[alone])
    doublings = gain / estimate if estimate else 1.0
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
        to_decide=findings.needed(len(findings.point) - 1, alone, findings.margin * doublings),
    )


def _cost_ratios(costs: pd.DataFrame, full: str, single: str) -> list[str]:
    """How many times one subset costs what another does, in words, for each cost that both have."""
    words = {"parameters": "parameters", "flops": "training FLOPs"}
    prices = {word: costs[column].to_dict() for column, word in words.items() if column in costs.columns}
    return [
        f"{price[full] / price[single]:.2f} times the {word}"
        for word, price in prices.items()
        if price[single] > 0
    ]
