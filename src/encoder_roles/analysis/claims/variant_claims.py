"""Variants of a study compared with its baseline on the same questions: variants.csv and claims 4 to 7.

All variants are scored on one set of resamples (`statistics.build_score_arrays`), so a difference to the
baseline is paired. The p values of each subset, and of their mean, are corrected over the variants (Holm).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from encoder_roles.analysis.claims.claim import (
    FAILS,
    HOLDS,
    OPEN,
    Claim,
    Evidence,
    add_seed_note,
    by_interval,
    judged,
    points,
    seed_note,
    untested,
    withhold,
    write_claims,
)
from encoder_roles.analysis.measures.pareto import mean_costs
from encoder_roles.analysis.seed_noise import join_seeds
from encoder_roles.analysis.statistics import (
    Array,
    build_score_arrays,
    holm,
    level_table,
    percentile_interval,
    two_sided_p,
)
from encoder_roles.analysis.tables import check_scores, long_table, read_costs, read_scores
from encoder_roles.provenance import write_table
from encoder_roles.study.names import BLIND, NO_MASK, StudyError, all_subsets
from encoder_roles.study.stages import read_settings
from encoder_roles.study.variants import MEAN, VariantRow, VariantStage

SIMPLE = ("linear", "mlp")
ATTENTION = ("resampler", "sva", "vit")  # the connectors that claim 5 holds against the simple ones
COSTS = ("parameters", "flops", "train_seconds", "predict_seconds")


@dataclass(frozen=True)
class Comparison:
    """The scores and costs of every variant.

    Attributes:
        stage: the study's variants and statistics.
        subsets: the names along the arrays' subset axis; the last is MEAN.
        levels: a row per level of a score; the first is overall.
        point: scores 0-100, (variants, subsets, levels).
        draws: their resamples, (resamples, variants, subsets, levels).
        costs: COSTS by variant and subset.
        seeds: the number of training seeds.
    """

    stage: VariantStage
    subsets: tuple[str, ...]
    levels: pd.DataFrame
    point: Array
    draws: Array
    costs: pd.DataFrame
    seeds: int

    @property
    def base(self) -> int:
        """The place of the baseline."""
        return next(i for i, row in enumerate(self.stage.variants) if row.name == self.stage.baseline)

    @property
    def others(self) -> list[int]:
        """The places of the variants that are compared with it."""
        return [i for i in range(len(self.stage.variants)) if i != self.base]

    @property
    def alpha(self) -> float:
        """1 - the confidence level."""
        return 1 - self.stage.statistics.level

    def over(self, variants: Sequence[int], base: int) -> tuple[Array, Array]:
        """Overall points of some variants over another on the mean of subsets: (k,) and (resamples, k)."""
        point, draws = self.point[:, -1, 0], self.draws[:, :, -1, 0]
        return point[variants] - point[base], draws[:, variants] - draws[:, [base]]

    def bounds(self, draws: Array) -> tuple[float, float]:
        """The interval of one number's resamples, (resamples,)."""
        low, high = percentile_interval(draws, self.stage.statistics.level)
        return float(low), float(high)

    def cost(self, variant: int, column: str) -> float:
        """A cost of a variant, mean over the subsets."""
        return float(self.costs[column].to_dict()[self.stage.variants[variant].name, MEAN])


def compare(scores: Sequence[pd.DataFrame], costs: Sequence[pd.DataFrame], stage: VariantStage) -> Comparison:
    """Join the tables of all variants, given in the order of the stage's variants.

    Raises StudyError if variants differ in their questions, subsets or seeds.
    """
    names = [row.name for row in stage.variants]
    joined = _join(scores, stage)
    arrays = join_seeds(build_score_arrays(joined, stage.statistics), stage.statistics)
    order = {name: i for i, name in enumerate((BLIND, *all_subsets(stage.pool)))}
    subsets = sorted(set(arrays.models["subset"]), key=order.__getitem__)
    levels, weights = level_table(arrays.benchmarks, stage.statistics.overall)
    cells = arrays.models.reset_index().set_index(["operator", "subset"])["index"].to_dict()
    base = names.index(stage.baseline)
    place = np.array([[cells[name, subset] for subset in subsets] for name in names])
    for variant, row in enumerate(stage.variants):
        for subset in row.shared:  # one checkpoint: also the noise between its seeds is the same
            place[variant, subsets.index(subset)] = place[base, subsets.index(subset)]
    point, draws = (arrays.point @ weights.T)[place], (arrays.draws @ weights.T)[:, place]
    trained = [i for i, subset in enumerate(subsets) if subset != BLIND]
    return Comparison(
        stage,
        (*subsets, MEAN),
        levels,
        np.concatenate([point, point[:, trained].mean(1, keepdims=True)], axis=1),
        np.concatenate([draws, draws[:, :, trained].mean(2, keepdims=True)], axis=2),
        _join_costs(costs, names, subsets),
        int(joined["seed"].nunique()),
    )


def _join(scores: Sequence[pd.DataFrame], stage: VariantStage) -> pd.DataFrame:
    """One table of the models as trained, with the variant as its operator."""
    tables, first = [], None
    for row, table in zip(stage.variants, scores, strict=True):
        unmasked = table[table["operator"] == NO_MASK]
        if (study := set(unmasked["study"])) != {stage.study}:
            raise StudyError(f"variant {row.name}: scores of {sorted(study)}, expected {stage.study!r}")
        models = set(unmasked[["subset", "seed"]].itertuples(index=False, name=None))
        if first is not None and models != first:
            subset, seed = sorted(models ^ first)[0]
            raise StudyError(
                f"variant {row.name}: subset {subset!r} seed {seed} is not scored for every variant; "
                "make the scores again"
            )
        first = models
        tables.append(unmasked.assign(operator=row.name))
    joined = pd.concat(tables, ignore_index=True)
    check_scores(joined, where=f"variants of {stage.study}")
    return joined


def _join_costs(costs: Sequence[pd.DataFrame], names: list[str], subsets: list[str]) -> pd.DataFrame:
    """COSTS by variant and subset, MEAN among them."""
    tables = []
    for name, table in zip(names, costs, strict=True):
        mean = mean_costs(table)
        if missing := [subset for subset in subsets if subset not in mean.index]:
            raise StudyError(
                f"variant {name}: costs.csv has no row of subset {missing[0]!r}; collect it again"
            )
        mean["train_seconds"] = mean["align_seconds"] + mean["tune_seconds"]
        mean = mean.loc[subsets, list(COSTS)]
        mean.loc[MEAN] = mean.drop(index=BLIND, errors="ignore").mean()
        tables.append(mean)
    return pd.concat(tables, keys=names)


def variant_table(comparison: Comparison) -> pd.DataFrame:
    """variants.csv: a row per variant, subset and level; the baseline's rows have no difference."""
    stage, base, others = comparison.stage, comparison.base, comparison.others
    point, draws, level = comparison.point, comparison.draws, comparison.stage.statistics.level
    low, high = percentile_interval(draws, level)
    difference, below, above, p = (np.full(point.shape, np.nan) for _ in range(4))
    gap, gap_draws = point - point[[base]], draws - draws[:, [base]]
    difference[others] = gap[others]
    below[others], above[others] = percentile_interval(gap_draws[:, others], level)
    if others:
        p[others] = np.apply_along_axis(holm, 0, two_sided_p(gap[others], gap_draws[:, others]))
    values = {"score": point, "low": low, "high": high, "difference": difference}
    values |= {"difference_low": below, "difference_high": above, "p_holm": p}
    variants = pd.DataFrame({"study": stage.study, "variant": [row.name for row in stage.variants]})
    levels = comparison.levels[["level", "benchmark", "group"]]
    table = long_table([variants, {"subset": comparison.subsets}, levels], values)
    shared = {(row.name, subset) for row in stage.variants for subset in row.shared}
    table["shared"] = [key in shared for key in zip(table["variant"], table["subset"], strict=True)]
    return table.join(comparison.costs, on=["variant", "subset"])


def judge_variants(comparison: Comparison) -> list[Claim]:
    """The claims that need several recipes, and what the variants say of the pair claim."""
    tests: list[Callable[[Comparison], Claim]] = [pairs_beat_singles, levels_beat_last]
    tests += [simple_suffices, trained_beat_frozen]
    claims = [test(comparison) for test in tests] + worth_their_cost(comparison)
    stated = comparison.stage.statistics.seed_deviation
    claims = add_seed_note(claims, seed_note(comparison.seeds, stated))
    return withhold(claims) if comparison.seeds == 1 and stated is None else claims


def pairs_beat_singles(comparison: Comparison) -> Claim:
    """4a: in every variant, a pair of encoders beats either alone."""
    places = {subset: i for i, subset in enumerate(comparison.subsets)}
    pairs = [s for s in places if s.count("+") == 1 and all(e in places for e in s.split("+"))]
    if not pairs:
        return untested("4a", "A pair of encoders beats either alone.", "no pair with both its singles")
    point, draws = comparison.point[..., 0], comparison.draws[..., 0]
    named = [s for s in pairs if [e.split("_")[0] for e in s.split("+")] == ["clip", "dinov2"]]
    pair = (named or [max(pairs, key=lambda s: float(point[comparison.base, places[s]]))])[0]
    alone = [places[encoder] for encoder in pair.split("+")]
    lead = point[:, places[pair]] - point[:, alone].max(-1)
    lead_draws = draws[:, :, places[pair]] - draws[:, :, alone].max(-1)
    low, high = percentile_interval(lead_draws, comparison.stage.statistics.level)
    least = int(lead.argmin())
    leads = ", ".join(f"{row.name} {lead[i]:.2f}" for i, row in enumerate(comparison.stage.variants))
    stand_in = (
        " No pair of CLIP and DINOv2: the baseline's best pair stands for it, chosen on the same questions."
    )
    return judged(
        "4a",
        f"The pair {pair} beats either encoder alone in every variant.",
        HOLDS if (low > 0).all() else FAILS if (high < 0).all() else OPEN,
        estimate=lead[least],
        bounds=(low[least], high[least]),
        estimate_of="points above the better of the two, in the variant where they are fewest",
        note=f"Points by variant: {leads}." + stand_in * (not named),
        evidence=_evidence(comparison, least, pair),
    )


def levels_beat_last(comparison: Comparison) -> Claim:
    """4b: several layers of each encoder beat the last alone."""
    base = comparison.stage.variants[comparison.base]
    statement = "Fusing a low and a high layer of each encoder beats the last layer alone."

    def fuses(row: VariantRow) -> bool:
        same = row.train_encoders == base.train_encoders
        return same and row.levels > base.levels and row.connector in (base.connector, "multi_level")

    return _beats(comparison, "4b", statement, fuses, "one layer of each encoder against several")


def simple_suffices(comparison: Comparison) -> Claim:
    """5: no connector with attention is ahead of the simple baseline by more than the margin."""
    stage, base = comparison.stage, comparison.stage.variants[comparison.base]
    margin = stage.statistics.margin
    statement = "Simple connectors suffice against cross-attention, a resampler or a small ViT."
    rivals = [
        i
        for i in comparison.others
        if (row := stage.variants[i]).connector in ATTENTION
        and (row.levels, row.train_encoders) == (base.levels, base.train_encoders)
    ]
    if base.connector not in SIMPLE or not rivals:
        return untested("5", statement, "no simple baseline, or no connector with attention")
    ahead, drawn = comparison.over(rivals, comparison.base)
    low, high = percentile_interval(drawn, stage.statistics.level)
    p = holm(two_sided_p(ahead - margin, drawn))
    beaten = ((ahead > margin) & (p < comparison.alpha)).any()
    best = int(ahead.argmax())
    leader = stage.variants[rivals[best]].name
    return judged(
        "5",
        statement,
        FAILS if beaten else HOLDS if (high < margin).all() else OPEN,
        estimate=ahead[best],
        bounds=(low[best], high[best]),
        estimate_of=f"points by which the best of them, {leader}, is ahead of {base.name}, mean over subsets",
        note=f"They suffice if none is ahead by {margin:g} or more.",
        evidence=_evidence(comparison, rivals[best], MEAN),
    )


def trained_beat_frozen(comparison: Comparison) -> Claim:
    """6: training the encoders scores higher than freezing them."""
    base = comparison.stage.variants[comparison.base]
    statement = "Trained encoders score higher than frozen ones."

    def other_way(row: VariantRow) -> bool:
        same = (row.connector, row.levels) == (base.connector, base.levels)
        return same and row.train_encoders != base.train_encoders

    sign = -1 if base.train_encoders else 1
    return _beats(comparison, "6", statement, other_way, "frozen encoders against trained ones", sign)


def _beats(
    comparison: Comparison,
    number: str,
    statement: str,
    which: Callable[[VariantRow], bool],
    needed: str,
    sign: int = 1,
) -> Claim:
    """Whether some of the variants beat the baseline (with sign -1: are beaten), under Holm's correction."""
    variants, baseline = comparison.stage.variants, comparison.stage.baseline
    chosen = [i for i in comparison.others if which(variants[i])]
    if not chosen:
        return untested(number, statement, f"no variant that differs in this alone: {needed}")
    gap, drawn = comparison.over(chosen, comparison.base)
    ahead, drawn = sign * gap, sign * drawn
    sure = holm(two_sided_p(ahead, drawn)) < comparison.alpha
    beaten, behind = ((ahead > 0) & sure).any(), ((ahead < 0) & sure).all()
    best = int(ahead.argmax())
    ends = (variants[chosen[best]].name, baseline)[::sign]
    several = f"The best of {len(chosen)}; the verdict takes all, under Holm's correction."
    return judged(
        number,
        statement,
        HOLDS if beaten else FAILS if behind else OPEN,
        estimate=ahead[best],
        bounds=comparison.bounds(drawn[:, best]),
        estimate_of=f"points of {ends[0]} over {ends[1]}, mean over subsets",
        note=several if len(chosen) > 1 else "",
        evidence=_evidence(comparison, chosen[best], MEAN),
    )


def worth_their_cost(comparison: Comparison) -> list[Claim]:
    """7: whether each variant gains the margin per doubling of the baseline's training FLOPs.

    A variant that takes fewer FLOPs must lose less than that per halving.
    """
    others, baseline = comparison.others, comparison.stage.baseline
    if not others:
        return []
    margin, base_flops = comparison.stage.statistics.margin, comparison.cost(comparison.base, "flops")
    ratio = np.array([comparison.cost(i, "flops") for i in others]) / base_flops
    gap, drawn = comparison.over(others, comparison.base)
    price = margin * np.log2(ratio)
    value, value_draws = gap - price, drawn - price
    sure = holm(two_sided_p(value, value_draws)) < comparison.alpha
    per_doubling = f"{points(margin)} per doubling of the training FLOPs"
    claims = []
    for k, variant in enumerate(others):
        name = comparison.stage.variants[variant].name
        bounds = comparison.bounds(value_draws[:, k])
        factors = _factors(comparison, variant)
        costs = ", ".join(f"{factor:.3g} times the {word}" for word, factor in factors)
        claim = judged(
            "7",
            f"{name} is worth its cost against {baseline}: {per_doubling}.",
            by_interval(*bounds, 0.0) if sure[k] else OPEN,
            estimate=value[k],
            bounds=bounds,
            estimate_of="points beyond that price",
            note=f"{gap[k]:+.2f} points, mean over subsets, at {costs}.",
            evidence=_evidence(comparison, variant, MEAN),
        )
        claims.append(claim)
    return claims


def _factors(comparison: Comparison, variant: int) -> list[tuple[str, float]]:
    """What a variant costs in units of the baseline, mean over subsets."""
    words = {"parameters": "parameters", "flops": "training FLOPs"}
    words |= {"train_seconds": "training seconds", "predict_seconds": "prediction seconds"}
    base = {cost: comparison.cost(comparison.base, cost) for cost in words}
    return [(word, comparison.cost(variant, c) / base[c]) for c, word in words.items() if base[c] > 0]


def _evidence(comparison: Comparison, variant: int, subset: str) -> Evidence:
    name = comparison.stage.variants[variant].name
    return Evidence("variants.csv", {"variant": name, "subset": subset, "level": "overall"})


def compare_variants(
    *, settings: Path, scores: tuple[Path, ...], costs: tuple[Path, ...], output: Path, claims: Path
) -> None:
    """Compare a study's variants with its baseline.

    Args:
        settings: settings/variants.json.
        scores: variants/<variant>/scores.parquet of every variant, in the order of the settings.
        costs: variants/<variant>/costs.csv, likewise.
        output: variants.csv.
        claims: variant_claims.json, in the form of claims.json.
    """
    stage = read_settings(settings, VariantStage)
    names = [row.name for row in stage.variants]
    for what, files in (("scores", scores), ("costs", costs)):
        if [file.parent.name for file in files] != names:
            raise StudyError(
                f"{what}: of {[file.parent.name for file in files]}, the settings have the variants {names}"
            )
    comparison = compare(
        [read_scores(file) for file in scores],
        [read_costs(file, stage.pool, stage.study) for file in costs],
        stage,
    )
    write_table(output, variant_table(comparison))
    write_claims(claims, judge_variants(comparison))
