"""ConvNeXt CLIP: softmax contrast in open_clip's own CLIP with a timm ConvNeXt trunk (Liu et al. 2022).

Its captions read charts: every bar's colour and value. Of things they name the colour.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from encoder_roles.encoders import _torchvision  # isort: skip  # noqa: F401  # must come before open_clip
import open_clip

from encoder_roles.provenance import write_json
from encoder_roles.world.pretraining.captions import INDEX, VOCABULARY, Phrase, same_caption
from encoder_roles.world.pretraining.loop import Recipe
from encoder_roles.world.pretraining.pictures import MEAN, STD, Album
from encoder_roles.world.scenes import Scene

RECIPE = Recipe(
    pixels=64,
    steps=900,
    batch=48,
    mix={"objects": 0.2, "pair": 0.05, "chart": 0.65, "sign": 0.05, "digit": 0.05},
)
TRUNK = "test_convnext2"  # timm's name of the smallest ConvNeXt: a block per stage, dims 32, 64, 96, 128
LAYER_SCALE = 0.3  # timm's 1e-6 is for long schedules: nothing is learned in this time
START, END = len(VOCABULARY), len(VOCABULARY) + 1  # open_clip pools a text at its largest token: the end
CONTEXT = 12
LARGEST_SCALE = math.log(100)
MODEL: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {
        "timm_model_name": TRUNK,
        "timm_pool": "avg",
        "timm_proj": "linear",
        "image_size": RECIPE.pixels,
    },
    "text_cfg": {"context_length": CONTEXT, "vocab_size": END + 1, "width": 32, "heads": 2, "layers": 1},
}


class ConvNext(nn.Module):
    """open_clip's CLIP with a convolutional picture tower."""

    def __init__(self) -> None:
        super().__init__()
        self.model = open_clip.CLIP(**MODEL)
        with torch.no_grad():
            for name, weight in self.model.visual.trunk.named_parameters():
                if name.endswith("gamma"):
                    weight.fill_(LAYER_SCALE)

    @property
    def vision(self) -> nn.Module:
        """The tower that is kept."""
        tower: nn.Module = self.model.visual
        return tower

    def prepare(self, album: Album) -> None:
        """Nothing: the order of phrases differs from step to step."""

    def loss(self, album: Album, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Symmetric cross-entropy; another picture's equal caption is no negative."""
        captions = [describe(album.scenes[int(row)]) for row in chosen]
        texts = torch.stack([encode_text(caption, generator) for caption in captions])
        scale = self.model.logit_scale.clamp(max=LARGEST_SCALE).exp()
        pictures = self.model.encode_image(album.pixels(chosen), normalize=True)
        logits = scale * pictures @ self.model.encode_text(texts, normalize=True).T
        logits = logits.masked_fill(same_caption(captions).fill_diagonal_(False), -math.inf)
        target = torch.arange(len(chosen))
        return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2

    def after_step(self, progress: float) -> None:
        """Nothing."""

    def save(self, folder: Path) -> None:
        """open_clip_config.json and open_clip_model.safetensors: both towers, as open_clip has them."""
        preprocess = {
            "mean": [MEAN] * 3,
            "std": [STD] * 3,
            "interpolation": "bicubic",
            "resize_mode": "squash",
        }
        write_json(folder / "open_clip_config.json", {"model_cfg": MODEL, "preprocess_cfg": preprocess})
        weights = {name: weight.contiguous() for name, weight in self.model.state_dict().items()}
        save_file(weights, folder / "open_clip_model.safetensors")


def describe(scene: Scene) -> list[Phrase]:
    """A caption: colour and value of every bar; colour of every thing; otherwise the kind of picture."""
    if scene.bars:
        return [(bar.colour, str(bar.height)) for bar in scene.bars]
    if scene.things:
        return [(thing.colour,) for thing in scene.things]
    return [(scene.kind,)]


def encode_text(caption: list[Phrase], generator: torch.Generator) -> Tensor:
    """Token ids (CONTEXT,): start, the phrases in random order, end, padding."""
    order = torch.randperm(len(caption), generator=generator).tolist()
    tokens = [START, *(INDEX[word] for place in order for word in caption[place]), END]
    return torch.tensor(tokens + [0] * (CONTEXT - len(tokens)))
