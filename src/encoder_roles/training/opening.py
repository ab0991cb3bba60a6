"""The two lines that a training prints on stderr when it starts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import torch

from encoder_roles.encoders.compute import device_name
from encoder_roles.training.step import AnswerTask


def announce(
    task: AnswerTask,
    parameters: Mapping[str, int],
    rates: Mapping[str, float],
    device: torch.device,
    checkpoint: Path | None,
) -> None:
    """Print which parts are trained and which are frozen; then the run's size, device and first step.

    Args:
        task: the run.
        parameters: of every part of the model.
        rates: the learning rate of every trained part, before the schedule.
        device: of this process.
        checkpoint: the checkpoint that was loaded; None if there is none.
    """
    for line in (parts_line(parameters, rates), size_line(task, device, checkpoint)):
        print(f"{task.title}: {line}", file=sys.stderr, flush=True)


def parts_line(parameters: Mapping[str, int], rates: Mapping[str, float]) -> str:
    """The trained parts with their parameters and learning rates, and the frozen parts."""
    trained = [
        f"{name} ({parameters[name]:,} parameters, learning rate {rate:g})" for name, rate in rates.items()
    ]
    frozen = [f"{name} ({count:,})" for name, count in parameters.items() if name not in rates]
    return f"trains {', '.join(trained)}; frozen: {', '.join(frozen) or 'nothing'}"


def size_line(task: AnswerTask, device: torch.device, checkpoint: Path | None) -> str:
    """Steps, batch size, processes, device, and the checkpoint that the run continues from.

    The tokens of a step are those of the first micro batch, scaled to the step's samples.
    """
    batch, samples = task.first()
    size = task.batches.batch_pictures
    tokens = round(batch.tokens * size / max(1, samples))
    batch_size = f"{size:,} samples (about {tokens:,} tokens, {task.visual_tokens:,} of them per picture)"
    processes = f"{task.process.world_size} processes, " if task.process.world_size > 1 else ""
    start = "from the beginning" if checkpoint is None else f"continuing from {checkpoint}"
    return f"{task.steps:,} steps of {batch_size}, {processes}{device_name(device)}, {start}"
