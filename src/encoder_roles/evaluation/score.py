"""Scores: one process reads the predictions of all models and masks with the tasks' code, and writes tables.

Nothing is scored unless all inputs are consistent: the requests are those of their manifest, the data are
those that the requests were made from, and every prediction file answers every question once.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from encoder_roles.analysis.statistics import score_intervals
from encoder_roles.benchmarks.table import TASKS, find_benchmark
from encoder_roles.evaluation.requests import Request, benchmark_file, read_manifest, read_requests
from encoder_roles.provenance import atomic_file, sha256_of, write_table
from encoder_roles.study.names import BLIND, NO_MASK, NONE_KEPT, StudyError
from encoder_roles.study.sections import Operator
from encoder_roles.study.stages import ScoreStage, read_settings

TABLE_COLUMNS = [
    *("study", "subset", "seed", "mask", "operator", "level", "benchmark", "group"),
    *("metric", "score", "low", "high", "n", "unparsable_share"),
]


@dataclass(frozen=True)
class Cell:
    """One model under one mask: a folder {subset}/seed{seed}/{mask}.{operator} of prediction files."""

    folder: Path
    subset: str
    seed: int
    mask: str
    operator: str


def score_predictions(
    *,
    settings: Path,
    requests: Path,
    data: Path,
    predictions: list[Path],
    output_scores: Path,
    output_table: Path,
) -> None:
    """Score every cell at or below the `predictions` folders; write scores.parquet and scores.csv.

    Args:
        settings: a ScoreStage. A benchmark that its `overlays` do not name gets lmms-eval's figure;
            docs/benchmarks.md says where they differ.
        requests: the folder of requests.
        data: the data that the requests were written from.
        predictions: folders of predictions.
        output_scores: scores.parquet, a row per question.
        output_table: scores.csv, a row per benchmark, group and overall score.

    Raises:
        StudyError: requests or data have changed; a question is missing, doubled or unknown; or an answer is
            not text. Nothing is written then.
    """
    stage = read_settings(settings, ScoreStage)
    manifest = read_manifest(requests)
    cells = find_cells(predictions, tuple(manifest))
    tables = []
    for name in tqdm(manifest, desc="scoring", unit="benchmark", file=sys.stderr, disable=None):
        tables.append(_score_benchmark(name, manifest[name], requests, data, cells, name in stage.overlays))
    table = pa.concat_tables(tables)
    table = table.add_column(0, "study", pa.array([stage.study] * len(table)))
    summary = score_intervals(table.to_pandas(), stage.statistics)
    summary["metric"] = [TASKS[b].metric if b in TASKS else "mean" for b in summary["benchmark"]]
    with atomic_file(output_scores) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    write_table(output_table, summary[TABLE_COLUMNS], "%.6f")


def find_cells(folders: list[Path], benchmarks: tuple[str, ...]) -> list[Cell]:
    """The cells at or below some folders, sorted by path.

    Raises StudyError if there are none, or a folder or file has an unexpected name.
    """
    paths = sorted({file.parent for folder in folders for file in folder.rglob("*.jsonl")})
    if not paths:
        raise StudyError(f"{', '.join(map(str, folders))}: no predictions (*.jsonl) at or below")
    cells = [_read_cell(folder) for folder in paths]
    names = [(c.subset, c.seed, c.mask, c.operator) for c in cells]
    if len(set(names)) != len(names):
        double = next(c.folder for i, c in enumerate(cells) if names[i] in names[:i])
        raise StudyError(f"{double}: this model and mask are given twice")
    for cell in cells:
        for file in sorted(cell.folder.glob("*.jsonl")):
            if file.stem not in benchmarks:
                raise StudyError(
                    f"{file}: no requests of a benchmark {file.stem!r} (requests: {', '.join(benchmarks)})"
                )
    return cells


def _read_cell(folder: Path) -> Cell:
    """The cell of a path. Raises StudyError if the path is of another form or the mask does not fit."""
    subset, seed, rest = folder.parts[-3:] if len(folder.parts) >= 3 else ("", "", "")
    mask, _, operator = rest.rpartition(".")
    number = re.fullmatch(r"seed(\d+)", seed)
    if not (subset and mask and number) or operator not in (NO_MASK, *get_args(Operator)):
        raise StudyError(
            f"{folder}: not a folder {{subset}}/seed{{seed}}/{{mask}}.{{operator}} of predictions"
        )
    unmasked = NONE_KEPT if subset == BLIND else subset
    kept, trained = set(mask.split("+")) - {NONE_KEPT}, set(unmasked.split("+"))
    if (operator == NO_MASK) != (mask == unmasked) or not kept <= trained:
        raise StudyError(f"{folder}: mask {mask!r} with operator {operator!r} does not fit subset {subset!r}")
    return Cell(folder, subset, int(number[1]), mask, operator)


def _score_benchmark(
    name: str, entry: dict[str, Any], requests: Path, data: Path, cells: list[Cell], overlay: bool
) -> pa.Table:
    """The rows of one benchmark in scores.parquet, without `study`."""
    from encoder_roles.evaluation.judge import Judge

    questions = read_requests(requests, name)
    parquet = benchmark_file(data, name, entry["split"])
    if sha256_of(parquet) != entry["data_sha256"]:
        raise StudyError(
            f"{parquet}: not the data that {requests} was written from; write the requests again"
        )
    judge = Judge(find_benchmark(name), parquet, overlay)
    if (ids := [request.id for request in questions]) != list(judge.ids):
        raise StudyError(
            f"{requests / name}.jsonl: its questions are not those of {parquet}; write them again"
        )
    judged = [judge.judge(read_predictions(cell.folder / f"{name}.jsonl", questions)) for cell in cells]
    n = len(questions)
    return pa.table(
        {
            **{k: _repeat([getattr(c, k) for c in cells], n) for k in ("subset", "seed", "mask", "operator")},
            "benchmark": _repeat([name], n * len(cells)),
            "group": _repeat([entry["group"]], n * len(cells)),
            "question": _tile(ids, len(cells)),
            "cluster": _tile([request.cluster for request in questions], len(cells)),
            "score": np.concatenate([scores for scores, _, _ in judged]),
            "weight": np.concatenate([weights for _, weights, _ in judged]),
            "unparsable": np.concatenate([flags for _, _, flags in judged]),
        }
    )


def _repeat(values: list[Any], times: int) -> pa.Array:
    return pa.array(values).take(pa.array(np.repeat(np.arange(len(values)), times)))


def _tile(values: list[Any], times: int) -> pa.Array:
    return pa.array(values).take(pa.array(np.tile(np.arange(len(values)), times)))


def read_predictions(path: Path, requests: list[Request]) -> list[str]:
    """The answers of one prediction file, in the order of the requests.

    Raises StudyError that names the first fault.
    """
    if not path.is_file():
        raise StudyError(f"{path}: no such file; every model answers every benchmark of the requests")
    clusters = {request.id: request.cluster for request in requests}
    answers: dict[str, str] = {}
    for number, row in _read_lines(path):
        id, text = row.get("id"), row.get("text")
        if not isinstance(id, str) or id not in clusters:
            raise StudyError(
                f"{path}, line {number}: unknown question id {id!r}; predict again from these requests"
            )
        if id in answers:
            raise StudyError(f"{path}, line {number}: question {id!r} is answered twice")
        if not isinstance(text, str):
            raise StudyError(f"{path}, line {number}: the answer to question {id!r} is not text: {text!r}")
        if row.get("cluster") != clusters[id]:
            raise StudyError(
                f"{path}, line {number}: question {id!r} is in cluster {clusters[id]!r} of the requests"
            )
        answers[id] = text
    if missing := [request.id for request in requests if request.id not in answers]:
        raise StudyError(
            f"{path}: {len(missing)} of {len(requests)} questions are not answered, first {missing[0]!r}"
        )
    return [answers[request.id] for request in requests]


def _read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a prediction file and their line numbers. Raises StudyError if a line is not an object."""
    # not splitlines: an answer may contain U+2028
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    try:
        rows = json.loads(f"[{','.join(lines)}]")  # one call per file, because there are thousands of files
    except json.JSONDecodeError:
        rows = [_read_line(path, number, line) for number, line in enumerate(lines, 1)]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise StudyError(f"{path}, line {number}: expected an object with id, cluster and text")
        yield number, row


def _read_line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        raise StudyError(f"{path}, line {number}: not JSON ({error}); is the file truncated?") from error
