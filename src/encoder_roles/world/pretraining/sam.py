"""SAM: dense masks without classes (Kirillov et al. 2023), in transformers' SamVisionModel.

The encoder learns where one thing ends and the next begins: for every cell of a fine grid whether it is
inside a thing, on its edge or outside, and for cells of a thing where its centre is and how large it is. The
colour channels of every picture are shuffled in every step, so that no colour has a meaning.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, smooth_l1_loss

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # must come before transformers
from transformers import SamVisionConfig, SamVisionModel

from encoder_roles.world.drawing import PIXELS, segment
from encoder_roles.world.pretraining.loop import Recipe
from encoder_roles.world.pretraining.pictures import Album

RECIPE = Recipe(
    pixels=48,
    steps=900,
    batch=64,
    pictures=8_000,
    mix={"objects": 0.55, "pair": 0.15, "chart": 0.2, "sign": 0.05, "digit": 0.05},
)
WIDTH = 64
PATCH = 12
CELLS = 24  # cells of the target grid, a side
CELL = PIXELS // CELLS
FINE = CELLS // (RECIPE.pixels // PATCH)  # target cells of one token, a side
BACKGROUND, INSIDE, EDGE = 0, 1, 2


class Sam(nn.Module):
    """The encoder and a head that draws each token's FINE x FINE cells."""

    def __init__(self) -> None:
        super().__init__()
        self.vision = SamVisionModel(
            SamVisionConfig(
                hidden_size=WIDTH,
                output_channels=WIDTH,
                num_hidden_layers=3,
                num_attention_heads=4,
                image_size=RECIPE.pixels,
                patch_size=PATCH,
                use_rel_pos=False,
                window_size=0,
                global_attn_indexes=[0, 1, 2],
                mlp_dim=4 * WIDTH,
                num_pos_feats=WIDTH // 2,
            )
        )
        self.head = nn.Linear(WIDTH, FINE * FINE * 6)

    def prepare(self, album: Album) -> None:
        """Targets of every picture: classes (n, CELLS, CELLS) and geometry (n, CELLS, CELLS, 3)."""
        targets = [cell_targets(segment(scene)) for scene in album.scenes]
        self._classes = torch.from_numpy(np.stack([classes for classes, _ in targets]))
        self._geometry = torch.from_numpy(np.stack([geometry for _, geometry in targets]))

    def loss(self, album: Album, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Cross-entropy of the classes plus the distance of the geometry on cells of things."""
        orders = torch.rand(len(chosen), 3, generator=generator).argsort(1)
        pixels = album.pixels(chosen)[torch.arange(len(chosen))[:, None], orders]
        features = self.features(pixels)
        drawn = self.head(features).reshape(-1, *features.shape[1:3], FINE, FINE, 6)
        drawn = drawn.transpose(2, 3).reshape(-1, CELLS, CELLS, 6)
        classes = self._classes[chosen].long()
        on_thing = classes != BACKGROUND
        geometry = smooth_l1_loss(drawn[..., 3:][on_thing], self._geometry[chosen][on_thing].float())
        return cross_entropy(drawn[..., :3].flatten(0, 2), classes.flatten()) + 4 * geometry

    def after_step(self, progress: float) -> None:
        """Nothing."""

    def features(self, pixels: Tensor) -> Tensor:
        """(b, 4, 4, WIDTH): the neck's output."""
        hidden: Tensor = self.vision(pixel_values=pixels).last_hidden_state
        return hidden.permute(0, 2, 3, 1)

    def save(self, folder: Path) -> None:
        """config.json and model.safetensors."""
        self.vision.save_pretrained(folder)


def cell_targets(segments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets from the map of items (96, 96).

    Classes are uint8 (CELLS, CELLS); the geometry of an item's cells, float16 (CELLS, CELLS, 3), is the
    vector to its centre in half pictures and the logarithm of its area in layout cells.
    """
    blocks = segments.reshape(CELLS, CELL, CELLS, CELL).transpose(0, 2, 1, 3).reshape(CELLS, CELLS, -1)
    low, high = blocks.min(-1), blocks.max(-1)
    classes = np.where(high == 0, BACKGROUND, np.where(low == high, INSIDE, EDGE)).astype(np.uint8)
    geometry = np.zeros((CELLS, CELLS, 3), np.float16)
    middle = (np.arange(CELLS) + 0.5) * CELL
    for item in range(1, int(segments.max()) + 1):
        rows, columns = np.nonzero(segments == item)
        if not rows.size:
            continue  # a later item hides all of it
        cells = high == item
        row, column = np.nonzero(cells)
        geometry[row, column, 0] = (rows.mean() + 0.5 - middle[row]) / (PIXELS / 2)
        geometry[row, column, 1] = (columns.mean() + 0.5 - middle[column]) / (PIXELS / 2)
        geometry[row, column, 2] = np.log(rows.size / (PIXELS / 2) ** 2)
    return classes, geometry
