"""lmms-eval's own evaluator over judges' rows, with given texts as the model's answers."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import Any

from encoder_roles.evaluation.judge import Judge  # first: it makes lmms-eval importable

from lmms_eval.api.model import lmms  # isort: skip
from lmms_eval.evaluator import simple_evaluate  # isort: skip
from lmms_eval.tasks import TaskManager  # isort: skip

OWN_NAMES = {"mathvista": "llm_as_judge_eval"}  # where our metric has another name
CATEGORIES = 2  # points of MME's perception per category and point of ours


class Reciter(lmms):
    """A model whose answers to each task are given."""

    def __init__(self, texts: dict[str, list[str]]) -> None:
        super().__init__()
        self._texts = texts

    def generate_until(self, requests: list[Any]) -> list[str]:
        return [self._texts[task][place] for _, _, _, place, task, _ in (r.args for r in requests)]

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        raise AssertionError("the sixteen tasks generate")

    def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
        raise AssertionError("the sixteen tasks ask once")


def evaluate_with_lmms(judges: dict[str, Judge], texts: dict[str, list[str]]) -> dict[str, float]:
    """What `simple_evaluate` reports for some benchmarks in one call, on 0-100."""
    tasks = {name: judge._task.config.task for name, judge in judges.items()}
    with contextlib.redirect_stdout(Path(os.devnull).open("w")), contextlib.redirect_stderr(io.StringIO()):
        results = simple_evaluate(
            model=Reciter({tasks[name]: texts[name] for name in judges}),
            tasks=[judge._task for judge in judges.values()],
            task_manager=TaskManager(include_defaults=False),
            process_docs_parallel=1,  # with threads MMMU's random options come in another order each time
            bootstrap_iters=0,
            log_samples=False,
        )
    return {name: _reported(judge, results["results"][tasks[name]]) for name, judge in judges.items()}


def _reported(judge: Judge, result: dict[str, Any]) -> float:
    name = judge.benchmark.name
    metric = OWN_NAMES.get(name, judge.benchmark.metric)
    value = next(v for key, v in result.items() if key.split(",")[0] == metric)
    if name == "mme":
        return float(value / (CATEGORIES * len({row["category"] for row in judge._rows})))
    return float(value if name in ("mmbench", "mathvista") else 100 * value)
