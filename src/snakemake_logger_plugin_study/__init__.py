"""`snakemake --logger study`: a line per finished job with the time left, and the log of a failed job.

Snakemake finds this package by its name. The time left is the expected time of the remaining jobs
divided by the cores. A rule that has run counts with its mean time, another with its usual time at this
run's pace: the time of the finished jobs over their usual time. Jobs of a moment do not count in the pace.
Until a tenth of the work is done, a range is given instead of a number.

ENCODER_ROLES_NOTIFY is a command of the user's, such as `notify-send`. It is run at the first failed job and
at the end, with a sentence as its last argument.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_study.events import EventWriter

# Seconds a job of the laptop study takes on one core; only the proportions matter.
USUAL_SECONDS = {
    "make_world": 60.0,
    "write_requests": 20.0,
    "extract_features": 15.0,
    "train_align": 15.0,
    "train_tune": 130.0,
    "predict_subset": 8.0,
    "predict_masks": 60.0,
    "score_predictions": 60.0,
    "measure_pretrained_ranks": 10.0,
    "measure_ranks": 8.0,
    "assign_roles": 60.0,
    "pretrain_encoder": 60.0,
    "pretrain_language_model": 2400.0,
    "write_settings": 0.1,
}
USUAL_OTHER = 3.0
MOMENT = 1.0  # a job with a shorter usual time does not count in the pace
EVIDENCE = 30.0  # seconds of usual work that weigh as much as this run's own
SETTLED = 0.1  # the share of the work after which the time left is a number
SPREAD = 3.0  # the range before: the estimate divided and multiplied by this
OVERDUE = 0.1  # the share of its expected time that a running job has left at least
LOG_LINES = 12  # of a failed job
NOTIFY_VARIABLE = "ENCODER_ROLES_NOTIFY"
NOTIFY_SECONDS = 30  # after which the user's command is given up
INTERRUPTED = ("Terminating processes on user request", "Cancelling snakemake on user request")
RECORD = "made by {"  # the first words of a job's log: its record (encoder_roles.manifest.job)


@dataclass
class TimeLeft:
    """The expected time of the remaining jobs, from the finished ones; all times in seconds."""

    todo: Counter[str] = field(default_factory=Counter)  # jobs not finished, by rule
    done: Counter[str] = field(default_factory=Counter)
    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    cores: int = 1

    def finish(self, rule: str, seconds: float) -> None:
        """Count a finished job."""
        self.todo[rule] -= 1
        self.done[rule] += 1
        self.spent[rule] += seconds

    def estimate(self, running: Sequence[tuple[str, float]]) -> float:
        """The time left, from the rule and the seconds so far of each running job."""
        telling = [rule for rule in self.done if usual(rule) >= MOMENT]
        expected = sum(usual(rule) * self.done[rule] for rule in telling)
        pace = (sum(self.spent[rule] for rule in telling) + EVIDENCE) / (expected + EVIDENCE)

        def of_one(rule: str) -> float:
            return self.spent[rule] / self.done[rule] if self.done[rule] else pace * usual(rule)

        ahead = sum(count * of_one(rule) for rule, count in self.todo.items())
        behind = sum(min(seconds, (1 - OVERDUE) * of_one(rule)) for rule, seconds in running)
        at_once = max(1, min(self.cores, self.todo.total()))
        return max(0.0, ahead - behind) / at_once

    def in_words(self, running: Sequence[tuple[str, float]]) -> str:
        """The time left for a reader: a range until enough work is done."""
        left = self.estimate(running)
        done, todo = (sum(usual(rule) * n for rule, n in jobs.items()) for jobs in (self.done, self.todo))
        if done >= SETTLED * (done + todo):
            return in_words(left)
        return f"{in_words(left / SPREAD)} to {in_words(left * SPREAD)}"


def usual(rule: str) -> float:
    """The usual seconds of a job of a rule on one core of a laptop."""
    return USUAL_SECONDS.get(rule, USUAL_OTHER)


def in_words(seconds: float) -> str:
    """A duration in its natural unit."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def log_lines(log: Path) -> list[str]:
    """The lines of a job's log without its record and empty lines; none if there is no log yet."""
    if not log.is_file():
        return []
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line for line in lines if line.strip() and not line.startswith(RECORD)]


class LogHandler(LogHandlerBase):
    """Snakemake's events as lines on stderr."""

    writes_to_stream = True
    writes_to_file = False
    has_filter = True
    has_formatter = True
    needs_rulegraph = False

    def __post_init__(self) -> None:
        self.left = TimeLeft()
        self.jobs: dict[int, Any] = {}  # Snakemake's record of each job
        self.running: dict[int, float] = {}  # start times
        self.begin = time.monotonic()
        self.command = ""  # of the last job that failed
        self.events = EventWriter()
        self.cluster = False  # whether jobs are submitted elsewhere
        self.stopped = False  # by the user
        self.notified = False  # of a failed job
        self.total = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Handle one event of Snakemake; events without use for a reader stay in .snakemake/log."""
        event, now = getattr(record, "event", None), time.monotonic()
        facts: Any = record
        if event == LogEvent.RUN_INFO:
            self.left.todo = Counter({rule: n for rule, n in facts.stats.items() if rule != "total"})
            self.total = facts.stats["total"]
            self.events.begin(self.left.todo, self.left.cores, cluster=self.cluster)
            self.say(f"{self.total} jobs to do")
            if self.common_settings.dryrun:
                self.say(*(f"{count:>6}  {rule}" for rule, count in self.left.todo.items()))
        elif event == LogEvent.RESOURCES_INFO:
            nodes = getattr(record, "nodes", None)
            self.cluster = self.cluster or nodes is not None
            self.left.cores = getattr(record, "cores", None) or nodes or self.left.cores
        elif event == LogEvent.JOB_INFO:
            self.jobs[facts.jobid] = record
            self.running.setdefault(facts.jobid, now)
            self.started(record)
        elif record.getMessage().startswith(INTERRUPTED):
            self.stop()
        elif self.stopped and event != LogEvent.JOB_FINISHED:
            return  # its jobs were cancelled and did not fail
        elif event == LogEvent.JOB_FINISHED:
            self.finished(facts.job_id, now)
        elif event == LogEvent.JOB_ERROR:
            self.failed(record)
        elif event == LogEvent.ERROR and record.exception == "RuleException":  # type: ignore[attr-defined]
            self.command = record.getMessage()  # the event of the job that failed follows
        elif event is None and record.getMessage().startswith("Nothing to be done"):
            self.say("nothing to do: everything is made and up to date")
        elif event in (None, LogEvent.ERROR) and record.levelno >= logging.WARNING:
            self.say(record.getMessage())

    def started(self, record: Any) -> None:
        """Write the event of a job that starts; a dry run shows its jobs in the same way."""
        if self.common_settings.dryrun:
            return
        rule, what = self.describe(record)
        log = next(iter(getattr(record, "log", None) or ()), "")
        files = [*(getattr(record, "output", None) or ()), log]
        self.events.start(record.jobid, rule, what, files, str(log))

    def finished(self, job: int, now: float) -> None:
        """Print the line of a finished job: the count, its rule and wildcards, its seconds, the time left."""
        rule, what = self.describe(self.jobs[job])
        self.events.end("finish", job)
        seconds = now - self.running.pop(job, now)
        self.left.finish(rule, seconds)
        done, total = self.left.done.total(), self.left.done.total() + self.left.todo.total()
        running = [(self.jobs[number].rule_name, now - since) for number, since in self.running.items()]
        left = self.left.in_words([] if self.cluster else running)  # a submitted job may wait
        close = f"{left} left" if done < total else f"all done in {in_words(now - self.begin)}"
        self.say(f"{done:>4}/{total}  {f'{rule} {what}':<60} {seconds:6.1f} s   {close}")

    def failed(self, record: Any) -> None:
        """Print a failed job, the last lines of its log (or else its command), and the path of the log."""
        job: int | None = getattr(record, "jobid", None)
        rule, what = self.describe(record if job is None else self.jobs[job])  # an error has no wildcards
        self.events.end("fail", job)
        paths = [Path(str(log).split(" ")[0]) for log in record.log]
        logged = [line for path in paths for line in log_lines(path)]
        lines = logged[-LOG_LINES:] or self.command.splitlines()
        where = ", ".join(map(str, paths))
        self.say(f"failed: {rule} {what}", *(f"    {line}" for line in lines), f"    (log: {where})")
        if not self.notified:
            self.notified = True
            self.notify(f"failed: {rule} {what} {' '.join(lines[-1:])}".strip())

    def stop(self) -> None:
        """Say once that the user has interrupted the run."""
        if not self.stopped:
            self.stopped = True
            self.say("stopped; the same command goes on")

    def close(self) -> None:
        """The end of the run, which Snakemake announces by closing its loggers."""
        if self.total and not self.common_settings.dryrun:
            done = self.left.done.total()
            end = "stopped" if self.stopped else "done" if done == self.total else "ended"
            self.notify(f"{end}: {done} of {self.total} jobs in {in_words(time.monotonic() - self.begin)}")
            self.total = 0
        super().close()

    def notify(self, sentence: str) -> None:
        """Run the user's command with a sentence as its last argument; its failure is only reported."""
        command = os.environ.get(NOTIFY_VARIABLE)
        if not command:
            return
        study = self.events.file.stem if self.events.file else "encoder-roles"
        call = ["sh", "-c", f'{command} "$1"', "notify", f"{study}: {sentence}"]
        try:
            subprocess.run(call, check=True, capture_output=True, timeout=NOTIFY_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            self.say(f"{NOTIFY_VARIABLE}: {error}")

    @staticmethod
    def describe(record: Any) -> tuple[str, str]:
        """A job's rule and its wildcards."""
        wildcards = getattr(record, "wildcards", None) or {}
        return record.rule_name, " ".join(map(str, dict(wildcards).values()))

    @staticmethod
    def say(*lines: str) -> None:
        """Print lines for the reader."""
        print(*lines, sep="\n", file=sys.stderr, flush=True)
