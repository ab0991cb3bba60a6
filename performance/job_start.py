"""CPU seconds of a job of one training step: started cold, and forked by a warm parent.

Run from the root: `python performance/job_start.py`. The job is `train-align` of two tiny encoders: what it
costs is what starting costs. All CPU time of its processes counts, user and system, the thin entry's and
the forked child's. The parent's own imports are told apart: they are paid once in a run. Cold and warm jobs
take turns, so that the ratio is of one machine in one state. Writes performance/results/job_start.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from encoder_roles.manifest.job import read_used
from encoder_roles.provenance import write_json
from encoder_roles.warm_start import OFF, WARM_VARIABLE

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "performance/results/job_start.json"
# as Snakemake gives jobs of one thread
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")}
STUDY = """
import sys
from pathlib import Path
from tiny_study import ALIGN, write_tiny_study
study = write_tiny_study(Path(sys.argv[1]))
study.settings("align", ALIGN | {"align": ALIGN["align"] | {"steps": 1}})
"""
WAIT = 120.0  # seconds for the parent to import


def write_study(folder: Path) -> None:
    """The tests' tiny study, with settings of one step; by another process, to import no torch here."""
    paths = os.pathsep.join((str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")))
    command = [sys.executable, "-c", STUDY, str(folder)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths}, stdout=subprocess.DEVNULL)


def job(study: Path, output: Path) -> list[str]:
    """The command of the job."""
    encoders = ("clip", "sam")
    return [
        str(Path(sys.executable).parent / "encoder-roles"),
        "train-align",
        *("--settings", str(study / "settings/align.json")),
        *("--subset", "+".join(encoders), "--seed", "0"),
        *("--encoders", *(str(study / "encoders" / name) for name in encoders)),
        *("--language-model", str(study / "language_model")),
        *("--features", *(str(study / f"features/{name}/train.safetensors") for name in encoders)),
        *("--data", str(study / "data/train/train.jsonl")),
        *("--restart", str(output.parent / "restart"), "--output", str(output)),
    ]


def children_seconds() -> float:
    """CPU seconds of all children that have ended, and of theirs."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(command: Sequence[str], environment: Mapping[str, str], output: Path) -> tuple[float, float]:
    """CPU seconds and seconds of one job. Raises CalledProcessError if it fails."""
    shutil.rmtree(output, ignore_errors=True)
    log = output.with_suffix(".log")
    before, started = children_seconds(), time.perf_counter()
    with log.open("wb") as stream:
        subprocess.run(command, check=True, env=dict(environment), stderr=stream)
    seconds = time.perf_counter() - started
    used = read_used(log)
    if bool(used) == (environment[WARM_VARIABLE] == OFF):
        raise RuntimeError(f"{log}: a job that was to start {'cold' if used else 'warm'} did not")
    return children_seconds() - before + used.get("cpu_seconds", 0.0), seconds


def process_seconds(pid: int) -> float:
    """CPU seconds of a process, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def wait_for(path: Path) -> None:
    """Wait for the parent's socket."""
    end = time.monotonic() + WAIT
    while not path.exists():
        if time.monotonic() > end:
            raise RuntimeError(f"no parent listens at {path} after {WAIT:.0f} s")
        time.sleep(0.05)


def compare(folder: Path, repeats: int) -> dict[str, float]:
    """Medians of as many cold as warm jobs, each with its fork, and what the imports cost a run."""
    write_study(folder / "study")
    run, socket = folder / "run", folder / "run/socket"
    run.mkdir(mode=0o700)
    common = {**os.environ, **THREADS}
    environments = {"cold": {**common, WARM_VARIABLE: OFF}, "warm": {**common, WARM_VARIABLE: str(socket)}}
    command = job(folder / "study", folder / "align")
    parent = subprocess.Popen(
        [sys.executable, "-m", "encoder_roles.warm_start.parent", str(run)], stdin=subprocess.PIPE
    )
    wait_for(socket)
    with (folder / "first.log").open("wb") as stream:  # brings its environment and starts cold
        subprocess.run(command, check=True, env=environments["warm"], stderr=stream)
    wait_for(socket)
    imports = process_seconds(parent.pid)
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in environments}
    for _ in range(repeats):
        for name, environment in environments.items():
            rows[name].append(measure(command, environment, folder / "align"))
    forks = (process_seconds(parent.pid) - imports) / repeats
    parent.communicate()
    medians = {
        name: [statistics.median(column) for column in zip(*row, strict=True)] for name, row in rows.items()
    }
    warm = medians["warm"][0] + forks
    return {
        "parent_cpu_seconds": round(imports, 2),
        "cold_cpu_seconds": round(medians["cold"][0], 2),
        "warm_cpu_seconds": round(warm, 2),
        "cold_seconds": round(medians["cold"][1], 2),
        "warm_seconds": round(medians["warm"][1], 2),
        "warm_over_cold": round(warm / medians["cold"][0], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as folder:
        row = {"repeats": repeats, "cores": len(os.sched_getaffinity(0)), **compare(Path(folder), repeats)}
    write_json(RESULTS, row)
    print(json.dumps(row, indent=2))


if __name__ == "__main__":
    main()
