"""Overlays: where our scores differ from lmms-eval's figures, on purpose.

docs/benchmarks.md gives the reasons. A benchmark that is not in `evaluation.overlays` has lmms-eval's score.
"""

from __future__ import annotations

import ast
import contextlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

UNPARSABLE = ""  # what MMMU's parser returns in place of a random option
_NUMBER = re.compile(  # no part of a word (cm2, x_1) or power (cm^2); a minus after a digit or letter is none
    r"(?:(?<![\w)\]])-)?(?<![\w^])(?<!\^-)(?<!\^\{)(?<!\^\{-)"
    r"(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<!\.)\.\d+)(?:[eE][-+]?\d+(?!\w))?"
)
_EMPHASIS = re.compile(r"(?<![\w*])(\*{1,3}|_{1,3}|~~|`+)(?=\S)(.+?)(?<=\S)\1(?![\w*])", re.DOTALL)
_MINUS = str.maketrans("\N{MINUS SIGN}\N{EN DASH}\N{SMALL HYPHEN-MINUS}\N{FULLWIDTH HYPHEN-MINUS}", "----")
_ANSWER = re.compile(r"(?:answer|option|choice)\s*(?:is|:)?\s*\(?([A-Za-z])\)?(?![A-Za-z])")
_LETTER = re.compile(r"\(?([A-Za-z])\)?\s*(?:[.:,)]|$)")


@contextlib.contextmanager
def mmmu_guesses(guess: Callable[[list[str]], str]) -> Iterator[None]:
    """Within the block, MMMU's parser calls `guess` for an answer that it cannot read.

    lmms-eval guesses a random option, so that answering "hmm" to everything scores 21. `no_guess` gives 0.
    """
    from lmms_eval.tasks._task_utils import mmmu_mcq_utils

    original = mmmu_mcq_utils.random
    mmmu_mcq_utils.random = SimpleNamespace(choice=guess)
    try:
        yield
    finally:
        mmmu_mcq_utils.random = original


def no_guess(options: list[str]) -> str:  # noqa: ARG001  (stands in for random.choice)
    """Stands in for a guess: a text that is equal to no option."""
    return UNPARSABLE


def mathvista_by_rules(row: Mapping[str, Any], text: str) -> tuple[bool, bool]:
    """MathVista (arXiv 2310.02255) without a judge: (correct, unparsable) of an answer.

    lmms-eval asks a language model to extract the answer, and without one gives the option most similar to
    whatever came back. Here a lettered question is answered by a letter, "(B)", "B. text", "the answer is B",
    or the text of exactly one option; a number is the last one written; a list is the last one in brackets.
    All are read as a person sees them (`seen`). What fits none of these is unparsable and wrong.
    """
    if row["question_type"] == "multi_choice":
        answer: str | None = read_option(text, row["choices"])
    elif row["answer_type"] == "list":
        answer = _read_list(text)
    else:
        number = read_number(text)
        places = int(row["precision"] or 0)
        integer = row["answer_type"] == "integer"
        answer = None if number is None else str(int(number) if integer else round(number, places))
    return answer is not None and answer.strip() == seen(str(row["answer"])), answer is None


def seen(text: str) -> str:
    """A text as a reader sees it: without Markdown's marks of emphasis, code and headings; any minus is -."""
    text = re.sub(r"^\s*#{1,6}\s+", "", text.translate(_MINUS), flags=re.MULTILINE)
    while (plain := _EMPHASIS.sub(r"\2", text)) != text:
        text = plain
    return text.strip()


def read_option(text: str, options: list[str]) -> str | None:
    """The one option that an answer names, by its text or its letter; None if it names none or several."""
    answer = seen(text)
    if matches := [option for option in options if seen(option).lower() == answer.lower().rstrip(".")]:
        return matches[0]
    for pattern in (_LETTER.match(answer), _ANSWER.search(answer)):
        if pattern and (place := ord(pattern[1].upper()) - ord("A")) < len(options):
            return options[place]
    named = [option for option in options if _names(answer, seen(option))]
    return named[0] if len(named) == 1 else None


def _names(answer: str, option: str) -> bool:
    """Whether an option stands in an answer, not as part of a word or of another number (5 in -5 or 0.5)."""
    before = r"(?<![\w.])(?<!\d,)(?<!(?<!\w)-)" if option[:1].isdigit() else r"(?<!\w)"
    after = r"(?!\w|[.,]\d)" if option[-1:].isdigit() else r"(?!\w)"
    return re.search(f"{before}{re.escape(option)}{after}", answer, re.IGNORECASE) is not None


def read_number(text: str) -> float | None:
    """The last number written in an answer, thousands' commas and powers of ten (2e3) allowed; None if there
    is none. The digits of a word or a power are none, and the minus of a range (3-5) is no sign."""
    numbers = [float(number.replace(",", "")) for number in _NUMBER.findall(seen(text))]
    return numbers[-1] if numbers and math.isfinite(numbers[-1]) else None


def _read_list(text: str) -> str | None:
    """The last bracketed Python list of an answer, in Python's own spelling; None if there is none."""
    for written in reversed(re.findall(r"\[[^\[\]]*\]", seen(text))):
        try:
            return str(ast.literal_eval(written))
        except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):  # all that it raises
            continue
    return None
