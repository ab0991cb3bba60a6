"""The training loop."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

from torch import Tensor

from encoder_roles.study import StudyError
from encoder_roles.training.checkpoints import Checkpoints
from encoder_roles.training.engine import Engine
from encoder_roles.training.progress import Progress

TERMINATED = 128 + signal.SIGTERM  # exit code of a run that was asked to stop: not 0, so that a retry goes on


class Task(Protocol):
    """What is learnt: numbered steps, each with its loss."""

    title: str
    steps: int

    def loss(self, step: int) -> Tensor:
        """Mean loss (scalar) of the step's batch; depends on the step's number and the weights alone."""

    def describe(self, step: int) -> str:
        """Which data the step's batch holds, for error messages."""


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up over a share of the steps, then a cosine down to zero (Loshchilov and Hutter 2017)."""

    steps: int
    warmup_fraction: float

    def scale(self, step: int) -> float:
        """Share of the full learning rate at a step, from 0."""
        warmup = math.ceil(self.steps * self.warmup_fraction)
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))


class Termination:
    """Whether the process was asked to stop."""

    requested = False

    def request(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True


@contextmanager
def termination() -> Iterator[Termination]:
    """While the block runs, SIGTERM (Slurm's time limit, Snakemake's Ctrl-C) asks to stop after the step."""
    asked = Termination()
    before = signal.signal(signal.SIGTERM, asked.request)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)


def train(
    engine: Engine, task: Task, schedule: Schedule, checkpoints: Checkpoints, every: int, rate: float
) -> list[dict[str, Any]]:
    """Run the task to its end, from the newest checkpoint if there is one; returns the log, one row a step.

    ``rate`` is the learning rate the log shows, before the schedule. Raises StudyError at the first loss or
    gradient that is not finite; exits with TERMINATED, after a checkpoint, when SIGTERM comes.
    """
    log = checkpoints.load(engine)
    earlier = log[-1]["seconds"] if log else 0.0
    progress, started = Progress(task.title, task.steps, done=len(log)), time.perf_counter()
    with termination() as asked:
        for step in range(len(log), task.steps):
            loss = task.loss(step)
            value = loss.item()
            if not math.isfinite(value):
                raise StudyError(
                    f"{task.title}: loss is {value} at step {step}, batch: {task.describe(step)}"
                )
            engine.backward(loss)
            norm = engine.step(schedule.scale(step))
            if not math.isfinite(norm):
                raise StudyError(
                    f"{task.title}: gradient is {norm} at step {step}, batch: {task.describe(step)}"
                )
            seconds = earlier + time.perf_counter() - started
            learning_rate = rate * schedule.scale(step)
            log.append(
                {"step": step, "loss": value, "learning_rate": learning_rate, "seconds": round(seconds, 3)}
            )
            progress.update(step + 1, f"loss {value:.3f}")
            if ((step + 1) % every == 0 and step + 1 < task.steps) or asked.requested:
                checkpoints.save(engine, log)
            if asked.requested:
                raise SystemExit(TERMINATED)
    return log
