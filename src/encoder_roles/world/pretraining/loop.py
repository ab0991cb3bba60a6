"""The one training loop of the five objectives."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from encoder_roles.world.pretraining.pictures import Album
from encoder_roles.world.scenes import Kind


@dataclass(frozen=True)
class Recipe:
    """How one encoder is pretrained.

    It sees `pictures` scenes of the mix (weights of their kinds) and `singles` scenes of one thing.
    """

    pixels: int
    steps: int
    batch: int
    mix: dict[Kind, float]
    pictures: int = 16_000
    singles: int = 0
    learning_rate: float = 3e-3
    betas: tuple[float, float] = field(default=(0.9, 0.95))
    weight_decay: float = 0.05
    warmup: int = 50
    clip_norm: float = 1.0


class Objective(Protocol):
    """The interface of an objective: a module with the vision encoder and a loss."""

    vision: nn.Module

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def prepare(self, album: Album) -> None:
        """Compute the targets that do not change between steps."""

    def loss(self, album: Album, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Mean loss over the chosen pictures of the album, a scalar."""

    def after_step(self, progress: float) -> None:
        """Called after each step with the share of completed steps."""

    def save(self, folder: Path) -> None:
        """Write the vision encoder in its library's own format."""


def train(
    objective: Objective, album: Album, recipe: Recipe, steps: int, generator: torch.Generator
) -> list[float]:
    """Train and return the loss of each step; one thread and one generator give equal bytes."""
    parameters = [p for p in objective.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=recipe.weight_decay
    )
    objective.prepare(album)
    losses = []
    batches = _batches(len(album.scenes), recipe.batch, generator)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate(step, steps, recipe.warmup)
        loss = objective.loss(album, next(batches), generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
        optimizer.step()
        objective.after_step((step + 1) / steps)
        losses.append(float(loss.detach()))
    return losses


def rate(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor: linear warm-up, then a cosine to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _batches(count: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless batches of row numbers, each row once per epoch; an incomplete last batch is dropped."""
    while True:
        order = torch.randperm(count, generator=generator)
        for start in range(0, count - batch + 1, batch):
            yield order[start : start + batch]
