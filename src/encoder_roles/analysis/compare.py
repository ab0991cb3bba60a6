"""`encoder-roles compare-studies`: differences of scores and roles between two studies, with intervals.

Resamples of a benchmark are drawn from a stream of its own. Where both studies asked the same questions they
are therefore the same, and the difference is paired. Elsewhere, and between training seeds, they are
independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from encoder_roles.analysis.lattice import Lattice, LatticeSet, arrange_lattices, subset_name
from encoder_roles.analysis.measures.roles import WHOLE_POOL, Measure, measures_of
from encoder_roles.analysis.statistics import build_score_arrays
from encoder_roles.analysis.tables import long_table, read_scores
from encoder_roles.provenance import write_table
from encoder_roles.study.names import NONE_KEPT, StudyError, name_subset
from encoder_roles.study.stages import RoleStage, read_settings

KEYS = ["level", "group", "benchmark", "operator", "measure", "item"]
VALUES = ["first", "second", "difference", "low", "high"]
QUESTION = ["benchmark", "question", "cluster", "weight"]


@dataclass(frozen=True)
class Comparison:
    """What two studies have in common.

    Attributes:
        pool: the encoders of both, in the first study's order.
        table: a row per level, operator, measure and item (a subset or an encoder): `first` and `second` are
            the studies' values, `difference` is second - first in points, with its interval.
        benchmarks, paired: those of both, and those with the same questions in both.
        seeds: the training seeds of each study.
        level: the confidence level of the intervals.
    """

    pool: tuple[str, ...]
    table: pd.DataFrame
    benchmarks: tuple[str, ...]
    paired: tuple[str, ...]
    seeds: tuple[int, int]
    level: float


def compare_studies(first: Path, second: Path, /, *, output: Path | None = None) -> None:
    """Print how scores and roles differ between two studies, with intervals that are paired where possible.

    Args:
        first: results/<study> of one study.
        second: results/<study> of the other; differences are this one minus the first.
        output: also write all levels, masks and measures as a CSV file.
    """
    if first.resolve() == second.resolve():
        raise StudyError(f"{first}: given twice; name two studies")
    studies = [
        (read_scores(folder / "scores.parquet"), read_settings(folder / "settings/roles.json", RoleStage))
        for folder in (first, second)
    ]
    comparison = compare(*studies[0], *studies[1])
    if output is not None:
        write_table(output, comparison.table)
    print(describe(comparison, str(first), str(second)))


def compare(
    first: pd.DataFrame, first_settings: RoleStage, second: pd.DataFrame, second_settings: RoleStage
) -> Comparison:
    """Compare two tables of scores (columns of scores.parquet), with the first study's statistics.

    Raises:
        StudyError: the studies share fewer than two encoders, no benchmark, or no subset.
    """
    pool = tuple(e for e in first_settings.pool if e in second_settings.pool)
    if len(pool) < 2:
        raise StudyError(f"the studies share {len(pool)} encoders, and roles need two; compare others")
    shared = set(first["benchmark"]) & set(second["benchmark"])
    if not shared:
        raise StudyError("the studies share no benchmark; compare others")
    tables = [
        _within(scores[scores["benchmark"].isin(shared)], settings.pool, pool)
        for scores, settings in ((first, first_settings), (second, second_settings))
    ]
    paired = [name for name in sorted(shared) if _same_questions(tables[0], tables[1], name)]
    settings = first_settings.model_copy(update={"pool": pool})
    lattices = [_lattices(tables[0], settings, 0, []), _lattices(tables[1], settings, 1, paired)]
    rows = _differences(*lattices)
    if rows.empty:
        raise StudyError("the studies share no subset; compare others")
    order = [str(b) for b in lattices[0].levels.query("level == 'benchmark'")["benchmark"]]
    seeds = (lattices[0].seeds, lattices[1].seeds)
    same = tuple(b for b in order if b in paired)
    return Comparison(pool, rows, tuple(order), same, seeds, settings.statistics.level)


def _within(scores: pd.DataFrame, own: Sequence[str], pool: tuple[str, ...]) -> pd.DataFrame:
    """The rows of models and masks whose encoders are all in the pool, named in its order."""
    outside = set(own) - set(pool)
    names = {name for column in ("subset", "mask") for name in scores[column].unique()}
    renamed = {
        name: name if name == NONE_KEPT else name_subset(frozenset(name.split("+")), pool)
        for name in names
        if not outside & set(name.split("+"))
    }
    kept = scores[scores["subset"].isin(renamed) & scores["mask"].isin(renamed)]
    return kept.assign(subset=kept["subset"].map(renamed), mask=kept["mask"].map(renamed))


def _same_questions(first: pd.DataFrame, second: pd.DataFrame, benchmark: str) -> bool:
    """Whether both studies asked the same questions, in the same clusters and with the same weights."""
    asked = [
        table.loc[table["benchmark"] == benchmark, QUESTION].drop_duplicates() for table in (first, second)
    ]
    one, two = (table.sort_values(QUESTION).reset_index(drop=True) for table in asked)
    return len(one) > 0 and one.equals(two)


def _lattices(scores: pd.DataFrame, settings: RoleStage, study: int, paired: Sequence[str]) -> LatticeSet:
    """A study's lattices; the second one's resamples are its own, except those of paired benchmarks."""
    if scores.empty:
        raise StudyError("the studies share no model; compare others")
    statistics = settings.statistics
    own = statistics.model_copy(update={"seed": statistics.seed + study})
    arrays = build_score_arrays(scores, statistics)
    for place, benchmark in enumerate(arrays.benchmarks["benchmark"] if study else ()):
        if benchmark not in paired:
            alone = build_score_arrays(scores[scores["benchmark"] == benchmark], own)
            arrays.draws[..., place] = alone.draws[..., 0]
    return arrange_lattices(arrays, settings.model_copy(update={"statistics": own}))


def _differences(first: LatticeSet, second: LatticeSet) -> pd.DataFrame:
    """The rows of `Comparison.table`, of what both studies measured."""
    others = {lattice.operator: lattice for lattice in second.all}
    tables = [
        _difference_rows(lattice, others[lattice.operator], first)
        for lattice in first.all
        if lattice.operator in others
    ]
    rows = pd.concat(tables, ignore_index=True).dropna(subset="difference")
    return rows[[*KEYS, *VALUES]].reset_index(drop=True)


def _difference_rows(one: Lattice, two: Lattice, lattices: LatticeSet) -> pd.DataFrame:
    """Differences of the scores and of every role measure of one operator."""
    subsets = [subset_name(i, one.pool) for i in range(one.full + 1)]
    measures: dict[str, tuple[list[str], Measure]] = {"score": (subsets, lambda values: values)}
    for name, measure in measures_of(one).items():
        measures[name] = ([WHOLE_POOL] if name == "information_gap" else list(one.pool), measure)
    tables = []
    for name, (items, measure) in measures.items():
        value, other = measure(one.point), measure(two.point)
        draws, other_draws = measure(one.draws), measure(two.draws)
        low, high = lattices.bounds(other_draws - draws)
        cells = dict(zip(VALUES, (value, other, other - value, low, high), strict=True))
        table = long_table([lattices.levels[["level", "group", "benchmark"]], {"item": items}], cells)
        tables.append(table.assign(operator=one.operator, measure=name))
    return pd.concat(tables, ignore_index=True)


def describe(comparison: Comparison, first: str, second: str) -> str:
    """The overall differences of retrained scores and roles as text."""
    table = comparison.table
    overall = table[(table["level"] == "overall") & (table["operator"] == "retrained")]
    shown = overall[overall["measure"].isin(("score", "capacity", "necessity"))]
    rows = [
        (measure, item, f"{one:.1f}", f"{two:.1f}", _difference_text(difference, low, high))
        for measure, item, one, two, difference, low, high in shown[["measure", "item", *VALUES]].itertuples(
            index=False, name=None
        )
    ]
    text = pd.DataFrame(rows, columns=["measure", "of", "first", "second", "difference"])
    beyond = (table["low"] > 0) | (table["high"] < 0)
    common, same = len(comparison.benchmarks), len(comparison.paired)
    by_chance = int(np.ceil((1 - comparison.level) * len(table)))
    return "\n".join(
        [
            f"first {first}, second {second}; differences are second - first, in points, * without 0",
            f"{common} benchmarks in both, {same} with the same questions (paired); encoders "
            f"{', '.join(comparison.pool)}",
            _seed_sentence(comparison.seeds),
            "",
            text.to_string(index=False),
            "",
            f"all levels, masks and measures: {int(beyond.sum())} of {len(table)} intervals are without 0; "
            f"about {by_chance} would be if nothing differed",
        ]
    )


def _difference_text(difference: float, low: float, high: float) -> str:
    """`+1.2 [0.3, 2.1] *`: the star marks an interval without 0."""
    return f"{difference:+.1f} [{low:.1f}, {high:.1f}]" + " *" * bool(low > 0 or high < 0)


def _seed_sentence(seeds: tuple[int, int]) -> str:
    """What the intervals say about training seeds."""
    counted = f"training seeds: {seeds[0]} and {seeds[1]}"
    if min(seeds) > 1:
        return f"{counted}; intervals contain the noise between them"
    return (
        f"{counted}; with one seed its noise is not in the intervals, so a difference may be that of a seed"
    )
