"""Every number and chosen sentence of the manuscript, from the study's tables: the macros of values.json.

A macro holds plain text. A sentence that depends on a result is made here from the result, so
that text and tables always agree.
"""

from __future__ import annotations

import pandas as pd

from encoder_roles.paper.complements import complement_sentence
from encoder_roles.paper.convergence import (
    abstract_warning,
    convergence_sentence,
    further_epoch_sentence,
    loss_edge_sentence,
    verdict_warning,
)
from encoder_roles.paper.design import design_texts
from encoder_roles.paper.inputs import PaperInputs
from encoder_roles.paper.names import encoder_name, subset_name
from encoder_roles.paper.readings import (
    groups_of,
    mask_operators,
    masked_scores,
    retrained_scores,
)
from encoder_roles.paper.verdicts import claim_texts, seed_texts
from encoder_roles.paper.wording import (
    fixed,
    interval_text,
    listed,
    sentence,
    signed,
    with_interval,
)
from encoder_roles.study.names import BLIND, parse_subset


def collect(inputs: PaperInputs) -> dict[str, str]:
    """All macros: name -> plain text."""
    return (
        design_texts(inputs)
        | _results(inputs)
        | claim_texts(inputs.claims, inputs.pool, verdict_warning(inputs.convergence))
        | seed_texts(inputs.claims, inputs.seeds)
        | {
            "MaskingSentence": _masking_sentence(inputs),
            "LatticeSentence": _lattice_sentence(inputs),
            "InteractionSentence": _interaction_sentence(inputs),
            "ChainSentence": _chain_sentence(inputs),
            "FullPoolSentence": _full_pool_sentence(inputs),
            "CostSentence": _cost_sentence(inputs),
            "ConvergenceSentence": convergence_sentence(inputs.convergence, inputs.gate),
            "ConvergenceWarning": abstract_warning(inputs.convergence),
            "FurtherEpochSentence": further_epoch_sentence(inputs.convergence),
            "LossEdgeSentence": loss_edge_sentence(inputs.loss_edges),
            "ComplementSentence": complement_sentence(inputs.complementarity),
        }
    )


def _results(inputs: PaperInputs) -> dict[str, str]:
    """Scores of the models the text names."""
    scores = retrained_scores(inputs.lattice)
    score = {str(subset): float(value) for subset, value in scores["score"].items()}
    models = {subset: value for subset, value in score.items() if subset != BLIND}
    best, full = max(models, key=lambda subset: models[subset]), inputs.full
    gain = fixed(score[full] - score[BLIND])
    if best == full:
        text = f"The full pool scores highest, {_score(scores, full)},"
    else:
        text = f"The best model is {subset_name(best)} with {_score(scores, best)}; "
        text += f"the full pool scores {_score(scores, full)},"
    text += f" {gain} points above the blind model ({_score(scores, BLIND)})."
    singles = {encoder: models[encoder] for encoder in inputs.pool if encoder in models}
    if len(singles) > 1:
        top, low = (choose(singles, key=lambda encoder: singles[encoder]) for choose in (max, min))
        text += (
            f" Alone, {encoder_name(top)} is the best encoder ({_score(scores, top)}) and {encoder_name(low)}"
        )
        text += f" the worst ({_score(scores, low)}), {fixed(singles[top] - singles[low])} points apart."
    return {
        "BlindScore": _score(scores, BLIND),
        "FullScore": _score(scores, full),
        "FullGain": gain,
        "SubsetsSentence": text,
        "GroupsSentence": _groups_sentence(inputs),
    }


def _score(scores: pd.DataFrame, subset: str) -> str:
    return with_interval(*(scores[column].to_dict()[subset] for column in ("score", "low", "high")))


def _groups_sentence(inputs: PaperInputs) -> str:
    """What the full pool gains over blind in each group, and who is best alone there."""
    gains, firsts = [], {}
    for group in groups_of(inputs.lattice):
        of_group = retrained_scores(inputs.lattice, "group", group)["score"]
        gains.append(f"{fixed(of_group[inputs.full] - of_group[BLIND])} points in {group}")
        singles = of_group.reindex([e for e in inputs.pool if e in of_group.index])
        if len(singles):
            firsts[group] = str(singles.idxmax())
    text = f"Over the blind model the full pool gains {listed(gains)}."
    if len(set(firsts.values())) == 1 and len(firsts) > 1:
        return (
            f"{text} {encoder_name(next(iter(firsts.values())))} is the best single encoder in every group."
        )
    if firsts:
        named = [f"{encoder_name(encoder)} in {group}" for group, encoder in firsts.items()]
        text += f" The best single encoder is {listed(named)}."
    return text


def _masking_sentence(inputs: PaperInputs) -> str:
    """How far the masked scores fall below the retrained ones, per operator."""
    retrained = retrained_scores(inputs.lattice)["score"]
    parts = []
    for operator in mask_operators(inputs.lattice):
        masked = masked_scores(inputs.lattice, operator)["score"]
        common = [s for s in masked.index if s in retrained.index and s not in (BLIND, inputs.full)]
        if common:
            gap = (retrained[common] - masked[common]).mean()
            below = sum(masked[s] < retrained[BLIND] for s in common)
            parts.append(
                f"under the {operator} mask the same encoders score {fixed(abs(gap))} points "
                f"{'less' if gap > 0 else 'more'} than retrained, on average, and {below} of {len(common)} "
                "masks fall below the blind model"
            )
    return sentence("; ".join(parts))


def _lattice_sentence(inputs: PaperInputs) -> str:
    """How many of the steps that add one encoder gain or lose beyond noise."""
    rows = inputs.differences
    rows = rows[(rows["operator"] == "retrained") & (rows["measure"] == "score")]
    gains, losses, steps = 0, 0, 0
    for first, second, low, high in rows[["first", "second", "low", "high"]].itertuples(index=False):
        one, other = (set(parse_subset(name, inputs.pool)) for name in (first, second))
        if len(one ^ other) != 1:
            continue
        steps += 1
        above, below = (low > 0, high < 0) if one > other else (high < 0, low > 0)
        gains, losses = gains + bool(above), losses + bool(below)
    if not steps:
        return ""
    return (
        f"Of the {steps} steps that add one encoder to a subset, {gains} gain and {losses} lose beyond their "
        "intervals."
    )


def _interaction_sentence(inputs: PaperInputs) -> str:
    """How many pairs of encoders can stand in for one another, or gain from each other, beyond noise."""
    rows = inputs.games
    rows = rows[(rows["level"] == "overall") & (rows["operator"] == "retrained")]
    rows = rows[rows["index"] == "shapley_interaction"].sort_values("value")
    if rows.empty:
        return ""
    alike, apart = (rows["high"] < 0).sum(), (rows["low"] > 0).sum()
    ends = []
    for row in (rows.iloc[0].to_dict(), rows.iloc[-1].to_dict()):
        bounds = interval_text(row["low"], row["high"])
        ends.append(f"{subset_name(row['coalition'])} {signed(row['value'])}\u00a0{bounds}")
    return (
        f"Of the {len(rows)} pairs, {alike} have a negative Shapley interaction beyond noise and {apart} a "
        f"positive one (lowest: {ends[0]}; highest: {ends[1]})."
    )


def _chain_sentence(inputs: PaperInputs) -> str:
    """What each step of the best chain adds."""
    best = inputs.chains[inputs.chains["kind"] == "best_chain"].sort_values("size")
    if best.empty:
        return ""
    steps = [
        f"{encoder_name(added)} {signed(gain)}\u00a0{interval_text(low, high)}"
        for added, gain, low, high in zip(*(best[c] for c in ("added", "gain", "low", "high")), strict=True)
    ]
    return f"Along the best chain the encoders add, in this order: {listed(steps)} points."


def _full_pool_sentence(inputs: PaperInputs) -> str:
    """Where the full pool stands among the subsets, and which encoders cost it points.

    Empty if it is first.
    """
    scores = retrained_scores(inputs.lattice)["score"].astype(float)
    models = scores.drop(index=BLIND, errors="ignore")
    position = 1 + int((models > models[inputs.full]).sum())
    if position == 1:
        return ""
    best = str(models.idxmax())
    table = inputs.differences
    table = table[(table["operator"] == "retrained") & (table["measure"] == "score")]
    row = table[table["first"].isin([best, inputs.full]) & table["second"].isin([best, inputs.full])].iloc[0]
    low, high = float(row["low"]), float(row["high"])
    if row["first"] == inputs.full:
        low, high = -high, -low
    ahead = f"{fixed(abs(row['difference']))}\u00a0{interval_text(low, high)}".strip()
    text = f"The full pool is number {position} of {len(models)}: "
    text += f"{subset_name(best)} is ahead by {ahead} points."
    roles = inputs.roles
    roles = roles[(roles["operator"] == "retrained") & (roles["level"] == "overall")]
    harmful = roles[(roles["measure"] == "necessity") & (roles["high"] < 0)]
    costs = [
        f"{encoder_name(e)} {fixed(-v)}" for e, v in zip(harmful["encoder"], harmful["value"], strict=True)
    ]
    return f"{text} It loses points to an encoder it has: {listed(costs)}." if costs else text


def _cost_sentence(inputs: PaperInputs) -> str:
    """Size and training operations of the full pool against models with one encoder."""
    costs = inputs.costs[inputs.costs["subset"] != BLIND]
    costs = costs.assign(flops=costs["align_flops"] + costs["tune_flops"])
    full, single = (costs[costs["encoders"] == size] for size in (len(inputs.pool), 1))
    if full.empty or single.empty:
        return ""
    larger, longer = (float(full[c].mean() / single[c].mean()) for c in ("parameters", "flops"))
    return (
        f"The full pool has {fixed(larger)} times the parameters of a model with one encoder and trains with "
        f"{fixed(longer)} times the operations."
    )
