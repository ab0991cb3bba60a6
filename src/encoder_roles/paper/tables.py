"""Tables of the paper as booktabs tabulars: one tabular a file; caption and label stay in main.tex."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from encoder_roles.paper.manuscript import latex_text
from encoder_roles.paper.readings import in_lattice_order
from encoder_roles.provenance import write_text
from encoder_roles.study.names import StudyError, parse_subset

RULE: tuple[str, ...] = ()  # as a row: a rule between the rows


def bold(text: str) -> str:
    """Mark a cell to be set in bold."""
    return f"\ue000{text}"


def subset_rows(
    pool: tuple[str, ...], columns: Sequence[pd.DataFrame], cell: Callable[[float, float, float], str]
) -> list[Sequence[str]]:
    """A row per subset, smallest first, with a rule where the number of encoders changes.

    The first cells mark the encoders of the subset, one for each of the pool. After them stands
    `cell(score, low, high)` of each column, the best of a column in bold. The subsets are those of the last.
    """
    rows: list[Sequence[str]] = []
    size = 0
    for subset in in_lattice_order(columns[-1].index, pool):
        members = parse_subset(subset, pool)
        rows += [RULE] if len(members) > size else []
        size = len(members)
        marks = ["•" if encoder in members else "" for encoder in pool]
        marks = marks if members else ["blind", *marks[1:]]
        rows.append([*marks, *(_best_in_bold(column, subset, cell) for column in columns)])
    return rows


def _best_in_bold(column: pd.DataFrame, subset: str, cell: Callable[[float, float, float], str]) -> str:
    score, low, high = (float(value) for value in column.loc[subset, ["score", "low", "high"]].to_numpy())
    text = cell(score, low, high)
    return bold(text) if score == column["score"].max() else text


def write_table(path: Path, columns: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a tabular: `columns` are LaTeX's column letters, cells are plain text, RULE a rule between rows.

    Raises StudyError when there are no rows or one of them has another number of cells than the head.
    """
    if not rows:
        raise StudyError(f"{path.name}: the study has no row for this table")
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _row(head), r"\midrule"]
    for row in rows:
        if row and len(row) != len(head):
            raise StudyError(f"{path.name}: a row of {len(row)} cells under a head of {len(head)}: {row}")
        lines.append(_row(row) if row else r"\midrule")
    write_text(path, "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""]))


def _row(cells: Sequence[str]) -> str:
    return " & ".join(map(_cell, cells)) + r" \\"


def _cell(text: str) -> str:
    if text.startswith("\ue000"):
        return rf"\textbf{{{latex_text(text[1:])}}}"
    return latex_text(text)
