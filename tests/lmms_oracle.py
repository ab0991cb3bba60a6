"""lmms-eval's own evaluator over a judge's rows, with given texts as the model's answers."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from encoder_roles.evaluation.answers import Judge  # first: it makes lmms-eval importable

from lmms_eval.api.model import lmms  # isort: skip
from lmms_eval.evaluator import simple_evaluate  # isort: skip
from lmms_eval.tasks import TaskManager  # isort: skip

OWN_NAMES = {"mathvista": "llm_as_judge_eval"}  # where our metric has another name
CATEGORIES = 2  # points of MME's perception per category and point of ours


class Reciter(lmms):
    """A model whose answers are given."""

    def __init__(self, texts: list[str]) -> None:
        super().__init__()
        self._texts = texts

    def generate_until(self, requests: list[Any]) -> list[str]:
        return [self._texts[request.args[3]] for request in requests]

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        raise AssertionError("the sixteen tasks generate")

    def generate_until_multi_round(self, requests: list[Any]) -> list[Any]:
        raise AssertionError("the sixteen tasks ask once")


def evaluate_with_lmms(judge: Judge, texts: list[str]) -> float:
    """What `simple_evaluate` reports for the benchmark, on 0-100."""
    name, task = judge.benchmark.name, judge._task
    task.config.task = task.config.task or name
    with contextlib.redirect_stdout(Path(os.devnull).open("w")):
        results = simple_evaluate(
            model=Reciter(texts),
            tasks=[task],
            task_manager=TaskManager(include_defaults=False),
            process_docs_parallel=1,  # with threads MMMU's random options come in another order each time
            bootstrap_iters=0,
            log_samples=False,
        )
    found = results["results"][task.config.task]
    metric = OWN_NAMES.get(name, judge.benchmark.metric)
    value = next(v for key, v in found.items() if key.split(",")[0] == metric)
    if name == "mme":
        return value / (CATEGORIES * len({row["category"] for row in judge._rows}))
    return value if name in ("mmbench", "mathvista") else 100 * value
