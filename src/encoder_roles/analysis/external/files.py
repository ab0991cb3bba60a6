"""The cells of a file of scores: CSV in the forms that spreadsheets export, or parquet."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow

from encoder_roles.study.names import StudyError

EMPTY = {"", "NaN", "nan", "NA", "N/A", "n/a", "null"}  # "none" names a mask, so it is no empty cell
_SEPARATORS = ",;\t"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")

Head = Callable[[Sequence[str]], bool]


def read_cells(source: Path | pd.DataFrame, is_head: Head, where: str) -> pd.DataFrame:
    """The cells of a table without its empty rows and columns; text in one line, NaN where a cell is empty.

    Args:
        source: CSV (comma, semicolon or tab; UTF-8 or UTF-16; `sep=;` and lines with # may stand before the
            head, and the head itself may begin with #), parquet, or a frame.
        is_head: whether some names can be the names of the columns.
        where: what error messages call the table.

    Raises:
        StudyError: one line on a file that is not such a table.
    """
    if isinstance(source, pd.DataFrame):
        frame = source.reset_index(drop=True)
    else:
        frame = _read_file(source, is_head, where)
    frame.columns = pd.Index([_one_line(str(column)) for column in frame.columns])
    columns = [_clean(frame.iloc[:, place], where) for place in range(frame.shape[1])]
    cells = pd.concat(columns, axis=1) if columns else frame
    cells = cells[~cells.isna().all(axis=1)].reset_index(drop=True)
    empty = cells.isna().all(axis=0).to_numpy()
    unnamed = np.array([name == "" for name in cells.columns], dtype=bool)
    if (nameless := unnamed & ~empty).any():
        place = int(np.flatnonzero(nameless)[0]) + 1
        raise StudyError(f"{where}: column {place} has cells but no name; name it, or remove it")
    if cells.empty:
        raise StudyError(f"{where}: no rows")
    return cells.loc[:, ~unnamed]


def _clean(column: pd.Series[Any], where: str) -> pd.Series[Any]:
    """Text in one line, NaN where a cell is empty; cells that are no text stay."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column
    cells = [_one_line(cell) if isinstance(cell, str) else cell for cell in column]
    if nested := [cell for cell in cells if not pd.api.types.is_scalar(cell)]:
        kind = type(nested[0]).__name__
        raise StudyError(f"{where}: column {column.name!r} has a {kind} in a cell; write text or a number")
    kept = [np.nan if isinstance(cell, str) and cell in EMPTY else cell for cell in cells]
    return pd.Series(kept, column.index, dtype=object, name=column.name)


def _one_line(text: str) -> str:
    return " ".join(text.replace("\ufeff", "").split())


def _read_file(path: Path, is_head: Head, where: str) -> pd.DataFrame:
    try:
        content = path.read_bytes()
        if path.suffix == ".parquet" or content.startswith(b"PAR1"):
            return pd.read_parquet(path)
    except (OSError, ValueError, NotImplementedError, pyarrow.ArrowException) as error:
        raise _unreadable(where, error) from None
    if content.startswith(b"PK\x03\x04"):
        raise StudyError(f"{where}: this is an Excel workbook or a zip file; save the sheet as CSV UTF-8")
    if content.lstrip().startswith(b"<"):
        raise StudyError(f"{where}: this is a web page; save its table as CSV UTF-8")
    try:
        text = content.decode("utf-16" if content.startswith(_UTF16_MARKS) else "utf-8-sig")
    except UnicodeDecodeError:
        raise StudyError(
            f"{where}: not a readable table: the text is neither UTF-8 nor UTF-16; save it as CSV UTF-8"
        ) from None
    if "\0" in text:
        raise StudyError(f"{where}: not a readable table: it has zero bytes; save it as CSV UTF-8")
    try:
        return _read_text(text, is_head, where)
    except csv.Error as error:
        raise _unreadable(where, error) from None


def _unreadable(where: str, error: Exception) -> StudyError:
    return StudyError(f"{where}: not a readable table (CSV or parquet): {' '.join(str(error).split())}")


def _read_text(text: str, is_head: Head, where: str) -> pd.DataFrame:
    lines = io.StringIO(text, newline="").readlines()
    start, separator = _find_head(lines, is_head)
    if start == len(lines):
        raise StudyError(f"{where}: no rows")
    if lines[start].lstrip().startswith("|"):
        raise StudyError(f"{where}: this is a Markdown table; write it with a comma between cells (CSV)")
    rows = csv.reader(lines[start:], delimiter=separator, skipinitialspace=separator != "\t")
    head = [name.strip() for name in next(rows)]
    if lines[start].startswith("#") and head[0] != "#":
        head[0] = head[0].lstrip("# ")
    table = [row for row in rows if any(cell.strip() for cell in row)]
    for place, row in enumerate(table, start=1):
        if any(cell.strip() for cell in row[len(head) :]):
            reason = " (a decimal comma in a file with commas between cells?)" if separator == "," else ""
            raise StudyError(
                f"{where}: row {place} has {len(row)} cells, but the head has {len(head)}{reason}; quote "
                "cells that hold the separator, or separate cells with semicolons"
            )
    cells = [(row + [""] * len(head))[: len(head)] for row in table]
    return pd.DataFrame(cells, columns=head, dtype=object)


def _find_head(lines: Sequence[str], is_head: Head) -> tuple[int, str]:
    """The line of the head, and the separator of cells. A head may be the last line that begins with #."""
    start, stated = 0, ""
    while start < len(lines) and (not lines[start].strip(" ,;\t\r\n") or lines[start].startswith("#")):
        if lines[start].startswith("#") and _is_marked_head(lines[start], stated, is_head):
            return start, stated or _separator(lines[start])
        start += 1
    if start < len(lines) and (mark := lines[start].strip().strip('"')).lower().startswith("sep="):
        after, separator = _find_head(lines[start + 1 :], is_head)
        return start + 1 + after, mark[4:] if len(mark) == 5 else "\t" if mark == "sep=" else separator
    return start, stated or (_separator(lines[start]) if start < len(lines) else ",")


def _is_marked_head(line: str, stated: str, is_head: Head) -> bool:
    """Whether a line that begins with # is the head, and not a remark."""
    names = next(csv.reader([line.lstrip("#").strip()], delimiter=stated or _separator(line)), [])
    return len(names) > 1 and is_head([name for name in names if name.strip()])


def _separator(line: str) -> str:
    """The separator that gives the most cells."""
    return max(_SEPARATORS, key=lambda mark: len(next(csv.reader([line], delimiter=mark), [])))
