"""Vision encoders in transformers' format: CLIP, MetaCLIP 2, SigLIP, DINOv2, SAM, Pix2Struct, RADIO."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # must come before transformers
import transformers

from encoder_roles.encoders.encoder import Encoder, as_grid, hidden_state, wrong_pixels
from encoder_roles.encoders.framing import Frame
from encoder_roles.encoders.pretrained import load_pretrained, plain_config
from encoder_roles.encoders.weights import read_json
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import EncoderSpec


@dataclass(frozen=True)
class Family:
    """The parts of one kind of vision transformer.

    Attributes:
        model, config: the names of transformers' classes of the vision network.
        blocks: path of the list of blocks in the network.
        norm: path of the module after the last block, or nothing if there is none.
        class_norm: whether the library applies that norm only to the class token (CLIP).
        unused: prefixes of weights in a checkpoint that belong to other networks (text towers, decoders).
        dropped: the number of leading tokens that are not patches, from the config.
        sizes: the picture sizes that the network reads. `fixed`: that of its config. `option`: others too,
            with an option to resample the position table. `any`: it always resamples if needed.
        whole_patches: whether the network reads only pictures of whole patches.
        prefix: prefix of the network's weights in the checkpoint of the complete model.
    """

    model: str
    config: str
    blocks: str
    norm: str
    unused: tuple[str, ...] = ()
    class_norm: bool = False
    dropped: Callable[[Any], int] = lambda _: 0
    sizes: Literal["fixed", "option", "any"] = "fixed"
    whole_patches: bool = False
    prefix: str = ""


_TWO_TOWERS = ("text_model.", "text_projection.", "visual_projection.", "logit_scale", "logit_bias")
_CLIP = Family(
    "CLIPVisionModel",
    "CLIPVisionConfig",
    "encoder.layers",
    "post_layernorm",
    _TWO_TOWERS,
    class_norm=True,
    dropped=lambda _: 1,
    sizes="option",
)
_METACLIP2 = replace(_CLIP, model="MetaClip2VisionModel", config="MetaClip2VisionConfig")
_SIGLIP = Family(
    "SiglipVisionModel", "SiglipVisionConfig", "encoder.layers", "post_layernorm", _TWO_TOWERS, sizes="option"
)
_DINO = Family("Dinov2Model", "Dinov2Config", "encoder.layer", "layernorm", dropped=lambda _: 1, sizes="any")
_DINO_REGISTERS = Family(
    "Dinov2WithRegistersModel",
    "Dinov2WithRegistersConfig",
    "encoder.layer",
    "layernorm",
    dropped=lambda c: 1 + int(c.num_register_tokens),
    sizes="any",
)
_SAM = Family(
    "SamVisionModel",
    "SamVisionConfig",
    "vision_encoder.layers",
    "vision_encoder.neck",
    ("prompt_encoder.", "mask_decoder.", "shared_image_embedding."),
)
_PIX2STRUCT = Family(
    "Pix2StructVisionModel",
    "Pix2StructVisionConfig",
    "encoder.layer",
    "layernorm",
    sizes="any",
    whole_patches=True,
)
_PIX2STRUCT_WHOLE = replace(_PIX2STRUCT, unused=("decoder.",), prefix="encoder.")
_RADIO = Family(
    "RadioModel",
    "RadioConfig",
    "encoder.layer",
    norm="",
    dropped=lambda c: int(c.num_summary_tokens),
    sizes="any",
    whole_patches=True,
)
FAMILIES: dict[str, Family] = {
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "metaclip_2": _METACLIP2,
    "metaclip_2_vision_model": _METACLIP2,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "dinov2": _DINO,
    "dinov2_with_registers": _DINO_REGISTERS,
    "sam": _SAM,
    "sam_vision_model": _SAM,
    "pix2struct": _PIX2STRUCT_WHOLE,
    "pix2struct_vision_model": _PIX2STRUCT,
    "radio": _RADIO,
}


class TransformersEncoder(Encoder):
    """A vision transformer of the transformers library, with or without loaded weights."""

    def __init__(self, name: str, spec: EncoderSpec, library_config: dict[str, Any], trunk: Any) -> None:
        super().__init__(name, spec, library_config, trunk)
        self.family = family_of(library_config, name)
        config = trunk.config
        self._resampled = self.family.sizes == "option" and spec.positions == "resample"
        if self.family.sizes != "any" and not self._resampled and config.image_size != spec.pixels:
            raise StudyError(wrong_pixels(name, spec, config.image_size))
        self._patch = int(config.patch_size)
        self._check_rules(config)
        self.frame = Frame.of(spec, self._patch)
        self._dropped = self.family.dropped(config)
        self.widths = self._cut(spec.layers)

    @property
    def _flattened(self) -> bool:
        """Whether the network reads flattened patches with their positions (Pix2Struct)."""
        return self.family.model == _PIX2STRUCT.model

    def _check_rules(self, config: Any) -> None:
        """Raise StudyError if aspect, positions or pixels do not fit the network."""
        spec, where = self.spec, f"encoder {self.name}"
        if spec.aspect == "keep" and not self._flattened:
            raise StudyError(f"{where}: aspect is 'keep', but its network reads squares; choose another")
        if spec.positions == "resample" and self.family.sizes != "option":
            does = "always resamples its position table" if self.family.sizes == "any" else "cannot do that"
            raise StudyError(f"{where}: positions is 'resample', but its network {does}; remove the key")
        if (self.family.whole_patches or self._resampled) and spec.pixels % self._patch:
            raise StudyError(
                f"{where}: pixels is {spec.pixels}, not a multiple of its patches' {self._patch}"
            )
        if self._flattened and (longest := (spec.pixels // self._patch) ** 2) > config.seq_len:
            raise StudyError(
                f"{where}: {longest} patches, but its network reads {config.seq_len}; set fewer pixels"
            )

    def _cut(self, layers: tuple[int, ...]) -> tuple[int, ...]:
        """Cut off what the layers do not need; return their widths."""
        trunk, config = self.trunk, self.trunk.config
        if getattr(trunk, "use_head", False):  # SigLIP's attention pooling
            trunk.use_head = False
            del trunk.head
        if self.family is _RADIO:  # pixels are normalised before, by the row's mean and std
            trunk.make_preprocessor_external()
        blocks = trunk.get_submodule(self.family.blocks)
        count = len(blocks)
        # the index of each layer among the hidden states; None: the last state after the norm
        self._states = [
            None if layer == -1 else hidden_state(layer, count, f"encoder {self.name}") for layer in layers
        ]
        if len(set(self._states)) != len(layers):
            raise StudyError(f"encoder {self.name}: layer {list(layers)} names a hidden state twice")
        if None not in self._states:
            del blocks[max(state for state in self._states if state is not None) :]
            parent, _, last = self.family.norm.rpartition(".")
            if last:
                setattr(trunk.get_submodule(parent), last, nn.Identity())
        normed = config.output_channels if self.family is _SAM else config.hidden_size
        return tuple(int(normed if state is None else config.hidden_size) for state in self._states)

    def levels(self, pixels: Tensor) -> list[Tensor]:
        """Normalised pixels (B, 3, p, p) -> features (B, h, w, D_l) of each layer."""
        several = len(self._states) > 1  # a single layer is the end of the shortened network
        read = self._read_patches if self._flattened else self._read_pixels
        last, between = read(pixels, several)
        return [
            self._grid(between[state] if several and state is not None else last, state is None, pixels)
            for state in self._states
        ]

    def _read_pixels(self, pixels: Tensor, several: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The network's last state, and all hidden states if there are `several` layers."""
        options = {"interpolate_pos_encoding": True} if self._resampled else {}
        output = self.trunk(pixels, output_hidden_states=several, **options)
        return output.last_hidden_state, output.hidden_states or ()

    def _read_patches(self, pixels: Tensor, several: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        """`_read_pixels` for Pix2Struct, part by part, because its forward looks for padding."""
        patches = self.trunk.embeddings(self._flatten(pixels))
        output = self.trunk.encoder(patches, attention_mask=None, output_hidden_states=several)
        return self.trunk.layernorm(output.last_hidden_state), output.hidden_states or ()

    def _grid(self, states: Tensor, last: bool, pixels: Tensor) -> Tensor:
        """A hidden state of the network (`last`: after its norm) -> (B, h, w, D_l)."""
        if self.family is _SAM:  # already a grid
            return states.permute(0, 2, 3, 1) if last else states
        if self.family.class_norm and last:
            states = self.trunk.get_submodule(self.family.norm)(states)
        return as_grid(states, self._dropped, pixels)

    def _flatten(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, h, w) -> patches (B, N, 2 + 3 patch^2): row and column from 1, then pixels."""
        batch, channels, height, width = pixels.shape
        rows, columns, side = height // self._patch, width // self._patch, self._patch
        cut = pixels.reshape(batch, channels, rows, side, columns, side).permute(0, 2, 4, 3, 5, 1)
        at = [torch.arange(1, count + 1, device=pixels.device) for count in (rows, columns)]
        places = torch.cartesian_prod(*at).to(pixels.dtype)
        return torch.cat([places.expand(batch, -1, -1), cut.reshape(batch, rows * columns, -1)], dim=-1)


def family_of(library_config: dict[str, Any], where: object) -> Family:
    """The family of a config.json. Raises StudyError if its model_type has none."""
    kind = library_config.get("model_type")
    if kind not in FAMILIES:
        raise StudyError(
            f"{where}: model_type {kind!r} is not a supported vision encoder ({', '.join(FAMILIES)})"
        )
    return FAMILIES[kind]


def build(name: str, spec: EncoderSpec, library_config: dict[str, Any]) -> Encoder:
    """An encoder of this config, before its weights are loaded."""
    return TransformersEncoder(name, spec, library_config, network(library_config, name))


def network(library_config: dict[str, Any], where: str) -> Any:
    """The complete vision network of this config, nothing cut off, before its weights are loaded."""
    model = getattr(transformers, family_of(library_config, where).model)
    return model._from_config(_config(library_config, where), dtype=torch.float32)


def _config(library_config: dict[str, Any], where: object) -> Any:
    """The config as the library's own class."""
    return getattr(transformers, family_of(library_config, where).config).from_dict(library_config)


def _check_normalisation(conditioner: Any, spec: EncoderSpec, folder: Path) -> None:
    """Raise StudyError unless the mean and deviation that RADIO's weights bring are the row's."""
    for key, weight in (("mean", conditioner.norm_mean), ("std", conditioner.norm_std)):
        row, stored = getattr(spec, key) or (), weight.flatten()
        if not torch.allclose(stored, torch.tensor(row), atol=1e-4):
            raise StudyError(
                f"{folder}: its {key} is {stored.tolist()}, the row's is {list(row)}; correct the row"
            )


def load(name: str, spec: EncoderSpec, folder: Path) -> Encoder:
    """An encoder with the weights of a `save_pretrained` folder of the vision network or the complete model.

    The config.json of a repository with code of its own (RADIO's) has no model type of transformers. Then the
    row's `library_config` describes the network, and that code is not run.

    Raises:
        StudyError: a file or a weight is missing, unexpected, of the wrong shape or damaged; or the network
            would normalise its input by another mean or deviation than the row's.
    """
    library_config, config = read_json(folder / "config.json"), None
    if library_config.get("model_type") not in FAMILIES and spec.library_config is not None:
        library_config = spec.library_config
        config = _config(library_config, name)
    family = family_of(library_config, folder / "config.json")
    renamed = {f"^{re.escape(family.prefix)}": ""} if family.prefix else None
    trunk = load_pretrained(getattr(transformers, family.model), folder, family.unused, renamed, config)
    if family is _RADIO:
        _check_normalisation(trunk.input_conditioner, spec, folder)
    return TransformersEncoder(name, spec, plain_config(trunk.config), trunk)
