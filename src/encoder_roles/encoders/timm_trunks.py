"""Vision encoders that are timm networks, in timm's format or as the vision trunk of open_clip."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encoder_roles.encoders import _torchvision  # isort: skip  # noqa: F401  # must come before timm
import timm

from encoder_roles.encoders.encoder import Encoder, as_grid, hidden_state, wrong_pixels
from encoder_roles.encoders.weights import load_strictly, read_json, read_weights
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import EncoderSpec

OPEN_CLIP_TRUNK = "visual.trunk."


class TimmEncoder(Encoder):
    """A timm network, cut off after the deepest of the spec's layers."""

    def __init__(self, name: str, spec: EncoderSpec, library_config: dict[str, Any], trunk: Any) -> None:
        super().__init__(name, spec, library_config, trunk)
        if spec.aspect == "keep":
            raise StudyError(
                f"encoder {name}: aspect is 'keep', but its network reads squares; choose another"
            )
        self._check_pixels()
        self._dropped = int(getattr(trunk, "num_prefix_tokens", 0))
        self.widths = self._cut(spec.layers)

    def _check_pixels(self) -> None:
        """Raise StudyError if the network does not read pictures of this size."""
        embed: Any = getattr(self.trunk, "patch_embed", None)
        pixels = self.spec.pixels
        made_for = getattr(embed, "img_size", None)
        if self.spec.positions == "resample":
            if pixels % (patch := embed.patch_size[0]):
                raise StudyError(
                    f"encoder {self.name}: pixels is {pixels}, not a multiple of its patches' {patch}"
                )
        elif made_for is not None and tuple(made_for) != (pixels, pixels):
            raise StudyError(wrong_pixels(self.name, self.spec, made_for[0]))

    def _cut(self, layers: tuple[int, ...]) -> tuple[int, ...]:
        """Cut off what the layers do not need; return their widths."""
        info = self.trunk.feature_info
        places = [None if n == -1 else hidden_state(n, len(info), f"encoder {self.name}") for n in layers]
        if 0 in places:
            raise StudyError(
                f"encoder {self.name}: layer {layers[places.index(0)]} is the embedding, which timm does not "
                "return"
            )
        # the index of each layer among timm's intermediates; None: the last state after the norm
        self._states = [None if place is None else place - 1 for place in places]
        if len(set(self._states)) != len(layers):
            raise StudyError(f"encoder {self.name}: layer {list(layers)} names a hidden state twice")
        widths = [self.trunk.num_features if s is None else info[s]["num_chs"] for s in self._states]
        if None in self._states:
            self.trunk.reset_classifier(0, global_pool="")  # leaves the final norm in the head
        else:
            deepest = max(state for state in self._states if state is not None)
            self.trunk.prune_intermediate_layers([deepest], prune_norm=True, prune_head=True)
            if hasattr(self.trunk, "head"):
                self.trunk.head = nn.Identity()  # removes the norm in a ConvNet's head
        self._taken = sorted(state for state in self._states if state is not None)
        # The network must run through its call, whichever forward method of timm gives the layers: ZeRO-3
        # gathers weights in hooks on the call.
        if self._taken and len(self._states) == 1:  # the layer is the end of the shortened network
            self.trunk.forward = self.trunk.forward_features
        elif self._taken:
            self.trunk.forward = partial(self.trunk.forward_intermediates, indices=self._taken)
        return tuple(int(width) for width in widths)

    def levels(self, pixels: Tensor) -> list[Tensor]:
        """Normalised pixels (B, 3, p, p) -> features (B, h, w, D_l) of each layer."""
        if len(self._states) == 1:
            return [self._grid(self.trunk(pixels), pixels)]
        final, between = self.trunk(pixels)
        intermediates = dict(zip(self._taken, between, strict=True))
        return [
            self._grid(self.trunk.forward_head(final), pixels)
            if state is None
            else intermediates[state].permute(0, 2, 3, 1)
            for state in self._states
        ]

    def _grid(self, states: Tensor, pixels: Tensor) -> Tensor:
        return states.permute(0, 2, 3, 1) if states.dim() == 4 else as_grid(states, self._dropped, pixels)


def build(name: str, spec: EncoderSpec, library_config: dict[str, Any]) -> Encoder:
    """An encoder of this config ({"architecture", "arguments"}), before its weights are loaded."""
    return TimmEncoder(name, spec, library_config, network(spec, library_config, f"encoder {name}"))


def load(name: str, spec: EncoderSpec, folder: Path) -> Encoder:
    """An encoder from a timm folder (config.json, model.safetensors).

    If the row has a `library_config`, it describes the network. The config.json of OpenAI's CLIP names the
    architecture with GELU, but by timm's registry its weights need the one with QuickGELU.

    Raises:
        StudyError: a file or a weight is missing, unexpected, of the wrong shape or damaged.
    """
    config = read_json(folder / "config.json")
    if spec.library_config is not None:
        return _load(name, spec, folder, spec.library_config, read_weights(folder))
    if "architecture" not in config:
        raise StudyError(f"{folder / 'config.json'}: no key 'architecture'; not a timm config")
    arguments = dict(config.get("model_args") or {})
    arguments["num_classes"] = config.get("num_classes", 0)
    library_config = {"architecture": config["architecture"], "arguments": arguments}
    return _load(name, spec, folder, library_config, read_weights(folder))


def load_open_clip(name: str, spec: EncoderSpec, folder: Path) -> Encoder:
    """The timm trunk of an open_clip folder (open_clip_config.json, open_clip_model.safetensors).

    open_clip is not imported, because the vision tower is a timm network under `visual.trunk`.

    Raises:
        StudyError: as `load`; or the vision tower is not a timm network.
    """
    path = folder / "open_clip_config.json"
    config = read_json(path)
    vision = config.get("model_cfg", config).get("vision_cfg", {})
    if not vision.get("timm_model_name"):
        raise StudyError(
            f"{path}: vision_cfg has no timm_model_name; only open_clip models with a timm trunk are known"
        )
    library_config = {"architecture": vision["timm_model_name"], "arguments": {}}
    weights = read_weights(folder, "open_clip_model.safetensors", prefix=OPEN_CLIP_TRUNK)
    return _load(name, spec, folder, library_config, weights)


def _load(
    name: str, spec: EncoderSpec, folder: Path, library_config: dict[str, Any], weights: Mapping[str, Tensor]
) -> Encoder:
    trunk = network(spec, library_config, f"encoder {name}")
    names = set(trunk.state_dict())
    encoder = TimmEncoder(name, spec, library_config, trunk)
    load_strictly(trunk, weights, folder, unused=names - set(trunk.state_dict()))
    return encoder


def network(spec: EncoderSpec, library_config: dict[str, Any], where: str) -> Any:
    """The complete vision network of this config, nothing cut off, before its weights are loaded.

    With `positions: resample` timm resamples the position table in every pass; no weight changes.
    """
    architecture, arguments = library_config["architecture"], dict(library_config["arguments"])
    if not timm.is_model(architecture):
        raise StudyError(f"{where}: timm {timm.__version__} has no architecture {architecture!r}")
    if spec.positions == "resample":
        arguments["dynamic_img_size"] = True
    try:
        return timm.create_model(architecture, pretrained=False, **arguments)
    except (TypeError, AssertionError, RuntimeError) as error:
        if "dynamic_img_size" in str(error):
            raise StudyError(
                f"{where}: positions is 'resample', but its network has no position table; remove the key"
            ) from None
        reason = " ".join(str(error).split())
        raise StudyError(f"{where}: timm cannot build a {architecture} with {arguments}: {reason}") from None
