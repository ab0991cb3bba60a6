"""ConvNeXt CLIP: softmax contrast in open_clip's own CLIP with a timm ConvNeXt trunk (Liu et al. 2022).

Its captions read charts and textures: every bar with its colour and value, every thing with its colour and
texture. Beside the contrast stands a captioning loss, as in CoCa (Yu et al. 2022): a linear layer says the
caption's second word for each colour. From the contrast alone the network learns which colours are there and
not what belongs to them (docs/laptop-study.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from encoder_roles.encoders import _torchvision  # isort: skip  # noqa: F401  # must come before open_clip
import open_clip

from encoder_roles.provenance import write_json
from encoder_roles.world.pretraining.captions import INDEX, VOCABULARY, Phrase
from encoder_roles.world.pretraining.contrast import softmax_contrast
from encoder_roles.world.pretraining.loop import Recipe
from encoder_roles.world.pretraining.pictures import MEAN, STD, Album
from encoder_roles.world.scenes import BAR_HEIGHTS, COLOURS, TEXTURES, Scene

RECIPE = Recipe(
    pixels=64,
    steps=1200,
    batch=48,
    mix={"objects": 0.45, "pair": 0.05, "chart": 0.4, "sign": 0.05, "digit": 0.05},
)
TRUNK = "test_convnext2"  # timm's name of the smallest ConvNeXt: a block per stage, dims 32, 64, 96, 128
LAYER_SCALE = 0.3  # timm's 1e-6 is for long schedules: it would learn nothing in so few steps
START, END = len(VOCABULARY), len(VOCABULARY) + 1  # open_clip pools a text at its largest token: the end
CONTEXT = 12
TOLD = ("", *(str(height) for height in BAR_HEIGHTS), *TEXTURES)  # the words that may follow a colour
CAPTIONING = 2.0  # weight of the captioning loss, CoCa's
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
        trunk = self.model.visual.trunk
        side = RECIPE.pixels // trunk.feature_info[-1]["reduction"]
        self.caption_head = nn.Linear(side * side * trunk.num_features, len(COLOURS) * len(TOLD))

    @property
    def vision(self) -> nn.Module:
        """The picture tower."""
        tower: nn.Module = self.model.visual
        return tower

    def prepare(self, album: Album) -> None:
        """Nothing: the order of phrases differs from step to step."""

    def loss(self, album: Album, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """The contrast of the chosen pictures and their captions, plus the captioning loss."""
        scenes = [album.scenes[int(row)] for row in chosen]
        captions = [describe(scene) for scene in scenes]
        texts = self.model.encode_text(torch.stack([encode_text(c, generator) for c in captions]))
        trunk, head = self.model.visual.trunk, self.model.visual.head
        tokens = trunk.forward_features(album.pixels(chosen))
        pictures = head(trunk.forward_head(tokens, pre_logits=True))
        logits = self.caption_head(tokens.flatten(1)).reshape(-1, len(TOLD))
        truth = torch.stack([caption_words(caption) for caption in captions]).flatten()
        contrast = softmax_contrast(pictures, texts, self.model.logit_scale, captions)
        return contrast + CAPTIONING * cross_entropy(logits, truth)

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
    """A caption: colour and value of every bar, colour and texture of every thing, or the kind of picture."""
    if scene.bars:
        return [(bar.colour, str(bar.height)) for bar in scene.bars]
    if scene.things:
        return [(thing.colour, thing.texture) for thing in scene.things]
    return [(scene.kind,)]


def caption_words(caption: list[Phrase]) -> Tensor:
    """The word that a caption puts after each colour, as its index in TOLD: (colours,)."""
    words = dict(phrase for phrase in caption if len(phrase) == 2)
    return torch.tensor([TOLD.index(words.get(colour, "")) for colour in COLOURS])


def encode_text(caption: list[Phrase], generator: torch.Generator) -> Tensor:
    """Token ids (CONTEXT,): start, the phrases in random order, end, padding."""
    order = torch.randperm(len(caption), generator=generator).tolist()
    tokens = [START, *(INDEX[word] for place in order for word in caption[place]), END]
    return torch.tensor(tokens + [0] * (CONTEXT - len(tokens)))
