"""Claims 2a to 2c, 3b and 4a: pairs of encoders, their roles, and what further encoders add.

The best pair and the best larger subset are chosen on the same questions that they are measured on. A verdict
is therefore corrected over every candidate that could have been chosen.
"""

from __future__ import annotations

import numpy as np

from encoder_roles.analysis.claims.claim import (
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    Evidence,
    by_interval,
    judged,
    points,
    untested,
)
from encoder_roles.analysis.claims.findings import Findings
from encoder_roles.analysis.claims.power import sigmas
from encoder_roles.analysis.claims.ranking_claims import by_share
from encoder_roles.analysis.lattice import all_present, of_size, singles
from encoder_roles.analysis.measures.chains import best_larger, best_pair, steps_beyond
from encoder_roles.analysis.statistics import Array, holm, two_sided_p


def capacity_pair_suboptimal(findings: Findings) -> Claim:
    """2a: some pair beats the pair of the two highest-Capacity encoders.

    Where noise leaves open which pair that is, each pair that can be it has to be beaten.
    """
    statement = "The pair of the two encoders with the highest Capacity is not the best pair."
    n, point, draws = len(findings.lattices.pool), findings.point, findings.draws
    if n < 3 or not all_present(point[None], [*singles(n), *of_size(2, n)]):
        return untested("2a", statement, "not all singles and pairs, or too few encoders")
    top = _capacity_pair(point)
    drawn = np.array([_capacity_pair(values) for values in draws], dtype=np.int64)
    share = {pair: np.mean(drawn == pair) if drawn.size else 0.0 for pair in of_size(2, n)}
    candidates = [pair for pair in of_size(2, n) if pair == top or share[pair] > findings.alpha]
    beaten, beats_all = [], False
    for candidate in candidates:
        others = [i for i in of_size(2, n) if i != candidate]
        ahead = point[others] - point[candidate]
        sure = holm(two_sided_p(ahead, draws[:, others] - draws[:, [candidate]])) < findings.alpha
        beaten.append(bool(((ahead > 0) & sure).any()))
        beats_all = candidates == [top] and bool(((ahead < 0) & sure).all())
    best = max((i for i in of_size(2, n) if i != top), key=lambda i: float(point[i]))
    note = "The verdict compares with all pairs under Holm's correction."
    if len(candidates) > 1:
        listed = ", ".join(findings.name(pair) for pair in candidates)
        note += f" Noise leaves open which pair has the two highest Capacities: {listed}; all must be beaten."
    return judged(
        "2a",
        statement,
        HOLDS if all(beaten) else FAILS if beats_all else OPEN,
        estimate=float(point[best] - point[top]),
        bounds=findings.bounds(draws[:, best] - draws[:, top]),
        estimate_of=f"points by which the best other pair, {findings.name(best)}, is ahead of "
        f"{findings.name(top)}",
        note=note,
        evidence=pair_evidence(findings, top),
        to_decide=findings.needed(best, top, comparisons=len(of_size(2, n)) - 1),
    )


def _capacity_pair(values: Array) -> int:
    """The index of the pair of the two highest Capacities; `values` is (2^n,)."""
    return sum(sorted(singles(len(values).bit_length() - 1), key=lambda i: -float(values[i]))[:2])


def anchored_pair_matches(findings: Findings) -> Claim:
    """2b: a pair with an anchor and a complement matches the full pool, within the margin.

    A pair has both roles if the rank ratios and Capacities of nearly all resamples give it both. It has not
    if nearly none do. Claim 3b reads the same resamples.
    """
    statement = "A pair of an anchor and a complement matches the full pool."
    pairs, n, margin = findings.pairs, len(findings.lattices.pool), findings.margin
    if n < 3 or np.isnan(findings.point[-1]) or not findings.ranks_known or not len(findings.draws):
        return untested("2b", statement, "no effective ranks, no intervals, or no model of the full pool")
    if not pairs.index.size:
        return untested("2b", statement, "no pair")
    share = pairs.roled_draws.mean(0)
    verdicts = [by_share(float(value), findings.alpha) for value in share]
    has, has_not = (np.array([v == verdict for v in verdicts]) for verdict in (HOLDS, FAILS))
    gap = findings.point[pairs.index] - findings.point[-1]
    drawn = findings.draws[:, pairs.index] - findings.draws[:, [-1]]
    sure = holm(two_sided_p(gap + margin, drawn)) < findings.alpha
    matches, behind = sure & (gap > -margin), sure & (gap < -margin)
    likely = np.flatnonzero(share >= share.max()) if not has.any() else np.flatnonzero(has)
    place = int(likely[gap[likely].argmax()])
    best = int(pairs.index[place])
    complete = len(pairs.index) == len(of_size(2, n))
    fails = complete and bool((has_not | behind).all())
    return judged(
        "2b",
        statement,
        HOLDS if (has & matches).any() else FAILS if fails else OPEN,
        estimate=float(gap[place]),
        bounds=findings.bounds(drawn[:, place]),
        estimate_of=f"v({findings.name(best)}) minus v(full pool), in points",
        note=f"It matches if it is at most {margin:g} behind. {roles_note(findings)}",
        evidence=pair_evidence(findings, best),
        to_decide=findings.needed(best, len(findings.point) - 1, -margin, len(pairs.index)),
    )


def roles_note(findings: Findings) -> str:
    """How many pairs have both roles by their intervals, and how many rank ratios exceed 1 + τ."""
    pairs, tau = findings.pairs, findings.settings.tau
    verdicts = [by_share(float(value), findings.alpha) for value in pairs.roled_draws.mean(0)]
    has, open_ = verdicts.count(HOLDS), verdicts.count(OPEN)
    ratios = 2 * len(pairs.index)
    return (
        f"{has} of {len(pairs.index)} pairs have an anchor (its rank ratio's interval lies above "
        f"1 − τ = {1 - tau:g}) and a complement (its interval lies above 1), {open_} may; "
        f"{pairs.beyond_tau} of {ratios} ratios exceed 1 + τ = {1 + tau:g}."
    )


def more_add_little(findings: Findings) -> Claim:
    """2c: no encoder beyond the best pair adds the margin, nor does the best larger subset.

    Holds if all upper bounds lie below the margin. Fails if the lower bound of a step, or of the best larger
    subset, lies above it.
    """
    statement = "Encoders beyond the best pair add little."
    n, point, draws, margin = len(findings.lattices.pool), findings.point, findings.draws, findings.margin
    if n < 3 or not all_present(point[None], range(1, 2**n)):
        return untested("2c", statement, "an incomplete lattice or too few encoders")
    pair, best = best_pair(point), best_larger(point)
    steps = steps_beyond(point, pair)
    family, gain, drawn = _gains_beyond(findings, pair)
    p = two_sided_p(gain - margin, drawn)
    reported = [family.index(edge) for edge in (*steps, (pair, best))]
    above = (gain > margin) & (holm(p) < findings.alpha)
    # a best pair that was chosen by luck makes all gains over it too small
    below = (gain < margin) & (p * _rivals(findings, pair) < findings.alpha)
    larger = [k for k, (before, _) in enumerate(family) if before == pair]
    little = below[sorted({*reported, *larger})].all()
    # the step that keeps the claim from holding, or is the first to make it fail
    last_before, last_after = family[max(reported, key=lambda k: float(gain[k]))]
    return judged(
        "2c",
        statement,
        FAILS if above[reported].any() else HOLDS if little else OPEN,
        estimate=float(point[best] - point[pair]),
        bounds=findings.bounds(draws[:, best] - draws[:, pair]),
        estimate_of=f"points of the best larger subset, {findings.name(best)}, over the best pair, "
        f"{findings.name(pair)}",
        note=_little_note(findings, steps),
        evidence=Evidence("chains.csv", {"kind": "over_best_pair", "size": best.bit_count()}),
        to_decide=findings.needed(last_after, last_before, margin, len(family)),
    )


def _gains_beyond(findings: Findings, pair: int) -> tuple[list[tuple[int, int]], Array, Array]:
    """Every gain that the steps beyond a pair and the best larger subset are chosen from.

    Returns the (before, after) subsets, their gains (k,) and resamples (resamples, k).
    """
    n, point, draws = len(findings.lattices.pool), findings.point, findings.draws
    above = [s for s in range(2**n) if s & pair == pair]
    edges = [(s, s | bit) for s in above for bit in singles(n) if not s & bit]
    jumps = [(pair, s) for size in range(3, n + 1) for s in of_size(size, n)]
    family = list(dict.fromkeys([*edges, *jumps]))
    before, after = np.array(family).T
    return family, point[after] - point[before], draws[:, after] - draws[:, before]


def _rivals(findings: Findings, pair: int) -> int:
    """How many pairs could be the best: those not separable from it, itself included."""
    pairs = of_size(2, len(findings.lattices.pool))
    behind = findings.point[pair] - findings.point[pairs]
    p = two_sided_p(behind, findings.draws[:, [pair]] - findings.draws[:, pairs])
    return max(1, int((p >= findings.alpha).sum()))


def _little_note(findings: Findings, steps: list[tuple[int, int]]) -> str:
    """The steps with intervals, the mean gains of the lattice, and a proper subset that is ahead."""
    n, point, draws = len(findings.lattices.pool), findings.point, findings.draws
    parts = []
    for before, after in steps:
        low, high = findings.bounds(draws[:, after] - draws[:, before])
        gain = point[after] - point[before]
        parts.append(f"{findings.name(before ^ after)} {gain:+.2f} [{low:.2f}, {high:.2f}]")
    sizes = [float(point[of_size(size, n)].mean()) for size in range(2, n + 1)]
    means = [f"{gain:+.2f}" for gain in np.diff(sizes)]
    note = (
        f"Little is less than {points(findings.margin)}, in every step. Steps to the full pool: "
        f"{', '.join(parts)}. Mean gains over the lattice, from the third encoder on: {', '.join(means)}."
    )
    return f"{note} {ahead_of_full(findings)}".strip()


def ahead_of_full(findings: Findings) -> str:
    """A sentence on the best proper subset if it scores above the full pool; empty if none does."""
    point, draws = findings.point, findings.draws
    proper = np.arange(1, len(point) - 1)
    ahead, drawn = point[proper] - point[-1], draws[:, proper] - draws[:, [-1]]
    if not (ahead > 0).any():
        return ""
    p, best = holm(two_sided_p(ahead, drawn)), int(ahead.argmax())
    low, high = findings.bounds(drawn[:, best])
    beyond = "beats the full pool by" if p[best] < findings.alpha else "is ahead of the full pool by"
    tail = "" if p[best] < findings.alpha else ", which noise can explain"
    position = 1 + int((ahead > 0).sum())
    return (
        f"A proper subset, {findings.name(int(proper[best]))}, {beyond} {ahead[best]:.2f} [{low:.2f}, "
        f"{high:.2f}]{tail}; the full pool is number {position} of {len(point) - 1}."
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
    best, second = np.argsort(-findings.point[pairs.index], kind="stable")[:2]
    pair, runner_up = int(pairs.index[best]), int(pairs.index[second])
    roles = float(pairs.roled_draws[:, best].mean())
    return judged(
        "3b",
        statement,
        by_share(share, findings.alpha),
        estimate=share,
        estimate_of="share of resamples (of scores and rank ratios) in which the best pair has both roles",
        note=f"The best pair, {findings.name(pair)}, has them in {roles:.0%}. {roles_note(findings)}",
        evidence=pair_evidence(findings, pair),
        to_decide=_ratio_needed(findings, best)
        if by_share(roles, findings.alpha) == OPEN
        else findings.needed(pair, runner_up),
    )


def _ratio_needed(findings: Findings, place: int) -> str:
    """What would decide a pair's roles: how much more precise the least certain rank ratio has to be."""
    pairs, ranks, tau = findings.pairs, findings.ranks, findings.settings.tau
    index, (one, two) = int(pairs.index[place]), pairs.encoders[place]
    first = findings.point[1 << one] >= findings.point[1 << two]
    anchor, complement = (one, two) if first else (two, one)
    certainty = [
        abs(np.log(ranks.ratio[index, encoder] / threshold)) / ranks.spread[index, encoder]
        for encoder, threshold in ((anchor, 1 - tau), (complement, 1.0))
        if ranks.spread[index, encoder] > 0
    ]
    if not certainty or not (least := min(certainty)) > 0:
        return ""
    factor = (sigmas(findings.alpha) / least) ** 2
    if factor <= 1:
        return "The rank ratios are clear; which encoder of the best pair has the higher Capacity is not."
    many = f"{np.ceil(factor):.0f}" if factor < 100 else "more than 100"
    return (
        f"A verdict takes {many} times the seeds and probe pictures: a rank ratio is close to its threshold."
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
    better = max(alone, key=lambda i: float(point[i]))
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
        evidence=pair_evidence(findings, pair),
        to_decide=findings.needed(pair, better),
    )


def pair_evidence(findings: Findings, pair: int) -> Evidence:
    """The row of a pair in pairs.csv."""
    first, second = findings.name(pair).split("+")
    return Evidence("pairs.csv", {"first": first, "second": second})
