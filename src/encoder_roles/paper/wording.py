"""Numbers and lists as the paper writes them: plain text with a true minus sign; LaTeX comes later, once."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from encoder_roles.paper.names import encoder_name

MISSING = "–"  # a value the study does not have
_WORDS = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)


def fixed(value: float | None, decimals: int = 1) -> str:
    """A number with fixed decimals, `–` if there is none: fixed(-0.04) is `0.0`."""
    if value is None or math.isnan(value):
        return MISSING
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def signed(value: float | None, decimals: int = 1) -> str:
    """A difference with its sign, also where it is positive."""
    text = fixed(value, decimals)
    return f"+{text}" if value is not None and value > 0 and float(text) else text


def interval_text(low: float | None, high: float | None, decimals: int = 1) -> str:
    """`[1.2, 3.4]`; empty where there is no interval."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return ""
    return f"[{fixed(low, decimals)}, {fixed(high, decimals)}]"


def with_interval(value: float | None, low: float | None, high: float | None, decimals: int = 1) -> str:
    """`2.3 [1.2, 3.4]`, parted by a space that does not break."""
    bounds = interval_text(low, high, decimals)
    return f"{fixed(value, decimals)}\u00a0{bounds}" if bounds else fixed(value, decimals)


def half_width(low: float, high: float) -> str:
    """`±1.1`: half the width of an interval; empty where it has none."""
    return f"±{fixed((high - low) / 2)}" if high > low else ""


def with_half_width(value: float, low: float, high: float) -> str:
    """`2.3 ± 1.1`: a value and half the width of its interval."""
    return f"{fixed(value)} ± {fixed((high - low) / 2)}"


def percent(share: float, decimals: int = 0) -> str:
    """A share of one as per cent."""
    return f"{fixed(100 * share, decimals)}%"


def p_value(value: float | None) -> str:
    """A p value: three decimals, `<0.001` below them."""
    if value is None or math.isnan(value):
        return MISSING
    return "<0.001" if value < 0.001 else fixed(value, 3)


def grouped(number: float) -> str:
    """An integer with commas between thousands."""
    return f"{round(number):,}"


def count_word(number: int) -> str:
    """A small count as a word, a larger one in digits."""
    return _WORDS[number] if 0 <= number < len(_WORDS) else grouped(number)


def counted(number: int, noun: str) -> str:
    """`one encoder`, `three encoders`."""
    return f"{count_word(number)} {noun}{'' if number == 1 else 's'}"


def listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(part for part in (", ".join(items[:-1]), *items[-1:]) if part)


def sentence(text: str) -> str:
    """Text with a capital letter at its start and a full stop at its end."""
    text = text.strip()
    return text if not text else text[0].upper() + text[1:] + ("" if text[-1] in ".!?" else ".")


def print_names(text: str, pool: Iterable[str]) -> str:
    """A text of the analysis with names as the paper prints them: `clip+sam` -> `CLIP + SAM`."""
    words = "|".join(sorted(map(re.escape, pool), key=len, reverse=True))
    spaced = re.sub(rf"(?<=[a-z0-9_])\+(?=(?:{words})\b)", " + ", text)
    return re.sub(rf"\b(?:{words})\b", lambda match: encoder_name(match[0]), spaced)
