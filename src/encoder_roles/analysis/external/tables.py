"""External tables of scores, read and checked: wide (a column per benchmark) or tidy (a row per score).

A table may have a row per question, or only the benchmarks' scores. The lattice may be incomplete; masks and
seeds may be missing. Nothing is guessed: a score of unclear scale or a duplicate row is an error of one line.
`notes` names every conversion (MME / 20) and every benchmark that is none of the sixteen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from encoder_roles.analysis.external.aliases import encoder_notes, match_encoders
from encoder_roles.analysis.external.averages import average_models, average_notes
from encoder_roles.analysis.external.columns import (
    load_table,
    name_columns,
    own_benchmark_note,
)
from encoder_roles.analysis.external.forms import read_rows
from encoder_roles.analysis.external.numbers import have_percent, read_numbers, why_no_number
from encoder_roles.analysis.external.scales import find_scales
from encoder_roles.analysis.tables import MODEL, SCORE_COLUMNS, check_scores
from encoder_roles.study.names import BENCHMARKS, BLIND, GROUPS, NO_MASK, NONE_KEPT, StudyError, name_subset
from encoder_roles.study.sections import Operator

MOST_ENCODERS = 8  # 256 subsets: with more, the resamples of the lattice do not fit a laptop's memory
OPERATORS: tuple[str, ...] = get_args(Operator)
MOST_COUNT = 2.0**53  # above it a float no longer holds every whole number


@dataclass(frozen=True)
class ExternalScores:
    """A checked table of scores.

    Attributes:
        study, pool: the study's name and its encoders, in order.
        table: a row per model and benchmark: subset, seed, mask, operator, benchmark, group, score (0-100),
            n (questions; NaN if not stated), row (of the file, from 1).
        questions: rows as in scores.parquet if the file has a row per question, else None.
        averages: a row per model: row, model (as the file writes it), seed, mask, operator, overall, a column
            per group, and the averages that the file states.
        notes: conversions, benchmarks of its own, omissions: a sentence each.
        only_means: whether the file has no benchmark; its benchmarks are then the means that it states.
    """

    study: str
    pool: tuple[str, ...]
    table: pd.DataFrame
    questions: pd.DataFrame | None
    averages: pd.DataFrame
    notes: tuple[str, ...]
    only_means: bool = False


def read_external_scores(
    scores: Path | str | pd.DataFrame,
    pool: Sequence[str] = (),
    leave_out: Sequence[int] = (),
    study: str = "external",
    scales: Mapping[str, float] | None = None,
) -> ExternalScores:
    """Read a table of scores.

    Args:
        scores: a CSV or parquet file (see `read_cells`), or a frame.
        pool: encoders in the order in which subsets are written; by default as they first appear.
        leave_out: rows of the table, counted from 1 below the head without empty rows, that are not analysed.
        study: its name, if the table has no column `study`.
        scales: benchmark -> its greatest score, where the table does not show it; `score` for all others.

    Raises:
        StudyError: one line that names the column or row and what to do.
    """
    frame, where = load_table(scores)
    named = name_columns(frame, where)
    named.frame.insert(0, "row", np.arange(1, len(frame) + 1))
    if "subset" not in named.roles:
        raise StudyError(
            f"{where}: no column that names the encoders; call it `encoders`, `subset` or `model`"
        )
    kept, notes_left_out = leave_rows_out(named.frame, leave_out, where)
    named = replace(named, frame=kept)
    form = read_rows(named, where)
    rows = form.rows.rename(columns={"training_seed": "seed"})
    table, notes = _check_numbers(rows, scales or {}, where)
    table = name_models(table, pool, where)
    encoders = tuple(pool) or _appearing(table)
    table = _order_subsets(table, encoders, where)
    name = _one_study(table, study, where)
    averages = average_models(table, form.stated)
    questions = _as_questions(table, name, where) if "question" in named.roles else None
    if questions is None:
        _check_models(table, where)
    else:
        table = _score_benchmarks(questions)
    own = [] if form.only_means else _own_notes(table)
    notes = [*named.notes, *own, *encoder_notes(encoders), *notes, *average_notes(averages)]
    if form.only_means:
        means = ", ".join(dict.fromkeys(table["benchmark"]))
        notes.append(f"the table has no benchmark, only means: roles are those of {means}.")
    notes += notes_left_out
    return ExternalScores(
        name, encoders, table.reset_index(drop=True), questions, averages, tuple(notes), form.only_means
    )


def leave_rows_out(frame: pd.DataFrame, rows: Sequence[int], where: str) -> tuple[pd.DataFrame, list[str]]:
    """A table (row, subset ...) without some rows, which may hold anything, and a note on each of them."""
    if unknown := sorted(set(rows) - set(frame["row"])):
        raise StudyError(f"{where}: leave_out: there is no row {unknown[0]}; it has {len(frame)}")
    left = frame["row"].isin(rows)
    if left.all():
        raise StudyError(f"{where}: leave_out leaves no row")
    notes = [
        f"row {row} ({label}) was left out, as leave_out says."
        for row, label in frame.loc[left, ["row", "subset"]].itertuples(index=False)
    ]
    return frame[~left], notes


def _own_notes(table: pd.DataFrame) -> list[str]:
    """One sentence per benchmark that is none of the sixteen."""
    own = table.loc[~table["benchmark"].isin(BENCHMARKS), ["benchmark", "group"]].drop_duplicates("benchmark")
    return [own_benchmark_note(name, group) for name, group in own.itertuples(index=False)]


def _check_numbers(
    frame: pd.DataFrame, scales: Mapping[str, float], where: str
) -> tuple[pd.DataFrame, list[str]]:
    """Scores on 0-100 and positive n; the conversions, a sentence each."""
    checked = read_numbers(frame, ("score", "n", "seed", "weight"), where)
    require_numbers(frame, checked, "score", where)
    if "n" in checked.columns:
        require_numbers(frame, checked, "n", where)
        _refuse(checked, ~checked["n"].between(1, MOST_COUNT), "n is not a number of questions", where)
    else:
        checked["n"] = np.nan
    if "seed" in checked.columns:
        require_numbers(frame, checked, "seed", where)
    if "weight" in checked.columns:
        require_numbers(frame, checked, "weight", where)
    stated = checked["group"] if "group" in checked.columns else np.full(len(checked), np.nan)
    checked["group"] = [_group_of(b, g) for b, g in zip(checked["benchmark"], stated, strict=True)]
    models = checked.assign(unit=_units(checked), model=checked["subset"])
    factor, notes = find_scales(models, have_percent(frame["score"]), scales, where)
    checked["score"] = checked["score"] * factor
    return checked, notes


def _units(frame: pd.DataFrame) -> npt.NDArray[np.integer[Any]]:
    """A number per evaluated model, which has one score per benchmark; -1 for rows of questions."""
    if "question" in frame.columns:
        return np.full(len(frame), -1, dtype=np.int64)
    if not frame.duplicated(["row", "benchmark"]).any() and frame["row"].duplicated().any():
        return frame["row"].to_numpy(np.int64)  # a wide table
    keys = [c for c in ("subset", "seed", "mask", "operator") if c in frame.columns]
    return frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy(np.int64)


def require_numbers(raw: pd.DataFrame, numbers: pd.DataFrame, column: str, where: str) -> None:
    """Refuse an empty cell, or one that is no finite number, by an error that names it."""
    why = f"{column} is empty or NaN; give it, or remove the model or the benchmark"
    _refuse(raw, raw[column].isna(), why, where)
    words = ~np.isfinite(numbers[column].to_numpy(float))
    if words.any():
        _refuse(raw, words, f"{column} {why_no_number(raw[column][words].iloc[0])}", where)


def _group_of(benchmark: str, stated: Any) -> str:
    """The group of a benchmark: the study's for the sixteen, the stated one for others; empty without one."""
    for group, names in GROUPS.items():
        if benchmark in names:
            return group
    return "" if pd.isna(stated) else str(stated)


def name_models(table: pd.DataFrame, pool: Sequence[str], where: str) -> pd.DataFrame:
    """Labels as tuples of encoders (`trained`, `kept`), seeds as integers, operators checked."""
    named = table.rename(columns={"subset": "model"})
    _refuse(named, named["model"].isna(), "the model's encoders are not named", where)
    operator = named["operator"] if "operator" in named.columns else pd.Series(NO_MASK, named.index)
    named["operator"] = operator.fillna(NO_MASK).map(lambda o: str(o).strip().lower() or NO_MASK)
    known = named["operator"].isin((NO_MASK, *OPERATORS))
    _refuse(named, ~known, f"operator is none of {', '.join((NO_MASK, *OPERATORS))}", where)
    if "seed" not in named.columns:
        named["seed"] = 0
    why = "the training seed is not a whole number (SEED-Bench is called SEED or SEED-Image)"
    whole = (named["seed"] % 1 == 0) & (named["seed"].abs() < MOST_COUNT)
    _refuse(named, ~whole, why, where)
    named["seed"] = named["seed"].astype(int)
    labels = {label: _encoders(named, "model", label, pool, where) for label in named["model"].unique()}
    named["trained"] = named["model"].map(labels)
    if "mask" in named.columns:
        masks = {m: _encoders(named, "mask", m, pool, where) for m in named["mask"].dropna().unique()}
        pairs = zip(named["mask"], named["trained"], strict=True)
        kept = [trained if pd.isna(mask) else masks[mask] for mask, trained in pairs]
        named["kept"] = pd.Series(kept, named.index)
    else:
        named["kept"] = named["trained"]
    return named


def _encoders(
    table: pd.DataFrame, column: str, label: Any, pool: Sequence[str], where: str
) -> tuple[str, ...]:
    try:
        return match_encoders(label, pool)
    except StudyError as error:
        row = table.loc[table[column] == label, "row"].iloc[0]
        raise StudyError(f"{where}: row {row}: {error}") from None


def _appearing(table: pd.DataFrame) -> tuple[str, ...]:
    """All encoders, by first appearance."""
    return tuple(dict.fromkeys(e for label in [*table["trained"], *table["kept"]] for e in label))


def _order_subsets(table: pd.DataFrame, pool: tuple[str, ...], where: str) -> pd.DataFrame:
    """Names of subsets and masks in pool order. A masked row without a mask column is of the full pool."""
    if len(pool) < 2:
        raise StudyError(f"{where}: {len(pool)} encoder{'s' * (len(pool) != 1)}; roles need at least two")
    check_pool_size(table, pool, where)
    ordered, masked = table.copy(), table["operator"] != NO_MASK
    of_full = masked & (table["trained"] == table["kept"]) if "mask" not in table.columns else masked & False
    trained = [pool if full else t for full, t in zip(of_full, table["trained"], strict=True)]
    ordered["subset"] = [name_subset(t, pool) for t in trained]
    ordered["mask"] = [name_subset(k, pool) for k in table["kept"]]
    ordered["mask"] = ordered["mask"].replace(BLIND, NONE_KEPT)
    inside = np.array([set(k) <= set(t) for k, t in zip(table["kept"], trained, strict=True)], dtype=bool)
    _refuse(ordered, ~inside, "the mask keeps an encoder that the model does not have", where)
    complete = np.array([set(k) == set(t) for k, t in zip(table["kept"], trained, strict=True)], dtype=bool)
    _refuse(ordered, ~masked & ~complete, f"a mask without an operator ({', '.join(OPERATORS)})", where)
    # an operator on a model that keeps everything is the model as trained
    _refuse(ordered, masked & complete, "an operator, but every encoder is kept", where)
    return ordered


def check_pool_size(table: pd.DataFrame, pool: Sequence[str], where: str) -> None:
    """Refuse a pool that is too large, with options that keep the encoders of the most rows.

    Args:
        table: row, trained (a tuple of encoders), and kept where models are masked.
        pool: the encoders.
        where: what error messages call the table.
    """
    if len(pool) <= MOST_ENCODERS:
        return
    kept = table["kept"] if "kept" in table.columns else table["trained"]
    used = [{*trained, *of} for trained, of in zip(table["trained"], kept, strict=True)]
    rows_of = {encoder: sum(encoder in encoders for encoders in used) for encoder in pool}
    chosen = set(sorted(pool, key=lambda encoder: -rows_of[encoder])[:MOST_ENCODERS])
    outside = [not chosen.issuperset(encoders) for encoders in used]
    rows = " ".join(str(row) for row in sorted(set(table.loc[outside, "row"])))
    options = f"--pool {' '.join(e for e in pool if e in chosen)}" + f" --leave-out {rows}" * bool(rows)
    raise StudyError(
        f"{where}: {len(pool)} encoders, but at most {MOST_ENCODERS} can be analysed; without the rarest: "
        f"{options}"
    )


def _one_study(table: pd.DataFrame, study: str, where: str) -> str:
    if "study" not in table.columns:
        return study
    names = sorted(set(map(str, table["study"].dropna())))
    if len(names) > 1:
        raise StudyError(f"{where}: rows of several studies {names}; give one study's rows")
    return names[0] if names else study


def _check_models(table: pd.DataFrame, where: str) -> None:
    """Every model once, on every benchmark and with the same seeds; the blind model may have others."""
    again = table.duplicated([*MODEL, "benchmark"])
    if again.any():
        row = table[again].iloc[0]
        same = (table[[*MODEL, "benchmark"]] == row[[*MODEL, "benchmark"]]).all(axis=1)
        first, second = table.loc[same, "row"].iloc[:2]
        raise StudyError(
            f"{where}: rows {first} and {second} are both {_model(row)}: duplicate; correct a label, give "
            f"seeds, or leave one out (leave_out: {second})"
        )
    benchmarks = table["benchmark"].unique()
    for _, of in table.groupby(MODEL, sort=False):
        if missing := [b for b in benchmarks if b not in set(of["benchmark"])]:
            raise StudyError(
                f"{where}: {_model(of.iloc[0])} has no score on {missing[0]}; add it, or leave out the "
                "benchmark or the model"
            )
    groups = table.groupby("benchmark")["group"].nunique()
    if (groups > 1).any():
        raise StudyError(f"{where}: benchmark {groups[groups > 1].index[0]} stands in two groups")
    check_seeds(table, where)


def check_seeds(table: pd.DataFrame, where: str) -> None:
    """Refuse a table in which a model lacks a seed that another has."""
    seeds = table[table["subset"] != BLIND].groupby(["subset", "mask", "operator"], sort=False)["seed"]
    have = {key: tuple(sorted(set(of))) for key, of in seeds}
    wanted = max(have.values(), key=len, default=())
    for (subset, mask, operator), of in have.items():
        if of != wanted:
            raise StudyError(
                f"{where}: subset {subset}, mask {mask}, operator {operator} has seeds {list(of)}, others "
                f"{list(wanted)}; add the missing seeds or remove the extra ones"
            )


def _as_questions(table: pd.DataFrame, study: str, where: str) -> pd.DataFrame:
    """Rows as in scores.parquet; by default every question is its own cluster and has weight 1."""
    questions = table.assign(study=study, question=table["question"].astype(str))
    defaults: dict[str, Any] = {"cluster": questions["question"], "weight": 1.0, "unparsable": False}
    for column, value in defaults.items():
        if column not in questions.columns:
            questions[column] = value
    questions["cluster"] = questions["cluster"].astype(str)
    questions["weight"] = questions["weight"].astype(float)
    questions = questions[list(SCORE_COLUMNS)].reset_index(drop=True)
    check_scores(questions, where)
    check_seeds(questions, where)
    return questions


def _score_benchmarks(questions: pd.DataFrame) -> pd.DataFrame:
    """A row per model and benchmark of a table of questions."""
    weighted = questions.assign(product=questions["score"] * questions["weight"])
    sums = weighted.groupby([*MODEL, "benchmark", "group"], sort=False)
    table = sums.agg(product=("product", "sum"), weight=("weight", "sum"), n=("score", "size")).reset_index()
    return table.assign(score=table["product"] / table["weight"], row=np.nan)


def _refuse(table: pd.DataFrame, wrong: npt.ArrayLike, why: str, where: str) -> None:
    """Raise StudyError for the first row that is wrong."""
    places = np.flatnonzero(np.asarray(wrong, dtype=bool))
    if places.size:
        row = table.iloc[int(places[0])]
        named = [str(row[c]) for c in ("model", "subset", "benchmark") if c in table.columns]
        raise StudyError(f"{where}: row {row['row']} ({', '.join(named[:1] + named[-1:])}): {why}")


def _model(row: pd.Series[Any]) -> str:
    masked = "" if row["operator"] == NO_MASK else f", mask {row['mask']}, operator {row['operator']}"
    return f"{row['subset']}, seed {row['seed']}{masked}"
