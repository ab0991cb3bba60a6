"""Scores against lmms-eval's own evaluator, with the overlays off; what the overlays change; bad predictions."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from benchmark_cases import messy_answer, write_case
from lmms_oracle import evaluate_with_lmms

from encoder_roles.evaluation.answers import Judge
from encoder_roles.evaluation.tasks import TASKS
from encoder_roles.study import BENCHMARKS

ROWS = 520  # at least 500 questions are left of every benchmark but those of which a part is dropped


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for benchmark in BENCHMARKS:
        write_case(folder, benchmark, ROWS)
    return folder


def judge_of(cases: Path, benchmark: str, overlays: bool) -> Judge:
    return Judge(TASKS[benchmark], cases / "benchmarks" / benchmark / "test.parquet", overlays)


def answers_to(judge: Judge) -> list[str]:
    rng = random.Random(judge.benchmark.name)
    return [messy_answer(row, rng) for row in judge._rows]


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_without_overlays_a_benchmark_scores_what_lmms_eval_reports(
    cases: Path, benchmark: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # lmms-eval writes submissions/ and results/ where it stands
    judge = judge_of(cases, benchmark, overlays=False)
    texts = answers_to(judge)
    scores, weights, _ = judge.judge(texts)
    reported = evaluate_with_lmms(judge, texts)
    assert 1 < np.average(scores, weights=weights) < 99
    assert np.average(scores, weights=weights) == pytest.approx(reported, abs=0.0051)
