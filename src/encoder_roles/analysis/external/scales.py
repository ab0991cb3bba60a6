"""The scale of every score of an external table, decided by row and column from evidence.

A score is in points (0-100), a fraction (0-1), or a benchmark's total (MME of 2,000, OCRBench of 1,000). A
percent sign or a stated scale decides. Otherwise these rules do, and what they leave open is refused:

- a row of three or more scores, none of them zero or above 1, holds fractions;
- a benchmark with a score above 100 is given in totals. Scores below 100 are totals too if all are whole
  numbers and the total counts questions (OCRBench);
- a score is unclear if it is at most 1, far below the others of its column, and like them as a fraction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from encoder_roles.analysis.external.aliases import match_benchmark, squeeze
from encoder_roles.study.names import BENCHMARKS, StudyError

TOTALS = {"mme": 2000.0, "ocrbench": 1000.0}  # the greatest score of benchmarks also published as a total
COUNTED = ("ocrbench",)  # totals that count correct answers, so that every total is a whole number
EVIDENCE = 3  # scores of a row that show its scale, or of a column that show its totals

Flags = npt.NDArray[np.bool_]


def find_scales(
    table: pd.DataFrame, percent: Flags, scales: Mapping[str, float], where: str
) -> tuple[npt.NDArray[np.float64], list[str]]:
    """The factor that turns each score into points, and a sentence per conversion.

    Args:
        table: columns row, model, benchmark, score (finite), unit (what has one score per benchmark: a
            model; -1 for rows of questions).
        percent: which scores have a percent sign, (rows,).
        scales: benchmark (or `score` for all others) -> the greatest possible score, as the user states it.
        where: what error messages call the table.

    Raises:
        StudyError: one line that names the row of a score outside its scale, or of an unclear one.
    """
    stated = stated_scales(table, scales, where)
    score, known = table["score"].to_numpy(float), ~np.isnan(stated)
    benchmark = table["benchmark"].astype(str)
    most = np.where(known, stated, benchmark.map(TOTALS).fillna(100.0))
    most = np.where(percent & ~known, 100.0, most)
    for place in np.flatnonzero((score < 0) | (score > most)):
        raise _refusal(table, place, _outside(benchmark.iloc[place], most[place], bool(known[place])), where)
    factor = np.where(known, 100 / np.where(known, stated, 100.0), 1.0)
    fractions = _fraction_rows(table, known | percent)
    factor[fractions] = 100.0
    notes = _fraction_notes(table, fractions)
    decimals = _with_decimals(table, fractions)
    for name in dict.fromkeys(benchmark):
        at = (benchmark == name).to_numpy() & ~fractions & ~known
        free = at & ~percent
        if (score[free] > 100).any():
            notes.append(_check_totals(table, free, name, where))
            factor[free] = 100 / TOTALS[name]
        elif free.any():
            _check_points(table, at, free, name, decimals, where)
    notes += [f"{name}: read on 0-{scale:g}, as scales says." for name, scale in scales.items()]
    return factor, notes


def stated_scales(table: pd.DataFrame, scales: Mapping[str, float], where: str) -> npt.NDArray[np.float64]:
    """The stated scale of every score; NaN where none is stated. Raises StudyError on an unusable one."""
    present = {squeeze(name): str(name) for name in table["benchmark"].unique()}
    by_name: dict[str, float] = {}
    for key, scale in scales.items():
        name = match_benchmark(key) or present.get(squeeze(key), squeeze(key))
        if name not in present.values() and name != "score":
            raise StudyError(
                f"{where}: scales: {key!r} is no benchmark of the table; it has {', '.join(present.values())}"
            )
        if not 0 < scale < np.inf:
            raise StudyError(
                f"{where}: scales: {key!r}: {scale:g} is no greatest score; give 1, 100, 1000 ..."
            )
        by_name[name] = float(scale)
    default = by_name.get("score", np.nan)
    return np.array([by_name.get(str(name), default) for name in table["benchmark"]], dtype=float)


def _fraction_rows(table: pd.DataFrame, decided: Flags) -> Flags:
    """Which scores are in a row of fractions: several scores, none of them zero or above 1."""
    free = table.loc[~decided & (table["unit"].to_numpy() >= 0), ["unit", "score", "benchmark"]]
    rows = free.groupby("unit").agg(
        low=("score", "min"), high=("score", "max"), benchmarks=("benchmark", "nunique")
    )
    fractions = rows[(rows["low"] > 0) & (rows["high"] <= 1) & (rows["benchmarks"] >= EVIDENCE)]
    return table["unit"].isin(fractions.index).to_numpy() & ~decided


def _fraction_notes(table: pd.DataFrame, fractions: Flags) -> list[str]:
    if not fractions.any():
        return []
    models = table[fractions].drop_duplicates("unit")
    named = [f"{row} ({model})" for row, model in zip(models["row"], models["model"], strict=True)]
    return [f"rows {', '.join(named)}: no score is above 1: read as fractions, times 100."]


def _with_decimals(table: pd.DataFrame, fractions: Flags) -> set[str]:
    """The benchmarks with a score that is no whole number."""
    broken = (table["score"].to_numpy(float) % 1 != 0) & ~fractions
    return set(table["benchmark"][broken].astype(str))


def _check_totals(table: pd.DataFrame, free: Flags, name: str, where: str) -> str:
    """The note on a benchmark given in totals. Raises StudyError if a score may be in points instead."""
    score, most = table["score"].to_numpy(float), TOTALS[name]
    below = free & (score > 0) & (score <= 100)
    whole = name in COUNTED and not (score[free] % 1).any()
    if below.any() and not whole:
        odd = below & (score % 1 != 0) if name in COUNTED else below
        place = int(np.flatnonzero(odd if odd.any() else below)[0])
        why = f"{name} is given on 0-100 here and on 0-{most:g} in other rows; use one scale"
        raise _refusal(table, place, f"{why}, or state it (scales: {name} {most:g})", where)
    note = f"{name}: given on 0-{most:g}, divided by {most / 100:g}."
    if below.any():
        rows = ", ".join(str(row) for row in dict.fromkeys(table["row"][below]))
        note += f" Scores of at most 100 are such totals too, because all are whole numbers (rows {rows})."
    return note


def _check_points(
    table: pd.DataFrame, at: Flags, free: Flags, name: str, decimals: set[str], where: str
) -> None:
    """Raise StudyError if scores of a benchmark may be fractions or totals instead of points."""
    score = table["score"].to_numpy(float)
    first = int(np.flatnonzero(free)[np.argmax(score[free] > 0)])
    if 0 < score[at].max() <= 1:
        why = f"benchmark {name}: no score is above 1, so they look like fractions; multiply by 100"
        raise _refusal(table, first, f"{why}, or state the scale (scales: {name} 1)", where)
    positive = score[free & (score > 0)]
    if name in COUNTED and name not in decimals and decimals and positive.size >= EVIDENCE:
        why = f"{name} has whole numbers of at most 100 only, which may be of 100 or of {TOTALS[name]:g}"
        raise _refusal(table, first, f"{why}; state the scale (scales: {name} {TOTALS[name]:g})", where)
    others = score[at & (score > 1)]
    small = free & (score > 0) & (score <= 1) & (table["unit"].to_numpy() >= 0)
    if others.size:
        like = (score < others.min() / 10) & (100 * score >= others.min() / 2)
        small &= like & (100 * score <= 2 * others.max())
        for place in np.flatnonzero(small):
            points = f"{100 * score[place]:g} points"
            why = f"score {score[place]:g} of {name} may be in points, or a fraction ({points})"
            raise _refusal(table, place, f"{why}; write all scores of {name} on one scale", where)


def _outside(benchmark: str, most: float, stated: bool) -> str:
    scale = f"0-{most:g}" if stated or most == 100 else f"0-100 and 0-{most:g}"
    own = not stated and benchmark not in BENCHMARKS
    advice = f"; state its greatest score (scales: {benchmark} 1000), or remove the column" if own else ""
    return f"score of {benchmark} is outside {scale}{advice}"


def _refusal(table: pd.DataFrame, place: int | np.integer[Any], why: str, where: str) -> StudyError:
    row = table.iloc[int(place)]
    return StudyError(f"{where}: row {row['row']} ({row['model']}, {row['benchmark']}): {why}")
