"""The two forms of an external table as rows: wide (a column per benchmark) and tidy (a row per score).

A table that has only means is read by its means: of groups if it has any, else the overall one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from encoder_roles.analysis.external.aliases import match_benchmark, squeeze
from encoder_roles.analysis.external.columns import NamedColumns, average_of, is_role
from encoder_roles.analysis.external.numbers import read_numbers
from encoder_roles.study.names import StudyError

OVERALL = "overall"


@dataclass(frozen=True)
class ScoreRows:
    """The scores of a table, a row each.

    Attributes:
        rows: row (of the file), the columns that name a model, benchmark, score; group and n where stated.
        stated: row, and for each mean that a wide table states a column `overall` or that of a group.
        only_means: whether the scores are means, because the table has no benchmark.
    """

    rows: pd.DataFrame
    stated: pd.DataFrame
    only_means: bool


def read_rows(named: NamedColumns, where: str) -> ScoreRows:
    """The scores of a table whose columns are named and whose rows are numbered. Raises StudyError."""
    return _read_tidy(named.frame, where) if named.tidy else _read_wide(named, where)


def _read_wide(named: NamedColumns, where: str) -> ScoreRows:
    """A wide table; its rows `n` and `group` say the same of a whole column."""
    frame = named.frame
    scored = {column: column for column in named.benchmarks} or _means(named.averages)
    if not scored:
        raise StudyError(
            f"{where}: no column holds scores of a benchmark or their mean, and none are called `benchmark` "
            f"and `score` (found: {', '.join(map(str, frame.columns[1:]))})"
        )
    by_row = {}
    for role, meaning in (("n", "how many questions each benchmark has"), ("group", "their groups")):
        at = np.array([is_role(label, role) for label in frame["subset"]], dtype=bool)
        if at.sum() > 1:
            raise StudyError(f"{where}: two rows are called {role}; one says {meaning}")
        if at.any() and role in frame.columns:
            raise StudyError(f"{where}: both a row {role} and a column {role}; remove one")
        if at.any():
            by_row[role] = frame.loc[at, list(scored)].iloc[0].rename(scored)
        frame = frame[~at]
    keys = [c for c in frame.columns if c not in {*named.benchmarks, *named.averages.values()}]
    renamed = frame[[*keys, *scored]].rename(columns=scored)
    rows = renamed.melt(keys, list(scored.values()), var_name="benchmark", value_name="score")
    rows = rows.assign(**{role: rows["benchmark"].map(cells) for role, cells in by_row.items()})
    only_means = not named.benchmarks
    if only_means:
        rows["group"] = rows["benchmark"].replace(OVERALL, "")
    means = frame[["row", *named.averages.values()]].rename(columns={c: k for k, c in named.averages.items()})
    stated = read_numbers(means, list(named.averages), where)
    return ScoreRows(rows.sort_values("row", kind="stable").reset_index(drop=True), stated, only_means)


def _means(averages: dict[str, str]) -> dict[str, str]:
    """The columns to read in place of benchmarks: means of groups, else the overall one."""
    of_groups = {column: name for name, column in averages.items() if name != OVERALL}
    return of_groups or {column: name for name, column in averages.items()}


def _read_tidy(frame: pd.DataFrame, where: str) -> ScoreRows:
    """A tidy table; rows of averages, as in scores.csv, are computed again if it has benchmarks."""
    names = {name: match_benchmark(name) for name in frame["benchmark"].unique()}
    mean_of = {name: average_of(name) for name, match in names.items() if match is None}
    level = frame["benchmark"].map(lambda name: _level(mean_of.get(name)))
    if "level" in frame.columns:
        level = frame["level"].map(lambda cell: squeeze(cell)).where(frame["level"].notna(), level)
    kept = next((kind for kind in ("benchmark", "group", OVERALL) if (level == kind).any()), None)
    if kept is None:
        raise StudyError(f"{where}: level is none of benchmark, group, overall in any row; correct it")
    rows = frame[level == kept].drop(columns="level", errors="ignore").copy()
    if kept == "benchmark":
        first: dict[str, str] = {}  # POPE and pope are one
        rows["benchmark"] = [
            names[name] or first.setdefault(squeeze(name), str(name)) for name in rows["benchmark"]
        ]
    else:
        rows["benchmark"] = [mean_of.get(name) or str(name) for name in rows["benchmark"]]
        rows["group"] = "" if kept == OVERALL else rows["benchmark"]
    return ScoreRows(rows, pd.DataFrame({"row": []}), kept != "benchmark")


def _level(mean_of: str | None) -> str:
    return "benchmark" if mean_of is None else OVERALL if mean_of == OVERALL else "group"
