"""The events of the last run of a study as lines of JSON, which `encoder-roles status` reads.

`.snakemake/runs/<study>.jsonl`: the first line (`run`) has the host and the process, the cores (on a cluster:
the most jobs), whether it is a cluster, and the jobs to do by rule. Each other line is a job's `start` (on a
cluster: its submission), `finish` or `fail`. A new run replaces the file, and a line that a kill
cut off is passed over.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

RUNS = Path(".snakemake/runs")
RESULTS = "results"


def study_of(files: Sequence[object]) -> str | None:
    """The study of a job, from the first of its files in results/; None if there is none."""
    for file in files:
        parts = Path(str(file)).parts
        if len(parts) > 2 and parts[0] == RESULTS:
            return parts[1]
    return None


class EventWriter:
    """Writes the events of one run, from the first job that names its study."""

    def __init__(self) -> None:
        self.file: Path | None = None
        self.run: dict[str, Any] = {}

    def begin(self, jobs: Mapping[str, int], cores: int, *, cluster: bool = False) -> None:
        """A run with these jobs to do, by rule, begins; on a cluster they are submitted."""
        self.file = None
        self.run = {
            "event": "run",
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "cores": cores,
            "cluster": cluster,
            "jobs": dict(jobs),
        }

    def start(self, job: int, rule: str, wildcards: str, files: Sequence[object], log: str) -> None:
        """A job starts, or is submitted to a cluster."""
        if self.file is None:
            study = study_of(files)
            if study is None:
                return
            self.file = RUNS / f"{study}.jsonl"
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.unlink(missing_ok=True)
            self._write(self.run)
        self._write({"event": "start", "job": job, "rule": rule, "wildcards": wildcards, "log": log})

    def end(self, event: str, job: int | None) -> None:
        """A job ends: `finish` or `fail`."""
        self._write({"event": event, "job": job})

    def _write(self, event: Mapping[str, Any]) -> None:
        if self.file is not None:
            with self.file.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps({"time": round(time.time(), 1), **event}) + "\n")


def read_events(study: str) -> Iterator[dict[str, Any]]:
    """The events of a study's last run in this folder; none if there was no run."""
    try:
        lines = (RUNS / f"{study}.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue
