"""Variants of a study compared with its baseline on the same questions: variants.csv and claims 4 to 7.

The models of all variants share one set of resamples (`statistics.build_score_arrays`), so that a difference
to the baseline is paired. For each subset, and for their mean, p values are corrected (Holm).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from encoder_roles.analysis.claims.study_claims import (
    FAILS,
    HOLDS,
    OPEN,
    UNTESTED,
    Claim,
    by_interval,
    claim_of,
    untested,
)
from encoder_roles.analysis.measures.pareto import mean_costs
from encoder_roles.analysis.statistics import (
    Array,
    build_score_arrays,
    holm,
    interval,
    join_seeds,
    level_table,
    two_sided_p,
)
from encoder_roles.analysis.tables import check_scores, read_costs, read_scores
from encoder_roles.provenance import write_json, write_table
from encoder_roles.study.names import BLIND, NO_MASK, StudyError, all_subsets
from encoder_roles.study.stages import read_settings
from encoder_roles.study.variants import MEAN, VariantRow, VariantStage

SIMPLE = ("linear", "mlp")
ATTENTION = ("resampler", "sva", "vit")  # the connectors that claim 5 holds against the simple ones
COSTS = ("parameters", "flops", "train_seconds", "predict_seconds")


@dataclass(frozen=True)
class Comparison:
    """Every variant's scores.

    `point` is (variants, subsets, levels), `draws` (resamples, variants, subsets, levels); the last subset is
    MEAN, the first level overall. `costs` has a row per variant and subset.
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
        low, high = interval(draws, self.stage.statistics.level)
        return float(low), float(high)

    def cost(self, variant: int, column: str) -> float:
        """A cost of a variant, mean over the subsets."""
        return float(self.costs[column].to_dict()[self.stage.variants[variant].name, MEAN])


def compare(scores: Sequence[pd.DataFrame], costs: Sequence[pd.DataFrame], stage: VariantStage) -> Comparison:
    """All variants with shared resamples; tables in the order of the stage's variants.

    Raises StudyError when variants have not answered the same questions with the same subsets and seeds.
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
        found = table[table["operator"] == NO_MASK]
        if (study := set(found["study"])) != {stage.study}:
            raise StudyError(f"variant {row.name}: scores of {sorted(study)}, expected {stage.study!r}")
        models = set(found[["subset", "seed"]].itertuples(index=False, name=None))
        if first is not None and models != first:
            subset, seed = sorted(models ^ first)[0]
            raise StudyError(
                f"variant {row.name}: subset {subset!r} seed {seed} is not scored for every variant; "
                "make the scores again"
            )
        first = models
        tables.append(found.assign(operator=row.name))
    joined = pd.concat(tables, ignore_index=True)
    check_scores(joined, where=f"variants of {stage.study}")
    return joined


def _join_costs(costs: Sequence[pd.DataFrame], names: list[str], subsets: list[str]) -> pd.DataFrame:
    """COSTS by variant and subset, MEAN among them."""
    tables = []
    for name, table in zip(names, costs, strict=True):
        found = mean_costs(table)
        if missing := [subset for subset in subsets if subset not in found.index]:
            raise StudyError(
                f"variant {name}: costs.csv has no row of subset {missing[0]!r}; collect it again"
            )
        found["train_seconds"] = found["align_seconds"] + found["tune_seconds"]
        found = found.loc[subsets, list(COSTS)]
        found.loc[MEAN] = found.drop(index=BLIND, errors="ignore").mean()
        tables.append(found)
    return pd.concat(tables, keys=names)


def variant_table(found: Comparison) -> pd.DataFrame:
    """variants.csv: a row per variant, subset and level; without a difference where it is the baseline."""
    stage, base, others = found.stage, found.base, found.others
    low, high = interval(found.draws, stage.statistics.level)
    nothing = np.full(found.point.shape, np.nan)
    difference, below, above, p = nothing.copy(), nothing.copy(), nothing.copy(), nothing.copy()
    gap, gap_draws = found.point - found.point[[base]], found.draws - found.draws[:, [base]]
    difference[others] = gap[others]
    below[others], above[others] = interval(gap_draws[:, others], stage.statistics.level)
    raw = two_sided_p(gap[others], gap_draws[:, others])
    if others:
        p[others] = np.apply_along_axis(holm, 0, raw)
    variants, subsets, levels = found.point.shape
    names = [row.name for row in stage.variants]
    table = pd.DataFrame(
        {
            "study": stage.study,
            "variant": np.repeat(names, subsets * levels),
            "subset": np.tile(np.repeat(found.subsets, levels), variants),
        }
    )
    for column in ("level", "benchmark", "group"):
        table[column] = np.tile(found.levels[column].to_numpy(), variants * subsets)
    columns = {"score": found.point, "low": low, "high": high, "difference": difference}
    columns |= {"difference_low": below, "difference_high": above, "p_holm": p}
    for column, values in columns.items():
        table[column] = values.ravel()
    shared = {(row.name, subset) for row in stage.variants for subset in row.shared}
    table["shared"] = [key in shared for key in zip(table["variant"], table["subset"], strict=True)]
    return table.join(found.costs, on=["variant", "subset"])


def judge_variants(found: Comparison) -> list[Claim]:
    """The claims that a study of one recipe leaves untested, and what the variants say of the others."""
    tests: list[Callable[[Comparison], Claim]] = [pairs_beat_singles, levels_beat_last]
    tests += [simple_suffices, trained_beat_frozen]
    claims = [test(found) for test in tests] + worth_their_cost(found)
    note = seed_words(found)
    return [c if c["verdict"] == UNTESTED else c | {"note": f"{c['note']} {note}"} for c in claims]


def seed_words(found: Comparison) -> str:
    """What the intervals say about the noise of training seeds."""
    stated = found.stage.statistics.seed_deviation
    if stated is not None:
        return f"Intervals include a stated seed deviation of {stated:g} points."
    if found.seeds == 1:
        return "One training seed: intervals hold for these checkpoints, not for the recipes."
    return f"Intervals include the noise between {found.seeds} training seeds."


def pairs_beat_singles(found: Comparison) -> Claim:
    """4a: in every variant, a pair of encoders beats either alone."""
    places = {subset: i for i, subset in enumerate(found.subsets)}
    pairs = [s for s in places if s.count("+") == 1 and all(e in places for e in s.split("+"))]
    if not pairs:
        return untested("4a", "A pair of encoders beats either alone.", "no pair with both its singles")
    named = [s for s in pairs if [e.split("_")[0] for e in s.split("+")] == ["clip", "dinov2"]]
    pair = (named or [max(pairs, key=lambda s: float(found.point[found.base, places[s], 0]))])[0]
    alone = [places[encoder] for encoder in pair.split("+")]
    lead = found.point[:, places[pair], 0] - found.point[:, alone, 0].max(-1)
    drawn = found.draws[:, :, places[pair], 0] - found.draws[:, :, alone, 0].max(-1)
    low, high = interval(drawn, found.stage.statistics.level)
    verdict = HOLDS if (low > 0).all() else FAILS if (high < 0).all() else OPEN
    least = int(lead.argmin())
    said = ", ".join(f"{row.name} {lead[i]:.2f}" for i, row in enumerate(found.stage.variants))
    note = f"Estimate: points above the better of the two, in the variant where they are fewest; {said}."
    if not named:
        note += (
            " No pair of CLIP and DINOv2: the baseline's best pair stands for it, chosen on these questions."
        )
    statement = f"The pair {pair} beats either encoder alone in every variant."
    bounds, evidence = (low[least], high[least]), _row(found, least, pair)
    return claim_of("4a", statement, lead[least], bounds, verdict, evidence, note)


def levels_beat_last(found: Comparison) -> Claim:
    """4b: several layers of each encoder beat the last alone."""
    base = found.stage.variants[found.base]
    statement = "Fusing a low and a high layer of each encoder beats the last layer alone."

    def fuses(row: VariantRow) -> bool:
        same = row.train_encoders == base.train_encoders
        return same and row.levels > base.levels and row.connector in (base.connector, "multi_level")

    return _beats(found, "4b", statement, fuses, "one layer of each encoder against several")


def simple_suffices(found: Comparison) -> Claim:
    """5: no connector with attention is ahead of the simple baseline by more than the margin."""
    base, margin = found.stage.variants[found.base], found.stage.statistics.margin
    statement = "Simple connectors suffice against cross-attention, a resampler or a small ViT."
    rivals = [
        i
        for i in found.others
        if (row := found.stage.variants[i]).connector in ATTENTION
        and (row.levels, row.train_encoders) == (base.levels, base.train_encoders)
    ]
    if base.connector not in SIMPLE or not rivals:
        return untested("5", statement, "no simple baseline, or no connector with attention")
    ahead, drawn = found.over(rivals, found.base)
    low, high = interval(drawn, found.stage.statistics.level)
    p = holm(two_sided_p(ahead - margin, drawn))
    beaten = bool(((ahead > margin) & (p < found.alpha)).any())
    verdict = FAILS if beaten else HOLDS if (high < margin).all() else OPEN
    best = int(ahead.argmax())
    note = (
        f"Estimate: points by which the best of them, {found.stage.variants[rivals[best]].name}, is ahead of "
        f"{base.name}, mean over subsets; they suffice if none is ahead by {margin:g} or more."
    )
    evidence = _row(found, rivals[best], MEAN)
    return claim_of("5", statement, ahead[best], (low[best], high[best]), verdict, evidence, note)


def trained_beat_frozen(found: Comparison) -> Claim:
    """6: training the encoders scores higher than freezing them."""
    base = found.stage.variants[found.base]
    statement = "Trained encoders score higher than frozen ones."

    def other_way(row: VariantRow) -> bool:
        same = (row.connector, row.levels) == (base.connector, base.levels)
        return same and row.train_encoders != base.train_encoders

    sign = -1 if base.train_encoders else 1
    return _beats(found, "6", statement, other_way, "frozen encoders against trained ones", sign)


def _beats(
    found: Comparison,
    number: str,
    statement: str,
    which: Callable[[VariantRow], bool],
    needed: str,
    sign: int = 1,
) -> Claim:
    """Whether some of the variants beat the baseline (with sign -1: are beaten), under Holm's correction."""
    chosen = [i for i in found.others if which(found.stage.variants[i])]
    if not chosen:
        return untested(number, statement, f"no variant that differs in this alone: {needed}")
    gap, drawn = found.over(chosen, found.base)
    ahead, drawn = sign * gap, sign * drawn
    p = holm(two_sided_p(ahead, drawn))
    beaten, behind = ((ahead > 0) & (p < found.alpha)).any(), ((ahead < 0) & (p < found.alpha)).all()
    verdict = HOLDS if beaten else FAILS if behind else OPEN
    best = int(ahead.argmax())
    name, base = found.stage.variants[chosen[best]].name, found.stage.baseline
    one, other = (name, base) if sign > 0 else (base, name)
    note = f"Estimate: points of {one} over {other}, mean over subsets."
    if len(chosen) > 1:
        note += f" The best of {len(chosen)}; the verdict takes all, under Holm's correction."
    bounds = found.bounds(drawn[:, best])
    return claim_of(number, statement, ahead[best], bounds, verdict, _row(found, chosen[best], MEAN), note)


def worth_their_cost(found: Comparison) -> list[Claim]:
    """7: of every variant, whether it gains the margin per doubling of the baseline's training FLOPs, or
    loses less than that where it takes fewer."""
    if not found.others:
        return []
    margin = found.stage.statistics.margin
    ratio = np.array([found.cost(i, "flops") for i in found.others]) / found.cost(found.base, "flops")
    gap, drawn = found.over(found.others, found.base)
    price = margin * np.log2(ratio)
    points = "a point" if margin == 1 else f"{margin:g} points"
    value, value_draws = gap - price, drawn - price
    p = holm(two_sided_p(value, value_draws))
    claims = []
    for k, variant in enumerate(found.others):
        name, base = found.stage.variants[variant].name, found.stage.baseline
        statement = f"{name} is worth its cost against {base}: {points} per doubling of the training FLOPs."
        low, high = found.bounds(value_draws[:, k])
        sure = p[k] < found.alpha
        verdict = by_interval(low, high, 0.0) if sure else OPEN
        words = ", ".join(f"{factor:.3g} times the {word}" for word, factor in _factors(found, variant))
        note = f"Estimate: points beyond that price. {gap[k]:+.2f} points, mean over subsets, at {words}."
        evidence = _row(found, variant, MEAN)
        claims.append(claim_of("7", statement, value[k], (low, high), verdict, evidence, note))
    return claims


def _factors(found: Comparison, variant: int) -> list[tuple[str, float]]:
    """What a variant costs in units of the baseline, mean over subsets."""
    words = {"parameters": "parameters", "flops": "training FLOPs"}
    words |= {"train_seconds": "training seconds", "predict_seconds": "prediction seconds"}
    base = {cost: found.cost(found.base, cost) for cost in words}
    return [(word, found.cost(variant, c) / base[c]) for c, word in words.items() if base[c] > 0]


def _row(found: Comparison, variant: int, subset: str) -> dict[str, Any]:
    name = found.stage.variants[variant].name
    return {"file": "variants.csv", "row": {"variant": name, "subset": subset, "level": "overall"}}


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
    found = compare(
        [read_scores(file) for file in scores],
        [read_costs(file, stage.pool, stage.study) for file in costs],
        stage,
    )
    write_table(output, variant_table(found))
    write_json(claims, judge_variants(found))
