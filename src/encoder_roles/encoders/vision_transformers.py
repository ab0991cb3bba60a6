"""Vision encoders in the transformers library's format: CLIP, SigLIP, DINOv2, SAM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # must come before transformers
import transformers

from encoder_roles.encoders.encoder import Encoder, as_grid, hidden_state, wrong_pixels
from encoder_roles.encoders.pretrained import load_pretrained, plain_config
from encoder_roles.encoders.weights import read_json
from encoder_roles.study import EncoderSpec, StudyError


@dataclass(frozen=True)
class Family:
    """Where one kind of vision transformer keeps its parts.

    Attributes:
        model, config: the names of transformers' classes of the vision network.
        blocks: path of the list of blocks in the network.
        norm: path of what follows the last block.
        unused: weights of a whole checkpoint that belong to other networks (text towers, decoders).
        dropped: number of leading tokens that are not patches, from the config.
        any_size: whether the network resamples its position table to the picture; otherwise sizes must agree.
    """

    model: str
    config: str
    blocks: str
    norm: str
    unused: tuple[str, ...] = ()
    dropped: Callable[[Any], int] = lambda _: 0
    any_size: bool = False


_TWO_TOWERS = ("text_model.", "text_projection.", "visual_projection.", "logit_scale", "logit_bias")
_CLIP = Family(
    "CLIPVisionModel", "CLIPVisionConfig", "encoder.layers", "post_layernorm", _TWO_TOWERS, lambda _: 1
)
_SIGLIP = Family("SiglipVisionModel", "SiglipVisionConfig", "encoder.layers", "post_layernorm", _TWO_TOWERS)
_DINO = Family("Dinov2Model", "Dinov2Config", "encoder.layer", "layernorm", (), lambda _: 1, True)
_DINO_REGISTERS = Family(
    "Dinov2WithRegistersModel",
    "Dinov2WithRegistersConfig",
    "encoder.layer",
    "layernorm",
    (),
    lambda c: 1 + int(c.num_register_tokens),
    True,
)
_SAM = Family(
    "SamVisionModel",
    "SamVisionConfig",
    "vision_encoder.layers",
    "vision_encoder.neck",
    ("prompt_encoder.", "mask_decoder.", "shared_image_embedding."),
)
FAMILIES: dict[str, Family] = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "dinov2": _DINO,
    "dinov2_with_registers": _DINO_REGISTERS,
    "sam": _SAM,
    "sam_vision_model": _SAM,
}


class TransformersEncoder(Encoder):
    """A vision transformer of the transformers library, whose weights are loaded or not."""

    def __init__(self, name: str, spec: EncoderSpec, library_config: dict[str, Any], trunk: Any) -> None:
        super().__init__(name, spec, library_config, trunk)
        self.family = family_of(library_config, name)
        config = trunk.config
        if not self.family.any_size and config.image_size != spec.pixels:
            raise StudyError(wrong_pixels(name, spec, config.image_size))
        self._dropped = self.family.dropped(config)
        self.width = self._cut(spec.layer)

    def _cut(self, layer: int) -> int:
        """Cut off what the layer does not need; return the features' width."""
        trunk, config = self.trunk, self.trunk.config
        if getattr(trunk, "use_head", False):  # SigLIP's attention pooling
            trunk.use_head = False
            del trunk.head
        self._channels_first = layer == -1 and self.family is _SAM
        if layer == -1:
            return int(config.output_channels if self.family is _SAM else config.hidden_size)
        blocks = trunk.get_submodule(self.family.blocks)
        keep = hidden_state(layer, len(blocks), f"encoder {self.name}")
        del blocks[keep:]
        parent, _, last = self.family.norm.rpartition(".")
        setattr(trunk.get_submodule(parent), last, nn.Identity())
        return int(config.hidden_size)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, p, p) -> features (B, h, w, D)."""
        states: Tensor = self.trunk(pixels).last_hidden_state
        if self.family is _SAM:  # already a grid
            return states.permute(0, 2, 3, 1) if self._channels_first else states
        if self.family is _CLIP:  # transformers norms the class token only
            states = self.trunk.post_layernorm(states[:, self._dropped :])
            return as_grid(states, 0, pixels)
        return as_grid(states, self._dropped, pixels)


def family_of(library_config: dict[str, Any], where: object) -> Family:
    """The family of a config.json. Raises StudyError on a model_type that has none."""
    kind = library_config.get("model_type")
    if kind not in FAMILIES:
        raise StudyError(
            f"{where}: model_type {kind!r} is no vision encoder known here ({', '.join(FAMILIES)})"
        )
    return FAMILIES[kind]


def build(name: str, spec: EncoderSpec, library_config: dict[str, Any]) -> Encoder:
    """An encoder of this config with weights that are still to be loaded."""
    family = family_of(library_config, name)
    config = getattr(transformers, family.config).from_dict(library_config)
    trunk = getattr(transformers, family.model)._from_config(config, dtype=torch.float32)
    return TransformersEncoder(name, spec, library_config, trunk)


def load(name: str, spec: EncoderSpec, folder: Path) -> Encoder:
    """An encoder with the weights of a `save_pretrained` folder, of the vision network or of the whole model.

    Raises:
        StudyError: a file or a weight is missing, unexpected, of the wrong shape or damaged.
    """
    library_config = read_json(folder / "config.json")
    family = family_of(library_config, folder / "config.json")
    trunk = load_pretrained(getattr(transformers, family.model), folder, family.unused)
    return TransformersEncoder(name, spec, plain_config(trunk.config), trunk)
