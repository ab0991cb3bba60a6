"""CLIP: softmax contrast of pictures and captions (Radford et al. 2021), in transformers' CLIPVisionModel.

Captions name what is there (colour and shape of each thing); half of them only the shapes, because contrast
by colour alone would solve the rest.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # must come before transformers
from transformers import CLIPVisionConfig, CLIPVisionModel

from encoder_roles.world.pretraining.captions import Phrase, TextTower, encode_phrases
from encoder_roles.world.pretraining.contrast import softmax_contrast
from encoder_roles.world.pretraining.loop import Recipe
from encoder_roles.world.pretraining.pictures import Album
from encoder_roles.world.scenes import Scene

RECIPE = Recipe(
    pixels=48,
    steps=4000,
    batch=64,
    mix={"objects": 0.6, "pair": 0.3, "chart": 0.04, "sign": 0.03, "digit": 0.03},
    pictures=10_000,
    singles=5_000,
)
WIDTH = 64
PATCH = 12


class Clip(nn.Module):
    """The picture and text towers and the scale of their contrast."""

    def __init__(self) -> None:
        super().__init__()
        self.vision = CLIPVisionModel(
            CLIPVisionConfig(
                hidden_size=WIDTH,
                intermediate_size=4 * WIDTH,
                num_hidden_layers=3,
                num_attention_heads=4,
                image_size=RECIPE.pixels,
                patch_size=PATCH,
                initializer_factor=1.0,
            )
        )
        self.picture_head = nn.Linear(WIDTH, WIDTH, bias=False)
        self.text = TextTower(WIDTH)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def prepare(self, album: Album) -> None:
        """Nothing: captions differ from step to step."""

    def loss(self, album: Album, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """The contrast of the chosen pictures and their captions."""
        names_only = torch.rand(len(chosen), generator=generator) < 0.5
        captions = [
            describe(album.scenes[int(row)], bool(short))
            for row, short in zip(chosen, names_only, strict=True)
        ]
        pooled = self.vision(pixel_values=album.pixels(chosen)).pooler_output
        texts = self.text(encode_phrases(captions))
        return softmax_contrast(self.picture_head(pooled), texts, self.scale, captions)

    def after_step(self, progress: float) -> None:
        """Nothing."""

    def save(self, folder: Path) -> None:
        """config.json and model.safetensors."""
        self.vision.save_pretrained(folder)


def describe(scene: Scene, names_only: bool) -> list[Phrase]:
    """A caption: a phrase per thing with colour and shape, or the shape alone."""
    if scene.things:
        return [(thing.shape,) if names_only else (thing.colour, thing.shape) for thing in scene.things]
    if scene.bars:
        return [("chart",), *(("chart", bar.colour) for bar in scene.bars)]
    return [(scene.kind,) if scene.plate is None else (scene.plate, scene.kind)]
