"""The training loop."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, Protocol

from torch import Tensor

from encoder_roles.data.packing import move
from encoder_roles.study.names import StudyError
from encoder_roles.training.checkpoints import Checkpoints
from encoder_roles.training.engine import Engine
from encoder_roles.training.marks import passed
from encoder_roles.training.progress import Progress

TERMINATED = 128 + signal.SIGTERM  # exit code after a signal to stop: not 0, so that the job is retried


class Batch(Protocol):
    """The input of the engine's model."""

    @property
    def learnt(self) -> Tensor:
        """The learnt tokens (tokens,), over which the loss is summed."""


class Task(Protocol):
    """What is learnt: numbered steps, each with its micro batches."""

    title: str
    steps: int

    def micro_batches(self, step: int) -> Sequence[Batch]:
        """This process's share of the step's batch; it depends only on the step's number."""

    def describe(self, step: int) -> str:
        """The data in the step's batch, for error messages."""


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up over a fraction of the steps, then cosine decay to zero (Loshchilov and Hutter 2017)."""

    steps: int
    warmup_fraction: float

    def scale(self, step: int) -> float:
        """The fraction of the full learning rate at a step, counted from 0."""
        warmup = math.ceil(self.steps * self.warmup_fraction)
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, self.steps - warmup)))


class Termination:
    """Whether a signal to stop has arrived, and whether it was Ctrl-C."""

    requested = False
    interrupted = False

    def request(self, number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if number == signal.SIGINT:
            self.interrupted = True
            signal.signal(signal.SIGINT, signal.default_int_handler)  # the second one does not wait

    def exception(self) -> BaseException:
        """What ends the training."""
        return KeyboardInterrupt() if self.interrupted else SystemExit(TERMINATED)


@contextmanager
def termination() -> Iterator[Termination]:
    """Within the block, SIGTERM (Slurm's time limit, Snakemake's Ctrl-C), SIGUSR1 (`sbatch --signal`) and
    SIGINT (Ctrl-C, unless it is ignored) request a stop: with the next step the processes agree on it.
    """
    stop = Termination()
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    numbers = (signal.SIGTERM, signal.SIGUSR1, *(() if ignored else (signal.SIGINT,)))
    before = {number: signal.signal(number, stop.request) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Saving:
    """When checkpoints are written: every `steps` steps, or `minutes` minutes after the last one."""

    checkpoints: Checkpoints
    steps: int | None = None
    minutes: float | None = None

    def after(self, step: int) -> bool:
        """Whether a checkpoint is due after so many steps."""
        return self.steps is not None and step % self.steps == 0

    def late(self, seconds: float) -> bool:
        """Whether a checkpoint is due so many seconds after the last one."""
        return self.minutes is not None and seconds > 60 * self.minutes


class NotFiniteError(StudyError):
    """A loss or a gradient that is not finite; raised in all processes at the same step."""


@dataclass(frozen=True)
class StepVote:
    """A process's part in a step, or that of all.

    Attributes:
        tokens: the tokens that are learnt.
        save: whether all should save a checkpoint: one process is enough.
        stop: whether all should stop: one process is enough.
        written: whether the files of the unfinished checkpoint are written: by all processes.
    """

    tokens: int
    save: bool = False
    stop: bool = False
    written: bool = False


def compute_gradient(
    engine: Engine, task: Task, step: int, vote: StepVote = StepVote(0)
) -> tuple[float, StepVote]:
    """Forward and backward passes of a step.

    Args:
        engine: holds the weights.
        task: what is learned.
        step: its number, from 0.
        vote: of this process; its tokens are counted here.

    Returns:
        The mean loss over the tokens of all processes, and the votes of all processes as one.

    Raises:
        NotFiniteError: the loss is not finite.
    """
    batches = [move(batch, engine.device) for batch in task.micro_batches(step)]
    votes = engine.gather(replace(vote, tokens=sum(len(batch.learnt) for batch in batches)))
    tokens, total = sum(vote.tokens for vote in votes), 0.0
    for batch in batches:
        loss = engine.forward(batch) / tokens
        total += loss.item()
        engine.backward(loss)
    value = sum(engine.gather(total))
    if not math.isfinite(value):
        raise NotFiniteError(f"{task.title}: loss is {value} at step {step}, batch: {task.describe(step)}")
    save, stop = any(vote.save for vote in votes), any(vote.stop for vote in votes)
    return value, StepVote(tokens, save, stop, all(vote.written for vote in votes))


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
        NotFiniteError: a loss or a gradient is not finite.
        StudyError: a checkpoint cannot be written.
        SystemExit: with TERMINATED, after a checkpoint, when SIGTERM or SIGUSR1 reaches any process.
        KeyboardInterrupt: after a checkpoint, when SIGINT reaches this process; the second does not wait.
    """
    log = list(log)
    earlier = log[-1]["seconds"] if log else 0.0
    quiet, checkpoints = engine.process.rank > 0, saving.checkpoints
    progress, started = Progress(task.title, task.steps, done=len(log), quiet=quiet), time.perf_counter()
    saved = started
    with termination() as stop:
        passed("start")
        for step in range(len(log), task.steps):
            late = saving.late(time.perf_counter() - saved)
            vote = StepVote(0, late, stop.requested, checkpoints.written)
            try:
                value, vote = compute_gradient(engine, task, step, vote)
                norm = engine.step(schedule.scale(step))
                if not math.isfinite(norm):
                    where = f"at step {step}, batch: {task.describe(step)}"
                    raise NotFiniteError(f"{task.title}: gradient is {norm} {where}")
            except NotFiniteError:
                checkpoints.finish(engine)
                raise
            seconds = earlier + time.perf_counter() - started
            learning_rate = rate * schedule.scale(step)
            log.append(
                {"step": step, "loss": value, "learning_rate": learning_rate, "seconds": round(seconds, 3)}
            )
            progress.update(step + 1, f"loss {value:.3f}")
            passed("step")
            if vote.written:
                checkpoints.finish(engine)
            last = step + 1 == task.steps  # saved too, so that a failed final write repeats no step
            if last or vote.save or vote.stop or saving.after(step + 1):
                checkpoints.save(engine, log, wait=last or vote.stop)
                passed("checkpoint")
                saved = time.perf_counter()
            if vote.stop:
                raise stop.exception()
    return log
