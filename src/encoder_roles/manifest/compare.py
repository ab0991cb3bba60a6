"""`compare-runs`: whether two runs of a study have the same bytes, except in measured time."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from encoder_roles.manifest.verify import read_manifest
from encoder_roles.provenance import sha256_of
from encoder_roles.study.names import StudyError

# File pattern -> its keys or columns with measured time or memory; everything else must be equal.
TIME_AND_MEMORY = ("seconds", "peak_memory_mb")
ALL_KEYS = ("*",)
MEASURED: dict[str, tuple[str, ...]] = {
    "models/*/training.json": TIME_AND_MEMORY,
    "models/*/log.jsonl": TIME_AND_MEMORY,
    "predictions/*/prediction.json": TIME_AND_MEMORY,
    "costs.csv": (
        "align_seconds", "tune_seconds", "predict_seconds", "peak_memory_mb", "core_hours", "gpu_hours",
    ),
    "pareto.csv": (
        "predict_seconds", "peak_memory_mb", "core_hours", "gpu_hours", "points_per_core_hour",
        "points_per_gpu_hour", "front_core_hours", "front_gpu_hours", "front_predict_seconds",
    ),
    "figures/score_latency.*": ALL_KEYS,
}  # fmt: skip


def compare_runs(first: Path, second: Path, /) -> None:
    """Compare two runs' results byte by byte: one line per difference, and exit code 1 if there is one.

    In files with measured time or memory, only the other keys or columns are compared.

    Args:
        first: results/<study> of one run, with its manifest.json.
        second: results/<study> of the other run.
    """
    runs = (first, second)
    files = [read_manifest(run / "manifest.json")["files"] for run in runs]
    differences, measured = [], 0
    for name in sorted(files[0].keys() | files[1].keys()):
        if absent := [run for run, listed in zip(runs, files, strict=True) if name not in listed]:
            differences.append(f"{name}: not in {absent[0]}")
            continue
        if lost := [run / name for run in runs if not (run / name).is_file()]:
            differences.append(f"{lost[0]}: missing; run `encoder-roles verify`")
            continue
        if sha256_of(first / name) == sha256_of(second / name):
            continue
        if fault := unlike(name, first / name, second / name):
            differences.append(f"{name}: {fault}")
        else:
            measured += 1
    for difference in differences:
        print(difference, file=sys.stderr)
    if differences:
        raise StudyError(f"{first} and {second}: {len(differences)} files differ, listed above")
    same = len(files[0]) - measured
    print(f"{first} and {second}: {same} files have the same bytes, {measured} differ only in measured time")


def unlike(name: str, first: Path, second: Path) -> str | None:
    """How two files with different bytes differ, apart from measured time; None if they do not."""
    keys = next((keys for pattern, keys in MEASURED.items() if fnmatch(name, pattern)), None)
    if keys is None:
        return "the bytes differ"
    if keys == ALL_KEYS:
        return None
    read = READERS[first.suffix]
    before, after = read(first), read(second)
    if len(before) != len(after):
        return f"{len(before)} rows against {len(after)}"
    for row, (one, other) in enumerate(zip(before, after, strict=True)):
        for key in sorted((one.keys() | other.keys()) - set(keys)):
            if one.get(key) != other.get(key):
                where = f"row {row}, " if len(before) > 1 else ""
                return f"{where}{key} is {one.get(key)} against {other.get(key)}"
    return None


def _read_csv(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _read_json(path: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8"))]


READERS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    ".csv": _read_csv,
    ".json": _read_json,
    ".jsonl": _read_lines,
}
