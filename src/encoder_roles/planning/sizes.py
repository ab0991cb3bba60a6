"""The sizes of a network's parts, from their architectures on the meta device: no weights are allocated.

Torch's counter counts the FLOPs of one forward pass (a multiply and an add are two). The bytes that a forward
pass keeps for its backward pass are those that autograd saves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # must come before transformers
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_layers import GradientCheckpointingLayer

from encoder_roles.encoders.encoder import Encoder
from encoder_roles.encoders.loading import load_source
from encoder_roles.encoders.sizes import build_on_meta
from encoder_roles.models.connector import Levels, projector_inputs
from encoder_roles.models.connectors.factory import build_connector
from encoder_roles.models.grid import grid_features
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import ConnectorSettings, EncoderSpec, LanguageModelSpec


@dataclass(frozen=True)
class Size:
    """The cost of one part for one sample: a picture, or a sequence of the language model.

    Attributes:
        parameters: of the part.
        flops: of one forward pass.
        saved: bytes that the forward pass keeps for the backward pass, without the weights.
        checkpointed: the same with gradient checkpointing: the inputs of all layers, the tensors outside of
            the layers, and all tensors of the largest layer.
    """

    parameters: int
    flops: int
    saved: int
    checkpointed: int

    def __add__(self, other: Size) -> Size:
        return Size(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


NOTHING = Size(0, 0, 0, 0)
# by an encoder's row as JSON, the connector's grid and the weights' type: size, and widths of the levels
KnownSizes = dict[tuple[str, int, torch.dtype], tuple[Size, tuple[int, ...]]]


def measure(module: nn.Module, forward: Callable[[], Any]) -> Size:
    """The size of a module of the meta device, from one forward pass."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        forward()  # attention as matrix products: the counter does not see a CPU's fused kernels
    kept = SavedTensors(module)
    with kept:
        output = forward()  # alive until all is counted, as before a backward pass
    del output
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Size(parameters, int(counter.get_total_flops()), kept.total, kept.checkpointed)


class SavedTensors:
    """A context that counts the bytes that autograd saves, by layer."""

    def __init__(self, module: nn.Module) -> None:
        self.weights = {parameter.untyped_storage()._cdata for parameter in module.parameters()}
        # held until they are counted: the address of a storage that was freed would be another's
        self.storages: dict[int, torch.UntypedStorage] = {}
        self.layers: list[tuple[int, int]] = []  # bytes of inputs and bytes saved inside
        self.begun = 0
        self.hooks: list[Any] = []
        for layer in layers_of(module):
            self.hooks.append(layer.register_forward_pre_hook(self._begin))
            self.hooks.append(layer.register_forward_hook(self._end))

    @property
    def total(self) -> int:
        """All bytes saved."""
        return sum(storage.nbytes() for storage in self.storages.values())

    @property
    def checkpointed(self) -> int:
        """Peak bytes if layers keep only their inputs."""
        inside = [saved for _, saved in self.layers]
        return self.total - sum(inside) + sum(inputs for inputs, _ in self.layers) + max(inside, default=0)

    def __enter__(self) -> None:
        self.saving = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)
        self.saving.__enter__()

    def __exit__(self, *fault: Any) -> None:
        self.saving.__exit__(*fault)
        for hook in self.hooks:
            hook.remove()

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self.weights:
            self.storages[storage._cdata] = storage
        return tensor

    def _begin(self, _layer: nn.Module, _inputs: Any) -> None:
        self.begun = self.total

    def _end(self, _layer: nn.Module, inputs: Any, _output: Any) -> None:
        given = sum(value.nbytes for value in inputs if isinstance(value, Tensor))
        self.layers.append((given, self.total - self.begun))


def layers_of(module: nn.Module) -> list[nn.Module]:
    """The layers that gradient checkpointing applies to: those of transformers, or timm's blocks."""
    layers: list[nn.Module] = [
        part for part in module.modules() if isinstance(part, GradientCheckpointingLayer)
    ]
    blocks = (part for name, part in module.named_modules() if name.rpartition(".")[2] == "blocks")
    return layers or [layer for part in blocks for layer in part.children()]


def meta_encoder(name: str, spec: EncoderSpec) -> Encoder:
    """The encoder of a row on the meta device: from the row's `library_config`, or from its folder.

    Raises:
        StudyError: the row has neither.
    """
    if spec.library_config is not None:
        return build_on_meta(name, spec)
    if not Path(spec.source).is_dir():
        raise StudyError(
            f"encoders.{name}: to plan with it, give its `library_config`, or fetch it into {spec.source}"
        )
    return load_source(name, spec, Path(spec.source)).to("meta")


def size_encoder(encoder: Encoder, grid: int, dtype: torch.dtype) -> Size:
    """One picture through an encoder of the meta device, to the connector's grid."""
    encoder.to(dtype)
    side = encoder.spec.pixels
    picture = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    pixels = encoder.preprocess(picture).to("meta", dtype)
    return measure(encoder, lambda: grid_features(encoder, pixels, grid))


def size_connector(
    levels: Levels, settings: ConnectorSettings, hidden: int, dtype: torch.dtype
) -> tuple[Size, int]:
    """One picture through a connector, and the number of its visual tokens."""
    with torch.device("meta"):
        connector = build_connector(levels, settings, hidden, seed=0).to(dtype)
    grid = settings.grid
    features = {name: torch.zeros(1, grid, grid, sum(w), device="meta") for name, w in levels.items()}
    inputs = {name: block.to(dtype) for name, block in projector_inputs(features, levels).items()}
    return measure(connector, lambda: connector(inputs)), connector.tokens


class LanguageModelSizes:
    """The language model's size for sequences of any length.

    Args:
        spec: its row of the config, with `library_config` or a folder.
        dtype: of its weights.

    Raises:
        StudyError: the row has neither.
    """

    def __init__(self, spec: LanguageModelSpec, dtype: torch.dtype) -> None:
        if spec.library_config is not None:
            settings = dict(spec.library_config)
            config = AutoConfig.for_model(settings.pop("model_type"), **settings)
        elif Path(spec.source).is_dir():
            config = AutoConfig.from_pretrained(spec.source, local_files_only=True, trust_remote_code=False)
        else:
            raise StudyError(
                f"language_model: to plan with it, give its `library_config`, or fetch it into {spec.source}"
            )
        with torch.device("meta"):
            self.model: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
        text = config.get_text_config()
        self.hidden, self.layers, self.vocabulary = (
            int(text.hidden_size),
            int(text.num_hidden_layers),
            int(text.vocab_size),
        )
        self.dtype = dtype
        self._sizes: dict[int, Size] = {}

    def size(self, tokens: int) -> Size:
        """One sequence of embeddings (1, tokens, hidden); the output layer is counted by `head_flops`."""
        if tokens not in self._sizes:
            embeddings = torch.zeros(1, tokens, self.hidden, device="meta", dtype=self.dtype)
            base = self.model.base_model
            # without a cache transformers looks for packed sequences in positions, which have no values here
            self._sizes[tokens] = measure(self.model, lambda: base(inputs_embeds=embeddings, use_cache=True))
        return self._sizes[tokens]

    def head_flops(self, tokens: int) -> int:
        """FLOPs of the output layer for a number of predicted tokens."""
        return 2 * tokens * self.hidden * self.vocabulary


def sum_sizes(sizes: Mapping[str, Size]) -> Size:
    """The total size of parts."""
    return sum(sizes.values(), NOTHING)
