"""One score per subset and seed, from any table that `analyse-scores` reads or a table of subsets.

A table of subsets has a column of subsets and one of scores, and often standard errors or intervals. Each
level of a study's scores.csv is one too. Names, numbers and scales are read as in the tables
of `read_external_scores`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from encoder_roles.analysis.external.aliases import encoder_notes, match_benchmark, squeeze
from encoder_roles.analysis.external.columns import load_table, role_of
from encoder_roles.analysis.external.numbers import have_percent, read_numbers
from encoder_roles.analysis.external.scales import find_scales
from encoder_roles.analysis.external.tables import (
    ExternalScores,
    check_pool_size,
    leave_rows_out,
    name_models,
    read_external_scores,
    require_numbers,
)
from encoder_roles.analysis.statistics import build_score_arrays
from encoder_roles.study.names import GROUPS, NO_MASK, StudyError
from encoder_roles.study.sections import StatisticsSettings

ERRORS = ("standard_error", "low", "high")
RESAMPLING = StatisticsSettings(resamples=2000, level=0.95, seed=0, overall="benchmarks")


@dataclass(frozen=True)
class SubsetScores:
    """The scores of models that keep all their encoders.

    Attributes:
        table: a row per subset and seed: trained (the encoders), seed, score (0-100), row (of the file) and
            those of standard_error, low and high (points) that the file has.
        notes: conversions, a sentence each.
    """

    table: pd.DataFrame
    notes: tuple[str, ...]


def read_subset_scores(
    scores: Path | str | pd.DataFrame,
    level: str = "overall",
    pool: Sequence[str] = (),
    scales: Mapping[str, float] | None = None,
    leave_out: Sequence[int] = (),
) -> SubsetScores:
    """Read the scores of a level: overall, a group's name or a benchmark's.

    Args:
        scores: a CSV or parquet file, or a frame.
        level: the level, if the table has several. A table of benchmarks gives their mean.
        pool: the encoders that may occur; any if empty.
        scales: benchmark (or `score`) -> its greatest score, where the table does not show it.
        leave_out: rows of the table, counted from 1 below the head without empty rows, that are not read.

    Raises:
        StudyError: one line that names the column or row and what to do.
    """
    frame, where = load_table(scores)
    roles = {role_of(column): column for column in reversed(frame.columns)}
    if "level" not in roles and ("score" not in roles or "benchmark" in roles):
        external = read_external_scores(scores, pool, leave_out, scales=scales)
        return _mean_over_benchmarks(external, level, where)
    if missing := [role for role in ("subset", "score") if role not in roles]:
        raise StudyError(f"{where}: no column {missing[0]!r}; it has {', '.join(frame.columns)}")
    _refuse_twins(frame, where)
    table = frame[[column for role, column in roles.items() if role is not None]]
    table = table.rename(columns={column: role for role, column in roles.items() if role is not None})
    table = table.rename(columns={"training_seed": "seed"})
    table.insert(0, "row", np.arange(1, len(table) + 1))
    table, notes = leave_rows_out(table, leave_out, where)
    read = _read_level(table, level, pool, scales or {}, where)
    return replace(read, notes=(*read.notes, *notes))


def _refuse_twins(frame: pd.DataFrame, where: str) -> None:
    """Refuse two columns of one role."""
    names: dict[str, str] = {}
    for column in frame.columns:
        role = role_of(column)
        if role in names and role != "ignored":
            raise StudyError(f"{where}: columns {names[role]!r} and {column!r} are both {role}; remove one")
        names[role or ""] = column


def _read_level(
    table: pd.DataFrame, level: str, pool: Sequence[str], scales: Mapping[str, float], where: str
) -> SubsetScores:
    """The rows of a level of a table of subsets, without masked models."""
    if "operator" in table.columns:
        operator = table["operator"].fillna(NO_MASK).map(lambda o: str(o).strip().lower())
        table = table.loc[operator == NO_MASK].drop(columns=["operator", "mask"], errors="ignore")
    if "benchmark" in table.columns:
        benchmark = table["benchmark"].map(str)
        at = (benchmark.map(squeeze) == squeeze(match_benchmark(level) or level)).to_numpy()
        if not at.any():
            known = ", ".join(dict.fromkeys(benchmark))
            raise StudyError(f"{where}: no row of {level!r}; known are {known}")
        table = table.loc[at]
    if table.empty:
        raise StudyError(f"{where}: no row of a model without a mask")
    table = table.reset_index(drop=True).assign(benchmark=level)
    numbers = read_numbers(table, ("score", "seed", *ERRORS), where)
    for column in ("score", "seed", "standard_error"):
        if column in table.columns:
            require_numbers(table, numbers, column, where)
    if "standard_error" in numbers.columns and (negative := numbers["standard_error"] < 0).any():
        row = table.loc[negative].iloc[0]
        raise StudyError(f"{where}: row {row['row']}: standard_error is negative; correct it")
    named = name_models(numbers, pool, where)
    units = numbers.assign(model=numbers["subset"], unit=np.arange(len(numbers)))
    factor, notes = find_scales(units, have_percent(table["score"]), scales, where)
    for column in ("score", *ERRORS):
        if column in named.columns:
            named[column] = named[column] * factor
    encoders = dict.fromkeys(encoder for trained in named["trained"] for encoder in trained)
    check_pool_size(named, [*encoders], where)
    return SubsetScores(_once(named, where), (*encoder_notes([*encoders]), *notes))


def _mean_over_benchmarks(external: ExternalScores, level: str, where: str) -> SubsetScores:
    """The mean over the benchmarks of a level, for each model of a table of benchmarks."""
    table = external.table[external.table["operator"] == NO_MASK]
    groups = {squeeze(group): group for group in GROUPS} | {squeeze(g): g for g in table["group"].unique()}
    if squeeze(level) != "overall":
        benchmark, group = match_benchmark(level) or level, groups.get(squeeze(level))
        rows = table[(table["benchmark"] == benchmark) | (table["group"] == group)]
        if rows.empty:
            known = dict.fromkeys(["overall", *table["group"], *table["benchmark"]])
            raise StudyError(f"{where}: no row of {level!r}; known are {', '.join(known)}")
        table = rows
    means = table.groupby(["subset", "seed"], sort=False)["score"].mean().reset_index()
    means["trained"] = [tuple(e for e in external.pool if e in s.split("+")) for s in means["subset"]]
    errors = _errors_of_means(external, table)
    if errors is not None:
        of_model = errors.reindex(pd.MultiIndex.from_frame(means[["subset", "seed"]]))
        means["standard_error"] = of_model.to_numpy()
    return SubsetScores(means, external.notes)


def _errors_of_means(external: ExternalScores, table: pd.DataFrame) -> pd.Series[float] | None:
    """The standard error of the mean over the rows of each (subset, seed), in points; None if none is known.

    From the questions of the table by the study's bootstrap, else binomial from the numbers of questions.
    """
    if external.questions is not None:
        unmasked = external.questions[external.questions["operator"] == NO_MASK]
        chosen = unmasked[unmasked["benchmark"].isin(table["benchmark"])]
        arrays = build_score_arrays(chosen, RESAMPLING)
        spread = arrays.draws.mean(axis=2).std(axis=0)
        return pd.Series(spread, pd.MultiIndex.from_frame(arrays.models[["subset", "seed"]]))
    if table["n"].isna().any():
        return None
    variance = table["score"] * (100 - table["score"]) / table["n"]
    of_model = variance.groupby([table["subset"], table["seed"]], sort=False)
    errors: pd.Series[float] = of_model.sum() ** 0.5 / of_model.size()
    return errors


def _once(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """The table, in which no set of encoders has a seed twice."""
    key = list(zip(map(frozenset, table["trained"]), table["seed"], strict=True))
    first: dict[tuple[frozenset[str], int], int] = {}
    for place, model in enumerate(key):
        if model in first:
            one, two = table.iloc[first[model]], table.iloc[place]
            raise StudyError(
                f"{where}: subset {two['model']!r} appears twice (rows {one['row']} and {two['row']}, seed "
                f"{two['seed']}); keep one row, or give their seeds"
            )
        first[model] = place
    return table
