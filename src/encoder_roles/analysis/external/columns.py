"""What the columns of an external table hold: a role, a benchmark, a stated average, or nothing that counts.

A column of numbers with any other name is a benchmark of its own. The notes name every such column, and say
which known name is one edit away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from encoder_roles.analysis.external.aliases import match_benchmark, near_benchmarks, near_names, squeeze
from encoder_roles.analysis.external.files import read_cells
from encoder_roles.analysis.external.numbers import is_number
from encoder_roles.study.names import BENCHMARKS, GROUPS, StudyError

SEED_BENCH = "SEED"  # as the head of a column this is the benchmark, and `seed` or `Seed` a training seed

# role of a column -> its spellings, without case and punctuation
_ROLES: dict[str, str] = {
    "subset": "subset encoders encoder model models visionencoders visionencoder combination",
    "mask": "mask kept keptencoders",
    "operator": "operator maskoperator",
    "training_seed": "seed trainingseed",  # not `seed` as long as that may be a benchmark's column
    "study": "study",
    "benchmark": "benchmark dataset task bench",
    "group": "group category",
    "score": "score value accuracy acc result",
    "n": "n questions nquestions numquestions numberofquestions",
    "question": "question questionid id qid",
    "cluster": "cluster clusterid",
    "weight": "weight",
    "unparsable": "unparsable",
    "level": "level",
    "low": "low lower",
    "high": "high upper",
    "standard_error": "standarderror stderr se",
    "ignored": "metric unparsableshare row",
}
SUMMARY_ONLY = ("low", "high", "standard_error")  # what a table of subsets has beside its scores
_TIDY_ONLY = ("benchmark", "score", "question", "cluster", "weight", "unparsable", "level", "group")
_ROLE_OF = {spelling: role for role, spellings in _ROLES.items() for spelling in spellings.split()}
# numbers that papers print beside the scores of a model; anything else is taken for a benchmark
_NO_SCORES = {
    *("params", "parameters", "paramsb", "paramsm", "size", "sizeb", "llmsize", "tokens", "vistok", "flops"),
    *("visualtokens", "imagetokens", "resolution", "res", "epoch", "epochs", "steps", "batchsize", "lr"),
    *("learningrate", "year", "latency", "latencyms", "memory", "memorygb", "hours", "gpuhours", "cost"),
}
_OVERALL = {"average", "avg", "overall", "mean", "all"}
_GROUP_OF = {squeeze(group): group for group in GROUPS} | {
    squeeze(group) + word: group for group in GROUPS for word in ("average", "avg", "mean")
}
_GROUP_OF |= {"ocr": "OCR & Chart", "ocrchart": "OCR & Chart", "vision": "Vision-Centric"}
_STATED = "stated average of "  # what the column of an average is called from here on


@dataclass(frozen=True)
class NamedColumns:
    """A table whose columns are named by what they hold.

    Attributes:
        frame: its columns are roles, benchmarks and `_STATED` + `overall` or a group.
        roles: those of the columns.
        benchmarks: the columns of scores, known ones first; empty in a table with a row per score.
        averages: `overall` or a group -> the column that states its mean.
        notes: columns that are no known benchmark, a sentence each.
    """

    frame: pd.DataFrame
    roles: frozenset[str]
    benchmarks: tuple[str, ...]
    averages: dict[str, str]
    notes: tuple[str, ...]

    @property
    def tidy(self) -> bool:
        """Whether the table has a row per score."""
        return {"benchmark", "score"} <= self.roles


def load_table(scores: Path | str | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The cells of a table, and what error messages call it. Raises StudyError if it is no table."""
    if isinstance(scores, pd.DataFrame):
        return read_cells(scores, _is_head, "scores"), "scores"
    return read_cells(Path(scores), _is_head, str(scores)), str(scores)


def role_of(column: str) -> str | None:
    """What a column holds (`subset`, `score` ...) by its name; None if no role has that name."""
    return None if column == SEED_BENCH else _ROLE_OF.get(squeeze(column))


def is_role(cell: object, role: str) -> bool:
    """Whether a cell is a spelling of a role: a wide table may have a row `n` and a row `group`."""
    return squeeze(cell) in _ROLES[role].split()


def average_of(name: object) -> str | None:
    """`overall` or the group of which a name means the average; None if it means none.

    >>> average_of("Avg."), average_of("OCR & Chart avg"), average_of("GQA")
    ('overall', 'OCR & Chart', None)
    """
    return "overall" if squeeze(name) in _OVERALL else _GROUP_OF.get(squeeze(name))


def _is_head(names: Sequence[str]) -> bool:
    """Whether these can be names of columns: one names the encoders, and all the others are known too."""
    roles = [role_of(name) or match_benchmark(name) or average_of(name) for name in names]
    return "subset" in roles and None not in roles


def name_columns(frame: pd.DataFrame, where: str) -> NamedColumns:
    """Name the columns by what they hold. Raises StudyError for two of one kind and for misplaced ones."""
    roles = {role for column in frame.columns if (role := role_of(column))}
    tidy = {"benchmark", "score"} <= roles
    places: dict[str, int] = {}
    keys: dict[str, str] = {}  # what must be unique -> the column as the table calls it
    notes: list[str] = []
    for place, column in enumerate(frame.columns):
        name, note = _name_column(column, frame.iloc[:, place], tidy, where)
        notes += [note] if note else []
        if name is None:
            continue
        key = name if name in roles else squeeze(name)
        if key in keys:
            raise StudyError(f"{where}: columns {keys[key]!r} and {column!r} are both {name}; remove one")
        keys[key], places[name] = column, place
    named = frame.iloc[:, list(places.values())].copy()
    named.columns = pd.Index(list(places))
    averages = {name.removeprefix(_STATED): name for name in places if name.startswith(_STATED)}
    benchmarks = [name for name in places if name not in roles and name not in averages.values()]
    benchmarks.sort(key=lambda name: BENCHMARKS.index(name) if name in BENCHMARKS else len(BENCHMARKS))
    return NamedColumns(named, frozenset(places) & roles, tuple(benchmarks), averages, tuple(notes))


def _name_column(column: str, cells: pd.Series[Any], tidy: bool, where: str) -> tuple[str | None, str]:
    """The new name of a column, None if it does not count; and a note, if it is no known name."""
    role, known = role_of(column), match_benchmark(column)
    if role in _TIDY_ONLY and not tidy:
        raise StudyError(
            f"{where}: column {column!r} belongs to a table with a row per score, which has both "
            "`benchmark` and `score`; add what is missing, or remove the column"
        )
    if role in SUMMARY_ONLY and not tidy:
        raise StudyError(
            f"{where}: column {column!r} is no benchmark, and goes with a column `score`; remove one of both"
        )
    if role == "ignored" or role in SUMMARY_ONLY or column == "#":
        return None, ""  # line numbers; and intervals, which are computed again
    if role or (known and not tidy):
        return role or known, ""
    if tidy:
        return _unknown_in_tidy(column, cells, where)
    if average := average_of(column):
        return f"{_STATED}{average}", ""
    if cells.isna().all():
        return None, ""
    if squeeze(column) in _NO_SCORES or not any(map(is_number, cells)):
        return None, f"column {column!r} holds no scores: it is not used."
    return column, ""


def _unknown_in_tidy(column: str, cells: pd.Series[Any], where: str) -> tuple[None, str]:
    """A column without a role counts only in a wide table."""
    if cells.isna().all():
        return None, ""
    if near := near_names(column, _ROLE_OF):
        raise StudyError(
            f"{where}: column {column!r} is unknown in a table with a row per score; call it "
            f"{' or '.join(near)}, or remove it"
        )
    return None, f"column {column!r} has no meaning in a table with a row per score: it is not used."


def own_benchmark_note(name: str, group: str) -> str:
    """One sentence on a benchmark that is none of the sixteen, with a hint if a known name is near."""
    of_group = f"in group {group}" if group else "without a group"
    note = f"{name}: none of the sixteen benchmarks; taken as a benchmark of its own, {of_group}."
    near = near_benchmarks(name)
    return f"{note} One edit away: {', '.join(near)}; rename it if that is meant." if near else note
