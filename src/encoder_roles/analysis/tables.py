"""The three input tables of the analysis, read and checked: scores per question, ranks, costs.

Nothing is repaired. A table that could give a wrong number is an error of one line that names the row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from encoder_roles.study.names import (
    BENCHMARKS,
    BLIND,
    GROUPS,
    NO_MASK,
    NONE_KEPT,
    StudyError,
    name_subset,
    parse_subset,
)

SCORE_COLUMNS = (
    "study",
    "subset",
    "seed",
    "mask",
    "operator",
    "benchmark",
    "group",
    "question",
    "cluster",
    "score",
    "weight",
    "unparsable",
)
MODEL = ["subset", "seed", "mask", "operator"]  # what names one evaluated model
PRETRAINED = "pretrained"  # the subset of ranks.csv rows measured before any training


def read_scores(path: Path) -> pd.DataFrame:
    """Read scores.parquet and check it, as `check_scores` does. Raises StudyError."""
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: not a readable parquet file: {error}") from error
    check_scores(frame, where=str(path))
    return frame


def check_scores(frame: pd.DataFrame, where: str = "scores") -> None:
    """Refuse missing columns, NaN, scores outside 0-100, mixed studies, duplicate or missing rows."""
    _require_columns(frame, SCORE_COLUMNS, where)
    if frame.empty:
        raise StudyError(f"{where}: no rows; score some predictions first")
    for column in SCORE_COLUMNS:
        _refuse_rows(frame, frame[column].isna(), f"column {column!r} is empty or NaN", where)
    if (studies := frame["study"].unique()).size > 1:
        raise StudyError(f"{where}: rows of several studies {sorted(studies)}; give one study's rows")
    score, weight = frame["score"].to_numpy(float), frame["weight"].to_numpy(float)
    _refuse_rows(frame, (score < 0) | (score > 100), "score is outside 0-100", where)
    _refuse_rows(frame, ~(np.isfinite(weight) & (weight > 0)), "weight is not a positive number", where)
    unmasked = frame["operator"].to_numpy() == NO_MASK
    expected = frame["subset"].where(frame["subset"] != BLIND, NONE_KEPT)
    wrong = unmasked & (frame["mask"] != expected).to_numpy()
    _refuse_rows(frame, wrong, f"operator {NO_MASK!r} but the mask is not the subset", where)
    _check_questions(frame, where)


def _check_questions(frame: pd.DataFrame, where: str) -> None:
    """Every model answers the same questions once; a question has one cluster and a benchmark one group."""
    model, models = number(frame, MODEL)
    benchmark, benchmarks = number(frame, ["benchmark"])
    question, questions = number(frame, ["benchmark", "question"])
    repeated = pd.Series(model * len(questions) + question).duplicated().to_numpy()
    _refuse_rows(frame, repeated, "duplicate row: this model answers this question twice", where)
    expected = np.bincount(number(questions, ["benchmark"])[0], minlength=len(benchmarks))
    answered = np.bincount(model * len(benchmarks) + benchmark, minlength=len(models) * len(benchmarks))
    answered = answered.reshape(len(models), len(benchmarks))
    if (answered != expected).any():
        m, b = (int(i) for i in np.argwhere(answered != expected)[0])
        raise StudyError(
            f"{where}: {_row(models.iloc[m])}, benchmark {benchmarks['benchmark'].iloc[b]}: {answered[m, b]} "
            f"of the {expected[b]} questions other models answer; score this model on all of them"
        )
    if len(number(frame, ["benchmark", "question", "cluster"])[1]) > len(questions):
        raise StudyError(f"{where}: a question stands in two clusters; one cluster id per question is needed")
    if len(number(frame, ["benchmark", "group"])[1]) > len(benchmarks):
        raise StudyError(f"{where}: a benchmark stands in two groups; one group per benchmark is needed")


def check_pool(frame: pd.DataFrame, pool: Sequence[str], study: str, where: str) -> None:
    """Refuse rows of another study, of encoders outside the pool, without the full pool, or lacking seeds."""
    if (name := frame["study"].iloc[0]) != study:
        raise StudyError(f"{where}: rows of study {name!r}, but the settings are those of {study!r}")
    models = frame[MODEL].drop_duplicates()
    names = tuple(pool)
    for _, row in models.iterrows():
        kept = () if row["mask"] == NONE_KEPT else _parse(row["mask"], names, where)
        trained = _parse(row["subset"], names, where)
        if row["subset"] != name_subset(trained, names):
            raise StudyError(
                f"{where}: subset {row['subset']!r} is not in pool order; write {'+'.join(trained)!r}"
            )
        if not set(kept) <= set(trained):
            raise StudyError(f"{where}: {_row(row)}: the mask keeps an encoder the checkpoint does not have")
    _check_seeds(models, name_subset(names, names), where)


def _check_seeds(models: pd.DataFrame, full: str, where: str) -> None:
    """Every subset and mask has the full pool's seeds; the blind model, which may be untrained, is free."""
    seeds: dict[tuple[str, str, str], set[int]] = {}
    for subset, seed, mask, operator in models[MODEL].itertuples(index=False, name=None):
        seeds.setdefault((subset, mask, operator), set()).add(int(seed))
    if (full, full, NO_MASK) not in seeds:
        raise StudyError(f"{where}: no rows of the full pool {full!r}; every role is measured against it")
    wanted = sorted(seeds[full, full, NO_MASK])
    for (subset, mask, operator), have in seeds.items():
        if subset != BLIND and sorted(have) != wanted:
            raise StudyError(
                f"{where}: subset {subset!r}, mask {mask!r}, operator {operator!r} has seeds {sorted(have)}, "
                f"the full pool {wanted}; add the missing seeds or remove the extra ones"
            )


def read_ranks(path: Path, pool: Sequence[str], study: str | None) -> pd.DataFrame:
    """Read ranks.csv: a row per subset (or `pretrained`), seed and encoder, with positive ranks and ratios.

    `study` None accepts rows of any study. Raises StudyError on any other table.
    """
    needed = ("subset", "seed", "encoder", "erank", "ratio", "ratio_low", "ratio_high")
    frame = _read_csv(path, needed, ["subset", "seed", "encoder"], study)
    for column in ("erank", "ratio"):
        _refuse_rows(
            frame, ~(frame[column].to_numpy(float) > 0), f"{column} is not a positive number", str(path)
        )
    names = tuple(pool)
    for place, (subset, encoder) in enumerate(zip(frame["subset"], frame["encoder"], strict=True)):
        inside = names if subset == PRETRAINED else _parse(subset, names, str(path))
        if encoder not in inside:
            raise StudyError(f"{path}: row {place}: encoder {encoder!r} is not in subset {subset!r}")
    return frame


def read_costs(path: Path, pool: Sequence[str], study: str | None) -> pd.DataFrame:
    """Read costs.csv: a row per subset and seed, with positive parameters; other cost columns are optional.

    `study` None accepts rows of any study. Raises StudyError on any other table.
    """
    frame = _read_csv(path, ("subset", "seed", "parameters"), ["subset", "seed"], study)
    wrong = ~(frame["parameters"].to_numpy(float) > 0)
    _refuse_rows(frame, wrong, "parameters is not a positive number", str(path))
    for subset in frame["subset"]:
        _parse(subset, tuple(pool), str(path))
    return frame


def _read_csv(path: Path, needed: Sequence[str], key: list[str], study: str | None) -> pd.DataFrame:
    """A CSV table of one study (of any, or without the column, if `study` is None), a row per key."""
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: not a readable CSV file: {error}") from error
    _require_columns(frame, needed, str(path))
    if study is not None:
        _require_columns(frame, ["study"], str(path))
        _refuse_rows(frame, frame["study"] != study, f"study is not {study!r}, as in the settings", str(path))
    _refuse_rows(frame, frame.duplicated(key), f"duplicate row: one per {', '.join(key)}", str(path))
    return frame


def number(frame: pd.DataFrame, columns: Sequence[str]) -> tuple[np.ndarray[Any, Any], pd.DataFrame]:
    """Number the distinct rows of some columns by first appearance: (code of each row, distinct rows)."""
    code = np.zeros(len(frame), dtype=np.int64)
    for column in columns:
        values, uniques = pd.factorize(frame[column])
        code, _ = pd.factorize(code * len(uniques) + values)
    first = np.unique(code, return_index=True)[1]
    return code, frame[list(columns)].iloc[first].reset_index(drop=True)


def long_table(
    axes: Sequence[pd.DataFrame | Mapping[str, Sequence[str]]], values: Mapping[str, npt.ArrayLike]
) -> pd.DataFrame:
    """Arrays as a long table: a row per cell, in the arrays' own (C) order.

    Args:
        axes: for each axis, the columns that name its places, a row per place.
        values: a column for each array; every shape is (len(axes[0]), len(axes[1]), ...).

    >>> long_table([{"level": ["overall"]}, {"encoder": ["clip", "sam"]}], {"score": [[61.0, 48.5]]})
         level encoder  score
    0  overall    clip   61.0
    1  overall     sam   48.5
    """
    names = [pd.DataFrame(axis) for axis in axes]
    places = np.indices([len(axis) for axis in names]).reshape(len(names), -1)
    rows = [axis.iloc[place].reset_index(drop=True) for axis, place in zip(names, places, strict=True)]
    cells = {column: np.asarray(array).ravel() for column, array in values.items()}
    return pd.concat([*rows, pd.DataFrame(cells)], axis=1)


def order_benchmarks(table: pd.DataFrame) -> pd.DataFrame:
    """Rows (benchmark, group) in the order of GROUPS; benchmarks it does not name come last, by name."""
    known = {name: i for i, name in enumerate(BENCHMARKS)}
    groups = {name: i for i, name in enumerate(GROUPS)}
    keys = [
        (groups.get(g, len(groups)), str(g), known.get(b, len(known)), str(b))
        for b, g in zip(table["benchmark"], table["group"], strict=True)
    ]
    return table.iloc[sorted(range(len(table)), key=keys.__getitem__)].reset_index(drop=True)


def _parse(subset: str, pool: tuple[str, ...], where: str) -> tuple[str, ...]:
    try:
        return parse_subset(str(subset), pool)
    except StudyError as error:
        raise StudyError(f"{where}: {error}; correct the row or the pool") from None


def _require_columns(frame: pd.DataFrame, columns: Sequence[str], where: str) -> None:
    if missing := [c for c in columns if c not in frame.columns]:
        raise StudyError(
            f"{where}: no column {', '.join(missing)} (found: {', '.join(map(str, frame.columns))})"
        )


def _refuse_rows(frame: pd.DataFrame, wrong: Any, why: str, where: str) -> None:
    rows = np.flatnonzero(np.asarray(wrong, dtype=bool))
    if rows.size:
        raise StudyError(
            f"{where}: row {rows[0]} ({_row(frame.iloc[int(rows[0])])}): {why} ({rows.size} such rows)"
        )


def _row(row: pd.Series[Any]) -> str:
    keys = (*MODEL, "benchmark", "question", "encoder")
    return ", ".join(f"{key} {row[key]}" for key in keys if key in row.index)
