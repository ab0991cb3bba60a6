"""Scoring 61 checkpoints on sixteen benchmarks in one process, against an lmms-eval evaluation per cell.

Run from the repository root: `python performance/score_checkpoints.py`. Every cell answers 500 varied
questions with messy answers. Ours: `encoder-roles score-predictions` over all 61 x 16 cells, intervals
included. The alternative, what one `lmms-eval` call per cell does: a fresh process that imports lmms-eval,
indexes its tasks and evaluates one model on one benchmark with the answers given. It is timed on every fourth
benchmark and multiplied by the number of cells; a real call would also start a model.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import pyarrow.parquet as pq
from benchmark_cases import messy_answer, write_case

from encoder_roles.evaluation.requests import read_requests, write_requests
from encoder_roles.provenance import write_json, write_jsonl
from encoder_roles.study.names import BENCHMARKS, NO_MASK, OVERLAYS, all_subsets

TESTS = Path(__file__).parents[1] / "tests"
POOL = ("clip", "siglip", "dinov2", "convnext", "sam")
FULL = "+".join(POOL)
QUESTIONS = 500
TIMED = BENCHMARKS[::4]
SCORE = (
    "score-predictions --settings score.json --requests requests --data data --predictions predictions"
    " --output-scores scores.parquet --output-table scores.csv"
)
STATISTICS = {"resamples": 2000, "level": 0.95, "seed": 0, "overall": "benchmarks"}
ALONE = """
import json, sys
sys.path.insert(0, sys.argv[1])
import lmms_oracle
from encoder_roles.evaluation.judge import Judge
from encoder_roles.benchmarks.table import TASKS
from pathlib import Path
lmms_oracle.TaskManager()  # a call from the command line indexes all tasks
texts = json.loads(Path(sys.argv[4]).read_text())
judge = Judge(TASKS[sys.argv[2]], Path(sys.argv[3]), overlay=False)
print(lmms_oracle.evaluate_with_lmms({sys.argv[2]: judge}, {sys.argv[2]: texts}))
"""


def cells() -> list[str]:
    """31 models as trained and the 30 masks of the full one: 61 folders of answers."""
    subsets = all_subsets(POOL)
    trained = [f"{subset}/seed0/{subset}.{NO_MASK}" for subset in subsets]
    return trained + [f"{FULL}/seed0/{mask}.zero" for mask in subsets[:-1]]


def prepare(folder: Path) -> None:
    """Data, requests and every cell's answers."""
    for name in BENCHMARKS:
        write_case(folder / "data", name, QUESTIONS)
    write_json(folder / "requests.json", {"benchmarks": BENCHMARKS})
    write_requests(settings=folder / "requests.json", data=folder / "data", output=folder / "requests")
    write_json(folder / "score.json", {"study": "speed", "overlays": OVERLAYS, "statistics": STATISTICS})
    for name in BENCHMARKS:
        rows = pq.read_table(folder / "data/benchmarks" / name / "test.parquet").to_pylist()
        asked = read_requests(folder / "requests", name)
        for cell in cells():
            rng = random.Random(cell + name)  # noqa: S311  # answers, not secrets
            answers = [
                {"id": r.id, "cluster": r.cluster, "text": messy_answer(rows[int(r.id)], rng)} for r in asked
            ]
            write_jsonl(folder / "predictions" / cell / f"{name}.jsonl", answers)
        write_json(folder / "texts" / f"{name}.json", [answer["text"] for answer in answers])


def seconds(command: list[str], folder: Path) -> float:
    begin = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - begin


def inputs_of(name: str) -> list[str]:
    """What ALONE is called with for a benchmark."""
    return [name, f"data/benchmarks/{name}/test.parquet", f"texts/{name}.json"]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prepare(folder)
        ours = seconds([sys.executable, "-m", "encoder_roles.cli", *SCORE.split()], folder)
        each = {
            name: seconds([sys.executable, "-c", ALONE, str(TESTS), *inputs_of(name)], folder)
            for name in TIMED
        }
    n = len(cells()) * len(BENCHMARKS)
    mean = sum(each.values()) / len(each)
    found = {
        "cells": n,
        "one process, seconds": round(ours, 1),
        "a process per cell, seconds each": {name: round(value, 1) for name, value in each.items()},
        "a process per cell, seconds in all (cells x mean)": round(n * mean),
        "ratio": round(n * mean / ours),
    }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
