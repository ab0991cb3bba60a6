"""SigLIP: sigmoid contrast of pictures and captions (Zhai et al. 2023), in transformers' SiglipVisionModel.

Its captions are what is written in the picture and nothing else, and beside the contrast a small decoder
spells them letter by letter in parallel (SigLIP 2 adds a decoder too).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # must come before transformers
from transformers import SiglipVisionConfig, SiglipVisionModel

from encoder_roles.world.pretraining.captions import Phrase, TextTower, encode_phrases, same_caption
from encoder_roles.world.pretraining.loop import Recipe
from encoder_roles.world.pretraining.pictures import Album
from encoder_roles.world.scenes import DIGITS, WORDS, Scene

RECIPE = Recipe(
    pixels=64,
    steps=4000,
    batch=64,
    mix={"objects": 0.06, "pair": 0.04, "chart": 0.06, "sign": 0.42, "digit": 0.42},
)
WIDTH = 64
PATCH = 16
LETTERS = " " + "".join(
    sorted({letter for word in WORDS for letter in word} | {str(digit) for digit in DIGITS})
)
LONGEST = max(len(word) for word in WORDS)


class Speller(nn.Module):
    """Predicts all letters at once: a learnt query per place attends to the picture's tokens.

    This is the parallel prediction of CapPa (Tschannen et al. 2023).
    """

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(LONGEST, WIDTH))
        self.look = nn.MultiheadAttention(WIDTH, 4, batch_first=True)
        self.say = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, len(LETTERS))
        )

    def loss(self, tokens: Tensor, spelled: Tensor) -> Tensor:
        """Mean cross-entropy of `spelled` (b, LONGEST), numbers of letters, given tokens (b, n, WIDTH)."""
        queries = self.places.expand(len(tokens), -1, -1)
        seen, _ = self.look(queries, tokens, tokens, need_weights=False)
        return cross_entropy(self.say(seen + queries).flatten(0, 1), spelled.flatten())


class Siglip(nn.Module):
    """The picture and text towers, the scale and bias of their contrast, and the speller."""

    def __init__(self) -> None:
        super().__init__()
        self.vision = SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=WIDTH,
                intermediate_size=4 * WIDTH,
                num_hidden_layers=3,
                num_attention_heads=4,
                image_size=RECIPE.pixels,
                patch_size=PATCH,
                vision_use_head=False,
            )
        )
        self.picture_head = nn.Linear(WIDTH, WIDTH, bias=False)
        self.text = TextTower(WIDTH)
        self.scale = nn.Parameter(torch.tensor(2.3))
        self.bias = nn.Parameter(torch.tensor(-4.0))
        self.speller = Speller()

    def prepare(self, album: Album) -> None:
        """Nothing."""

    def loss(self, album: Album, chosen: Tensor, generator: torch.Generator) -> Tensor:  # noqa: ARG002
        """Sigmoid contrast over all pairs plus the spelling loss."""
        scenes = [album.scenes[int(row)] for row in chosen]
        tokens = self.vision(pixel_values=album.pixels(chosen)).last_hidden_state
        captions: list[list[Phrase]] = [[(read(scene) or "",)] for scene in scenes]
        pictures = normalize(self.picture_head(tokens.mean(1)), dim=-1)
        texts = normalize(self.text(encode_phrases(captions)), dim=-1)
        logits = self.scale.exp() * pictures @ texts.T + self.bias
        signs = torch.where(same_caption(captions), 1.0, -1.0)
        contrast = -logsigmoid(signs * logits).sum(1).mean() / 4
        spelled = torch.stack([_letters(scene) for scene in scenes])
        return contrast + self.speller.loss(tokens, spelled)

    def after_step(self, progress: float) -> None:
        """Nothing."""

    def save(self, folder: Path) -> None:
        """config.json and model.safetensors."""
        self.vision.save_pretrained(folder)


def read(scene: Scene) -> str | None:
    """What is written in the picture: the sign's word, the digit, or nothing."""
    return scene.word if scene.digit is None else str(scene.digit)


def _letters(scene: Scene) -> Tensor:
    text = (read(scene) or "").ljust(LONGEST)
    return torch.tensor([LETTERS.index(letter) for letter in text])
