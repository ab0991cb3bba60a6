"""Tables of the paper as booktabs tabulars: one tabular a file; caption and label stay in main.tex."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from encoder_roles.paper.manuscript import latex_text
from encoder_roles.provenance import write_text
from encoder_roles.study.names import StudyError

RULE: tuple[str, ...] = ()  # as a row: a rule between the rows


def bold(text: str) -> str:
    """Mark a cell to be set in bold."""
    return f"\ue000{text}"


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
