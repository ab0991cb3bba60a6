# ruff: noqa: ARG001  (all functions of UNREAD have the same arguments)
"""Judging answers: lmms-eval's task code reads each (question, text) once; then scores get weights.

Some benchmarks sum over pairs, circles or sources instead of questions. Here every benchmark has the same
form: a score (0-100) and a weight per question, whose weighted mean is the benchmark's score. So uncertainty
is computed in the same way for all. tests/test_evaluation_scores.py compares this with lmms-eval's
aggregates.
"""

from __future__ import annotations

import contextlib
import inspect
import random
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoder_roles.benchmarks.table import Benchmark, cluster_of
from encoder_roles.evaluation.harness import LocalTask, load_task  # first: it makes lmms-eval importable
from encoder_roles.evaluation.overlays import UNPARSABLE, mathvista_by_rules, mmmu_guesses, no_guess
from encoder_roles.study.names import StudyError

from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer  # isort: skip
from lmms_eval.tasks.mme.utils import parse_pred_ans  # isort: skip
from lmms_eval.tasks.mmmu.utils import evaluate_mmmu  # isort: skip

Array = npt.NDArray[np.float64]
Row = dict[str, Any]
Verdict = tuple[float, bool]  # a question's value, 0-1, and whether its answer is unparsable

OCRBENCH_TOTAL = 1000  # lmms-eval divides OCRBench's hits by it, for any number of questions
_process = inspect.unwrap(LocalTask.process_results)  # without retries, which are for lost connections


class Judge:
    """Judges the answers to one benchmark's rows. `ids` are its questions, in the order of the rows.

    Without `overlay` the score is lmms-eval's figure. Raises StudyError if a pair or circle is incomplete.
    """

    def __init__(self, benchmark: Benchmark, parquet: Path, overlay: bool = True) -> None:
        task = load_task(benchmark, parquet, with_pictures=False)
        self.benchmark, self.ids, self._overlay = benchmark, task.ids, overlay
        self._task = task.lmms
        self._rows: list[Row] = task.rows.to_list()
        self._verdicts: list[dict[str, Verdict]] = [{} for _ in self._rows]
        self._spread = _spreader(benchmark, self._rows, parquet, overlay)

    def judge(self, texts: Sequence[str]) -> tuple[Array, Array, npt.NDArray[np.bool_]]:
        """Scores (0-100), weights and unparsable flags of one answer per question, in the order of `ids`."""
        verdicts = [self._verdict(place, text) for place, text in enumerate(texts)]
        values = np.array([value for value, _ in verdicts], dtype=float)
        if self.benchmark.name == "mmmu" and not self._overlay:
            with mmmu_guesses(random.Random(0).choice):  # noqa: S311  (as lmms-eval does)
                results = [self._process(row, text) for row, text in zip(self._rows, texts, strict=True)]
            values = np.array([_mmmu_value(result) for result in results])
        scores, weights = self._spread(values)
        return scores, weights, np.array([unparsable for _, unparsable in verdicts], dtype=bool)

    def _verdict(self, place: int, text: str) -> Verdict:
        known = self._verdicts[place]
        if text not in known:
            known[text] = self._read(self._rows[place], text)
        return known[text]

    def _read(self, row: Row, text: str) -> Verdict:
        name = self.benchmark.name
        if name == "mmbench":
            return _mmbench(self._task, row, text)
        if name == "mathvista":
            correct, unparsable = mathvista_by_rules(row, text)
            value = correct if self._overlay else _mathvista_value(self._process(row, text))
            return float(value), unparsable
        with mmmu_guesses(no_guess) if name == "mmmu" else contextlib.nullcontext():
            result = self._process(row, text)
        return float(VALUES.get(name, _exact_match)(result)), UNREAD.get(name, _is_empty)(row, text, result)

    def _process(self, row: Row, text: str) -> dict[str, Any]:
        """lmms-eval's filters and process_results, as its evaluator calls them."""
        # a copy, because TextVQA's code changes the list of answers in its row
        row = {column: list(v) if isinstance(v, list) else v for column, v in row.items()}
        answers: Any = [[text]]
        for step in self._task._filters[0].filters:
            answers = list(step.apply(answers, [row]))
        return dict(_process(self._task, row, answers))


# The value of a question, 0-1, from the result of each task. Other tasks have it as `exact_match`.


def _exact_match(result: dict[str, Any]) -> float:
    return float(result["exact_match"])


def _mmmu_value(result: dict[str, Any]) -> float:
    return float(evaluate_mmmu([result["mmmu_acc"]])[1]["acc"])


def _mathvista_value(result: dict[str, Any]) -> bool:
    return bool(result["llm_as_judge_eval"]["true_false"])


def _seed_value(result: dict[str, Any]) -> bool:
    item = result["seed_image"]
    return bool(item["pred"].lower().strip() == item["answer"].lower().strip())


VALUES: dict[str, Callable[[dict[str, Any]], float]] = {
    "mme": lambda result: result["mme_perception_score"]["score"],
    "seed": _seed_value,
    "mmmu": _mmmu_value,
    "chartqa": lambda result: result["relaxed_overall"],
    "ocrbench": lambda result: result["ocrbench_accuracy"]["score"],
    "docvqa": lambda result: result["anls"],
    "mmvp": lambda result: result["mmvp_pair_accuracy"]["is_correct"],
    "cvbench2d": lambda result: result["cv_bench_acc"]["is_correct"],
    "cvbench3d": lambda result: result["cv_bench_acc"]["is_correct"],
}


def _mmbench(task: LocalTask, row: Row, text: str) -> Verdict:
    """One rotation of an MMBench question, read by its evaluator; a circle is right if all rotations are."""
    process = task.config.process_results
    item = process(row, [text.strip()])["gpt_eval_score"]
    evaluator = process.__globals__["mmbench_evaluator"]
    letter = evaluator.prefetch_answer(item)
    if not letter:
        letter = extract_mcq_answer(item["prediction"], choices=sorted(evaluator.build_choices(item)))
    return float(letter == row["answer"]), not letter


# Whether a task's parser finds no answer in the text. Answers to open questions are compared as they are:
# only an empty one is unparsable.


def _is_empty(row: Row, text: str, result: dict[str, Any]) -> bool:
    return not text.strip()


def _no_letter(letters: int, answer: str) -> bool:
    letter = answer.upper()  # of two characters for some letters, as for ß
    return len(letter) != 1 or not 0 <= ord(letter) - ord("A") < letters


def _mme_unread(row: Row, text: str, result: dict[str, Any]) -> bool:
    return bool(parse_pred_ans(text.strip()) == "other")


def _seed_unread(row: Row, text: str, result: dict[str, Any]) -> bool:
    return _no_letter(4, result["seed_image"]["pred"])


def _mmvp_unread(row: Row, text: str, result: dict[str, Any]) -> bool:
    return not result["mmvp_pair_accuracy"]["pred_letter"]


def _scienceqa_unread(row: Row, text: str, result: dict[str, Any]) -> bool:
    answer = text.strip()
    lettered = len(answer) >= 2 and answer[0].isupper() and answer[1] == "."
    return _no_letter(len(row["choices"]), answer[0] if lettered else answer)


def _ai2d_unread(row: Row, text: str, result: dict[str, Any]) -> bool:
    answer = text.strip()
    lettered = answer[1:2] == "." and answer[0].isupper()
    bare = answer[0] if lettered else answer.translate(str.maketrans("", "", string.punctuation))
    return _no_letter(len(row["options"]), bare)


def _mmmu_unread(row: Row, text: str, result: dict[str, Any]) -> bool:
    if row["question_type"] != "multiple-choice":
        return not text.strip()
    return bool(result["mmmu_acc"]["parsed_pred"][0] == UNPARSABLE)


def _realworldqa_unread(row: Row, text: str, result: dict[str, Any]) -> bool:
    if row["answer"].strip().upper() in ("A", "B", "C", "D"):
        return not extract_mcq_answer(text, choices=["A", "B", "C", "D"])
    return not text.strip()


def _cvbench_unread(row: Row, text: str, result: dict[str, Any]) -> bool:
    return _no_letter(len(row["choices"]), result["cv_bench_acc"]["pred_parsed"])


UNREAD: dict[str, Callable[[Row, str, dict[str, Any]], bool]] = {
    "mme": _mme_unread,
    "seed": _seed_unread,
    "scienceqa": _scienceqa_unread,
    "mmmu": _mmmu_unread,
    "ai2d": _ai2d_unread,
    "mmvp": _mmvp_unread,
    "realworldqa": _realworldqa_unread,
    "cvbench2d": _cvbench_unread,
    "cvbench3d": _cvbench_unread,
}


# From the values of questions to scores and weights.

Spread = Callable[[Array], tuple[Array, Array]]


def _spreader(benchmark: Benchmark, rows: list[Row], parquet: Path, overlay: bool) -> Spread:
    """The function from the values of questions (0-1) to scores (0-100) and weights of mean 1."""
    n = len(rows)
    even = np.ones(n)
    if benchmark.name in ("mme", "mmvp", "mmbench"):
        unit, size = _units(benchmark, rows, parquet)
        if benchmark.name == "mme":
            weights = _even_weights([row["category"] for row in rows])
            # lmms-eval gives a pair accuracy + both right, at most 200; half of it is on 0-100
            return lambda values: (50 * values + 50 * _all_right(values, unit), weights)
        weights = 1 / size[unit]
        return lambda values: (100 * _all_right(values, unit), weights * n / weights.sum())
    if benchmark.name == "cvbench2d" and overlay:
        weights = _even_weights([row["source"] for row in rows])
        return lambda values: (100 * values, weights)
    scale = 100.0 if benchmark.name != "ocrbench" or overlay else 100.0 * n / OCRBENCH_TOTAL
    return lambda values: (scale * values, even)


def _units(
    benchmark: Benchmark, rows: list[Row], parquet: Path
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The number of each row's pair or circle, and their sizes. Raises StudyError if one is incomplete."""
    names = [cluster_of(benchmark, row, ()) for row in rows]
    units, unit, size = np.unique(names, return_inverse=True, return_counts=True)
    if benchmark.name in ("mme", "mmvp") and (size != 2).any():
        wrong = str(units[size != 2][0])
        raise StudyError(f"{parquet}: {benchmark.name} pair {wrong!r} has {size[size != 2][0]} rows, not 2")
    if benchmark.name == "mmbench" and (orphans := set(units) - {str(row["index"]) for row in rows}):
        raise StudyError(
            f"{parquet}: mmbench circle {min(orphans)} lacks its first rotation (index < 1000000)"
        )
    return unit, size


def _all_right(values: Array, unit: npt.NDArray[np.intp]) -> Array:
    """For each row, 1 if every row of its unit is right, otherwise 0."""
    lowest = np.full(unit.max() + 1, np.inf)
    np.minimum.at(lowest, unit, values)
    return lowest[unit]


def _even_weights(labels: list[str]) -> Array:
    """Weights of mean 1 that give every label the same total, whatever its number of rows."""
    _, code, size = np.unique(labels, return_inverse=True, return_counts=True)
    return np.asarray(len(labels) / (len(size) * size[code]), dtype=float)
