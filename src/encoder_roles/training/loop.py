"""The training loop."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

from torch import Tensor

from encoder_roles.data.packing import move
from encoder_roles.study.names import StudyError
from encoder_roles.training.checkpoints import Checkpoints
from encoder_roles.training.engine import Engine
from encoder_roles.training.progress import Progress

TERMINATED = 128 + signal.SIGTERM  # exit code of a run that was asked to stop: not 0, so that a retry goes on


class Batch(Protocol):
    """What the engine's model takes."""

    @property
    def learnt(self) -> Tensor:
        """(tokens,) what its summed loss is a sum over."""


class Task(Protocol):
    """What is learnt: numbered steps, each with its batches."""

    title: str
    steps: int

    def micro_batches(self, step: int) -> Sequence[Batch]:
        """This rank's share of the step's batch; depends on the step's number alone."""

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
    """While the block runs, SIGTERM (Slurm's time limit, Snakemake's Ctrl-C) and SIGUSR1 (`sbatch --signal`)
    ask to stop after the step.
    """
    asked = Termination()
    before = {number: signal.signal(number, asked.request) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Saving:
    """When checkpoints are written: every so many steps, and after so many minutes."""

    checkpoints: Checkpoints
    steps: int
    minutes: float | None = None


@dataclass(frozen=True)
class StepVote:
    """What a rank brings to a step: the tokens it learns, whether it wants all to save, and to stop then."""

    tokens: int
    save: bool
    stop: bool


def compute_gradient(engine: Engine, task: Task, step: int, save: bool, stop: bool) -> tuple[float, StepVote]:
    """Forward and backward passes of a step: the mean loss of all processes' tokens, and all votes as one.

    Raises StudyError if the loss is not finite.
    """
    batches = [move(batch, engine.device) for batch in task.micro_batches(step)]
    own = StepVote(sum(len(batch.learnt) for batch in batches), save, stop)
    votes = engine.gather(own)
    tokens, total = sum(vote.tokens for vote in votes), 0.0
    for batch in batches:
        loss = engine.forward(batch) / tokens
        total += loss.item()
        engine.backward(loss)
    value = sum(engine.gather(total))
    if not math.isfinite(value):
        raise StudyError(f"{task.title}: loss is {value} at step {step}, batch: {task.describe(step)}")
    return value, StepVote(tokens, any(vote.save for vote in votes), any(vote.stop for vote in votes))


def train(
    engine: Engine,
    task: Task,
    schedule: Schedule,
    saving: Saving,
    rate: float,
    log: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Run the task to its end; returns the log, one row per step.

    Args:
        engine: holds the weights after the last step of ``log``.
        task: what is learned.
        schedule: scales every learning rate.
        saving: when and where checkpoints are written.
        rate: the learning rate that the log shows, before the schedule.
        log: of the steps that are done; [] at the beginning.

    Raises:
        StudyError: a loss or a gradient is not finite.
        SystemExit: with TERMINATED, after a checkpoint, when SIGTERM or SIGUSR1 reaches any process.
    """
    log = list(log)
    earlier = log[-1]["seconds"] if log else 0.0
    quiet = engine.process.rank > 0
    progress, started = Progress(task.title, task.steps, done=len(log), quiet=quiet), time.perf_counter()
    saved = started
    with termination() as asked:
        for step in range(len(log), task.steps):
            late = saving.minutes is not None and time.perf_counter() - saved > 60 * saving.minutes
            value, vote = compute_gradient(engine, task, step, late, asked.requested)
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
            due = (step + 1) % saving.steps == 0 or vote.save
            if (due and step + 1 < task.steps) or vote.stop:
                saving.checkpoints.save(engine, log)
                saved = time.perf_counter()
            if vote.stop:
                raise SystemExit(TERMINATED)
    return log
