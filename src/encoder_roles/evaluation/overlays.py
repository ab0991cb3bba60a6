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

UNPARSABLE = ""  # MMMU's parser returns it instead of a random option
_NUMBER = re.compile(r"-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|-?\.\d+")
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

    lmms-eval lets a language model extract the answer; without one it takes the option most similar to the
    text. Here the answer to a question with options is a letter, "(B)", "B. text", "the answer is B", or the
    text of exactly one option. A number is the last one in the text, a list is the last one in brackets. Any
    other text is unparsable and wrong.
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
    return answer is not None and answer.strip() == str(row["answer"]).strip(), answer is None


def read_option(text: str, options: list[str]) -> str | None:
    """The option that an answer names by text or letter; None if it names none or several."""
    answer = text.strip()
    if matches := [option for option in options if option.lower() == answer.lower().rstrip(".")]:
        return matches[0]
    for pattern in (_LETTER.match(answer), _ANSWER.search(answer)):
        if pattern and (place := ord(pattern[1].upper()) - ord("A")) < len(options):
            return options[place]
    named = [o for o in options if re.search(rf"(?<!\w){re.escape(o)}(?!\w)", answer, re.IGNORECASE)]
    return named[0] if len(named) == 1 else None


def read_number(text: str) -> float | None:
    """The last number in an answer, which may have commas at the thousands; None if there is none."""
    numbers = [float(number.replace(",", "")) for number in _NUMBER.findall(text)]
    return numbers[-1] if numbers and math.isfinite(numbers[-1]) else None


def _read_list(text: str) -> str | None:
    """The last bracketed list in an answer, as Python writes it; None if there is none."""
    for literal in reversed(re.findall(r"\[[^\[\]]*\]", text)):
        try:
            return str(ast.literal_eval(literal))
        except (SyntaxError, ValueError):
            continue
    return None
