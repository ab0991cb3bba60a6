"""Where our scores leave lmms-eval's figures, on purpose: one small piece each.

Read docs/benchmarks.md for the reasons. A benchmark that `evaluation.overlays` does not name has the score
that lmms-eval reports.
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
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+")
_ANSWER = re.compile(r"(?:answer|option|choice)\s*(?:is|:)?\s*\(?([A-Za-z])\)?(?![A-Za-z])")
_LETTER = re.compile(r"\(?([A-Za-z])\)?\s*(?:[.:,)]|$)")


@contextlib.contextmanager
def mmmu_guesses(guess: Callable[[list[str]], str]) -> Iterator[None]:
    """MMMU: what its parser does with an answer it cannot read, while this lasts.

    lmms-eval guesses an option at random, so that all-"hmm" scores 21. `no_guess` gives no credit.
    """
    from lmms_eval.tasks._task_utils import mmmu_mcq_utils

    original = mmmu_mcq_utils.random
    mmmu_mcq_utils.random = SimpleNamespace(choice=guess)
    try:
        yield
    finally:
        mmmu_mcq_utils.random = original


def no_guess(options: list[str]) -> str:  # noqa: ARG001  (stands in for random.choice)
    """The parsed answer where there is none: equal to no option."""
    return UNPARSABLE


def mathvista_by_rules(row: Mapping[str, Any], text: str) -> tuple[bool, bool]:
    """MathVista (arXiv 2310.02255) without a judge: (correct, unparsable) of a direct answer.

    lmms-eval asks a language model to extract the answer, and without one gives the option most similar to
    whatever came back. Here a lettered question is answered by a letter, "(B)", "B. text", "the answer is B",
    or the text of exactly one option; a number is the last one written; a list is the last one in brackets.
    What fits none of these is unparsable and wrong.
    """
    if row["question_type"] == "multi_choice":
        found: str | None = read_option(text, row["choices"])
    elif row["answer_type"] == "list":
        found = _read_list(text)
    else:
        number = read_number(text)
        places = int(row["precision"] or 0)
        whole = row["answer_type"] == "integer"
        found = None if number is None else str(int(number) if whole else round(number, places))
    return found is not None and found.strip() == str(row["answer"]).strip(), found is None


def read_option(text: str, options: list[str]) -> str | None:
    """The one option that an answer names, by its text or its letter; None if it names none or several."""
    answer = text.strip()
    if matches := [option for option in options if option.lower() == answer.lower().rstrip(".")]:
        return matches[0]
    for pattern in (_LETTER.match(answer), _ANSWER.search(answer)):
        if pattern and (place := ord(pattern[1].upper()) - ord("A")) < len(options):
            return options[place]
    named = [o for o in options if re.search(rf"(?<!\w){re.escape(o)}(?!\w)", answer, re.IGNORECASE)]
    return named[0] if len(named) == 1 else None


def read_number(text: str) -> float | None:
    """The last number written in an answer, thousands' commas allowed; None if there is none."""
    numbers = [float(number.replace(",", "")) for number in _NUMBER.findall(text)]
    return numbers[-1] if numbers and math.isfinite(numbers[-1]) else None


def _read_list(text: str) -> str | None:
    """The last bracketed Python list of an answer, in Python's own spelling; None if there is none."""
    for found in reversed(re.findall(r"\[[^\[\]]*\]", text)):
        try:
            return str(ast.literal_eval(found))
        except (SyntaxError, ValueError):
            continue
    return None
