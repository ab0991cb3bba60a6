"""Numbers as tables write them: decimal point or comma, separated thousands, percent signs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from encoder_roles.study.names import StudyError

_PLAIN = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)
_SPACED = re.compile(r"(?<=[0-9])[ '’](?=[0-9]{3}(?![0-9]))")  # 1 480.5, 1'480.5


@dataclass(frozen=True)
class Reading:
    """One text read with a decimal point and with a decimal comma; None where it is no such number."""

    point: float | None
    comma: float | None


def read_text(text: str) -> Reading:
    """Both readings of a text without a percent sign.

    >>> read_text("27,1"), read_text("1,108.5"), read_text("1,108")
    (Reading(point=None, comma=27.1), Reading(point=1108.5, comma=None), Reading(point=1108.0, comma=1.108))
    """
    plain = _SPACED.sub("", text.replace("−", "-"))
    turned = plain.translate(str.maketrans(".,", ",."))
    return Reading(_read(plain), _read(turned))


def _read(text: str) -> float | None:
    """A number with a decimal point, its thousands separated by commas or not at all."""
    if re.fullmatch(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?", text):
        text = text.replace(",", "")
    return float(text) if _PLAIN.fullmatch(text) else None


def uses_decimal_comma(texts: Iterable[str], where: str) -> bool:
    """Whether the numbers of a table have a decimal comma.

    Raises StudyError if some have a comma and others a point, or if a comma may separate thousands.
    """
    readings = {text: read_text(_bare(text)) for text in texts}
    point = next((t for t, r in readings.items() if r.point is not None and r.comma is None), None)
    comma = next((t for t, r in readings.items() if r.comma is not None and r.point is None), None)
    if point is not None and comma is not None:
        raise StudyError(
            f"{where}: {point!r} has a decimal point and {comma!r} a decimal comma; write all with a point"
        )
    if point is None and comma is None:
        unclear = next((t for t, r in readings.items() if "," in t and r.point != r.comma), None)
        if unclear is not None:
            raise StudyError(
                f"{where}: the comma of {unclear!r} may be a decimal comma or separate thousands; write "
                "numbers with a decimal point and thousands without a mark"
            )
    return comma is not None


def _bare(text: str) -> str:
    return text.removesuffix("%").rstrip()


def read_numbers(frame: pd.DataFrame, columns: Sequence[str], where: str) -> pd.DataFrame:
    """The frame with these columns, if present, as numbers: NaN where a cell is empty or no number.

    The decimal mark is decided once, from the cells of all these columns. Raises StudyError if it is unclear.
    """
    present = [c for c in columns if c in frame.columns]
    texts = {t: None for c in present for t in pd.unique(frame[c]) if isinstance(t, str)}
    comma = uses_decimal_comma(texts, where)
    values = {text: _value(text, comma) for text in texts}
    numbers = frame.copy()
    for column in present:
        cells = [_number(cell, values) for cell in frame[column]]
        numbers[column] = pd.Series(cells, frame.index, dtype=float)
    return numbers


def have_percent(cells: pd.Series[Any]) -> npt.NDArray[np.bool_]:
    """Which cells end with a percent sign."""
    return np.array([isinstance(cell, str) and cell.endswith("%") for cell in cells], dtype=bool)


def is_number(cell: Any) -> bool:
    """Whether a cell is a finite number, or text that can be read as one."""
    if isinstance(cell, str):
        reading = read_text(_bare(cell))
        return reading.point is not None or reading.comma is not None
    try:
        return bool(np.isfinite(float(cell)))
    except (TypeError, ValueError, OverflowError):
        return False


def _value(text: str, comma: bool) -> float:
    reading = read_text(_bare(text))
    value = reading.comma if comma else reading.point
    return np.nan if value is None else value


def _number(cell: Any, values: dict[str, float]) -> float:
    if isinstance(cell, str):
        return values[cell]
    try:
        return float(cell)
    except (TypeError, ValueError, OverflowError):
        return np.nan


def why_no_number(cell: Any) -> str:
    """What is wrong with a cell that is no number, and what to do."""
    text = str(cell)
    if "±" in text or "+/-" in text or "+-" in text:
        return f"{text!r} holds a score and its error; write the score alone"
    return f"{text!r} is not a number"
