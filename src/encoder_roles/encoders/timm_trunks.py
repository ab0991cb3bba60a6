"""Vision encoders that are timm networks: in timm's own format, or as the vision trunk of open_clip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from encoder_roles.encoders import _torchvision  # isort: skip  # noqa: F401  # must come before timm
import timm

from encoder_roles.encoders.encoder import Encoder, as_grid, hidden_state, wrong_pixels
from encoder_roles.encoders.weights import load_strictly, read_json, read_weights
from encoder_roles.study import EncoderSpec, StudyError

OPEN_CLIP_TRUNK = "visual.trunk."


class TimmEncoder(Encoder):
    """A timm network, cut off after the spec's layer."""

    def __init__(self, name: str, spec: EncoderSpec, library_config: dict[str, Any], trunk: Any) -> None:
        super().__init__(name, spec, library_config, trunk)
        made_for = getattr(getattr(trunk, "patch_embed", None), "img_size", None)
        if made_for is not None and tuple(made_for) != (spec.pixels, spec.pixels):
            raise StudyError(wrong_pixels(name, spec, made_for[0]))
        self._dropped = int(getattr(trunk, "num_prefix_tokens", 0))
        if spec.layer == -1:
            trunk.reset_classifier(0, global_pool="")  # what is left of the head is the final norm
        else:
            count = len(trunk.feature_info)
            keep = hidden_state(spec.layer, count, f"encoder {name}")
            if keep == 0:
                raise StudyError(
                    f"encoder {name}: layer {spec.layer} is the embedding, which timm does not give out"
                )
            trunk.prune_intermediate_layers([keep - 1], prune_norm=True, prune_head=True)
            if hasattr(trunk, "head"):
                trunk.head = nn.Identity()  # the norm in a ConvNet's head
        self.width = int(trunk.num_features)

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, p, p) -> features (B, h, w, D)."""
        states: Tensor = self.trunk(pixels) if self.spec.layer == -1 else self.trunk.forward_features(pixels)
        if states.dim() == 4:
            return states.permute(0, 2, 3, 1)
        return as_grid(states, self._dropped, pixels)


def build(name: str, spec: EncoderSpec, library_config: dict[str, Any]) -> Encoder:
    """An encoder of this config ({"architecture", "arguments"}) with weights that are still to be loaded."""
    return TimmEncoder(name, spec, library_config, _network(library_config, f"encoder {name}"))


def load(name: str, spec: EncoderSpec, folder: Path) -> Encoder:
    """An encoder from a timm folder (config.json, model.safetensors).

    Raises:
        StudyError: a file or a weight is missing, unexpected, of the wrong shape or damaged.
    """
    config = read_json(folder / "config.json")
    if "architecture" not in config:
        raise StudyError(f"{folder / 'config.json'}: no key 'architecture'; not a timm config")
    arguments = dict(config.get("model_args") or {})
    arguments["num_classes"] = config.get("num_classes", 0)
    library_config = {"architecture": config["architecture"], "arguments": arguments}
    return _load(name, spec, folder, library_config, read_weights(folder))


def load_open_clip(name: str, spec: EncoderSpec, folder: Path) -> Encoder:
    """An encoder from an open_clip folder (open_clip_config.json, open_clip_model.safetensors): its timm
    trunk.

    open_clip itself is not imported: its vision tower of this kind is a timm network under `visual.trunk`.

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
    weights = read_weights(folder, "open_clip_model.safetensors")
    trunk = {k.removeprefix(OPEN_CLIP_TRUNK): v for k, v in weights.items() if k.startswith(OPEN_CLIP_TRUNK)}
    return _load(name, spec, folder, library_config, trunk)


def _load(
    name: str, spec: EncoderSpec, folder: Path, library_config: dict[str, Any], weights: dict[str, Tensor]
) -> Encoder:
    trunk = _network(library_config, str(folder))
    whole = set(trunk.state_dict())
    encoder = TimmEncoder(name, spec, library_config, trunk)
    load_strictly(trunk, weights, folder, unused=whole - set(trunk.state_dict()))
    return encoder


def _network(library_config: dict[str, Any], where: str) -> Any:
    architecture = library_config["architecture"]
    if not timm.is_model(architecture):
        raise StudyError(f"{where}: timm {timm.__version__} knows no architecture {architecture!r}")
    return timm.create_model(architecture, pretrained=False, **library_config["arguments"])
