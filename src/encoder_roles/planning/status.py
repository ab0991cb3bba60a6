"""`encoder-roles status`: what a study's run has done, does and waits for; during the run and after it.

It reads the events that `--logger study` writes (`snakemake_logger_plugin_study.events`), the jobs' logs and
timings, and the losses of trainings. It changes nothing.
"""

from __future__ import annotations

import csv
import itertools
import os
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from encoder_roles.manifest.write import read_timing
from encoder_roles.provenance import read_jsonl
from encoder_roles.study.config import load_study
from encoder_roles.study.names import StudyError
from snakemake_logger_plugin_study import LOG_LINES, TimeLeft, in_words, log_lines
from snakemake_logger_plugin_study.events import read_events

SHOWN = 5  # running jobs, slowest jobs and losses at most
CLOCKS = 5.0  # seconds by which the clocks of a node and of this machine may differ
BARS = "▁▂▃▄▅▆▇█"
LOSS = re.compile(r"\bloss (\d+\.?\d*)")  # in the progress lines of a training's log


@dataclass
class Job:
    """A job of the run; times in seconds since the epoch."""

    rule: str
    wildcards: str
    log: Path
    started: float
    ended: float | None = None
    failed: bool = False

    @property
    def name(self) -> str:
        return f"{self.rule} {self.wildcards}".rstrip()

    @property
    def began(self) -> bool:
        """Whether a submitted job has begun: its shell then opens its log, which may be there from before."""
        return self.log.is_file() and self.log.stat().st_mtime >= self.started - CLOCKS

    def seconds(self, now: float) -> float:
        """How long it took, or has been running."""
        return (self.ended or now) - self.started


@dataclass
class RunState:
    """The state of a study's last run."""

    todo: Counter[str]  # jobs to do at its start, by rule, in the order of the DAG
    cores: int
    host: str
    pid: int
    cluster: bool = False  # whether jobs are submitted, and may wait in a queue
    jobs: dict[int, Job] = field(default_factory=dict)  # the last attempt of each

    @property
    def alive(self) -> bool:
        """Whether Snakemake still runs, as far as this machine can tell: another's processes are not seen."""
        return self.host != socket.gethostname() or _exists(self.pid)

    def running(self) -> list[Job]:
        """The jobs that have begun and not ended; on a cluster, submitted ones wait until they begin."""
        return [job for job in self.jobs.values() if job.ended is None and (job.began or not self.cluster)]

    def finished(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.ended is not None and not job.failed]

    def failed(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.failed]


def status(*, configs: tuple[Path, ...] = (Path("config.yaml"),)) -> None:
    """Print the stages of a study's last run, its running, failed and slowest jobs, losses and times.

    Args:
        configs: config.yaml and the study that overrides it, if any.

    Raises:
        StudyError: the config is faulty, or no run of the study was started here with `--logger study`.
    """
    study = load_study(*configs).study
    print("\n".join(describe(study, run_state(read_events(study), study), time.time())))


def run_state(events: Iterator[dict[str, Any]], study: str) -> RunState:
    """The state after the events of one run. Raises StudyError if there are none."""
    state: RunState | None = None
    for event in events:
        if event["event"] == "run":
            where = event["cores"], event["host"], event["pid"], event.get("cluster", False)
            state = RunState(Counter(event["jobs"]), *where)
        elif state is None:
            break
        elif event["event"] == "start":
            log = Path(event["log"])
            state.jobs[event["job"]] = Job(event["rule"], event["wildcards"], log, event["time"])
        elif job := state.jobs.get(event["job"]):
            job.ended, job.failed = event["time"], event["event"] == "fail"
    if state is None:
        raise StudyError(f"no run of the study {study!r} here yet; `make paper` starts one")
    return state


def describe(study: str, state: RunState, now: float) -> list[str]:
    """The lines of the report at a time in seconds since the epoch."""
    lines = [headline(study, state, now), "", *stage_lines(state, now)]
    for title, part in (
        ("running", running_lines(state, now)),
        ("failed", failed_lines(state)),
        ("slowest", slowest_lines(state, now)),
        ("loss", loss_lines(Path("results") / study, state)),
        ("hours", hour_lines(Path("results") / study)),
    ):
        if part:
            lines += ["", title, *(f"  {line}" for line in part)]
    return lines


def headline(study: str, state: RunState, now: float) -> str:
    """One line: how much is done, and when the rest will be."""
    done, total = len(state.finished()), state.todo.total()
    if done == total:
        return f"{study}: all {total} jobs of the last run are done"
    if not state.alive:
        return f"{study}: stopped with {done} of {total} jobs done; the same command goes on"
    left = TimeLeft(todo=Counter(state.todo), cores=state.cores)
    for job in state.finished():
        left.finish(job.rule, job.seconds(now))
    running = [(job.rule, job.seconds(now)) for job in state.running()]
    clock = time.strftime("%H:%M", time.localtime(now + left.estimate(running)))
    return f"{study}: {done} of {total} jobs done, {left.in_words(running)} left, until about {clock}"


def stage_lines(state: RunState, now: float) -> list[str]:
    """A line per rule: done, running, waiting, failed, and the mean seconds of a finished job."""
    lines = [f"{'stage':<28}{'done':>6}{'running':>9}{'waiting':>9}{'failed':>8}{'seconds':>9}"]
    parts = (state.finished(), state.running() if state.alive else [], state.failed())
    done, running, failed = (Counter(job.rule for job in part) for part in parts)
    for rule, count in state.todo.items():
        waiting = count - done[rule] - running[rule] - failed[rule]
        spent = [job.seconds(now) for job in state.finished() if job.rule == rule]
        mean = f"{sum(spent) / len(spent):9.1f}" if spent else f"{'–':>9}"
        lines.append(f"{rule:<28}{done[rule]:>6}{running[rule]:>9}{waiting:>9}{failed[rule]:>8}{mean}")
    return lines


def running_lines(state: RunState, now: float) -> list[str]:
    """The jobs that have run longest, with the last line of their logs."""
    if not state.alive:
        return []
    jobs = sorted(state.running(), key=lambda job: job.started)[:SHOWN]
    return [
        f"{job.name}: {in_words(job.seconds(now))}  {' '.join(log_lines(job.log)[-1:])}".rstrip()
        for job in jobs
    ]


def failed_lines(state: RunState) -> list[str]:
    """The failed jobs with the ends of their logs."""
    lines = []
    for job in state.failed():
        lines += [job.name, *(f"  {line}" for line in log_lines(job.log)[-LOG_LINES:]), f"  (log: {job.log})"]
    return lines


def slowest_lines(state: RunState, now: float) -> list[str]:
    """The finished jobs that took longest."""
    jobs = sorted(state.finished(), key=lambda job: -job.seconds(now))[:SHOWN]
    return [f"{job.name}: {in_words(job.seconds(now))}" for job in jobs]


def loss_lines(results: Path, state: RunState) -> list[str]:
    """The loss curves of the trainings that started last, from their logs or their results."""
    trainings = [job for job in state.jobs.values() if job.rule in ("train_align", "train_tune")]
    lines = []
    for job in sorted(trainings, key=lambda job: -job.started)[:SHOWN]:
        subset, _, seed = job.wildcards.partition(" ")
        stage = job.rule.removeprefix("train_")
        file = results / f"models/{subset}/seed{seed}/{stage}/log.jsonl"
        if job.ended and file.is_file():
            losses = [float(row["loss"]) for row in read_jsonl(file)]
        else:
            losses = [float(found[1]) for line in log_lines(job.log) if (found := LOSS.search(line))]
        if losses:
            lines.append(f"{job.name:<40} {sparkline(losses)}  {losses[-1]:.3f}")
    return lines


def hour_lines(results: Path) -> list[str]:
    """The hours of all finished jobs of the study, in every run, and those of its plan if there is one."""
    seconds = {file: float(read_timing(file).get("s", 0)) for file in (results / "timings").rglob("*.tsv")}
    if not seconds:
        return []
    lines = [f"{sum(seconds.values()) / 3600:.2f} hours of {len(seconds)} jobs"]
    plan = results / "plan.csv"
    if plan.is_file():
        with plan.open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if float(row["device_hours"])]
        devices = {row["rule"]: float(row["devices"]) for row in rows}
        spent = sum(
            value * devices.get(file.relative_to(results / "timings").parts[0].removesuffix(".tsv"), 0.0)
            for file, value in seconds.items()
        )
        planned = sum(float(row["device_hours"]) for row in rows)
        lines.append(f"{spent / 3600:.1f} of {planned:,.1f} planned device hours spent")
    return lines


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """Values as small bars, each the mean of an equal part of them."""
    count = min(width, len(values))
    edges = [round(place * len(values) / count) for place in range(count + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((mean - low) * scale)] for mean in means)


def _exists(pid: int) -> bool:
    """Whether there is a process with this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
