"""Pictures of the train split at the size of an encoder's input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoder_roles.encoders.framing import resize
from encoder_roles.world.drawing import draw_many
from encoder_roles.world.scenes import Scene

MEAN, STD = 0.5, 0.5  # pixel normalisation of all five encoders, of values in 0..1


@dataclass(frozen=True)
class Album:
    """Scenes and their pictures, drawn once and kept as bytes at the encoder's size: uint8 (n, 3, p, p)."""

    scenes: list[Scene]
    pictures: Tensor

    def pixels(self, chosen: Tensor) -> Tensor:
        """The chosen pictures, normalised: float (b, 3, p, p)."""
        return (self.pictures[chosen].float() / 255 - MEAN) / STD


def draw_album(scenes: list[Scene], pixels: int) -> Album:
    """Draw the scenes and resize them as `Encoder.preprocess` does."""
    chunks = [
        shrink(draw_many(scenes[start : start + 1000]), pixels) for start in range(0, len(scenes), 1000)
    ]
    return Album(scenes, torch.cat(chunks))


def shrink(pictures: np.ndarray, pixels: int) -> Tensor:
    """uint8 (n, H, W, 3) -> uint8 (n, 3, p, p)."""
    return resize(torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(), pixels)
