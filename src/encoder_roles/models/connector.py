"""The connector: from the features of all encoders to the visual tokens that the language model reads.

Each encoder's features are normalised without parameters (`projector_inputs`), so that all encoders have the
same scale. Masks act on these projector inputs. One of the kinds in `models.connectors` reads them.

An encoder is removed in one of two ways. `zero` replaces its projector input by zeros, as the predecessor of
this study does (arXiv 2507.03262). `drop` leaves the encoder out of the inputs: the connector computes
without its columns of the first weight, its tokens or its attention keys. If an encoder enters only through
columns of a weight, both give the same function. Otherwise `zero` gives constant tokens, because layers have
biases. The docstring of each kind says which of the two it is.
"""

from __future__ import annotations

import hashlib
import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import ConnectorSettings

Levels = Mapping[str, Sequence[int]]  # encoder -> channels of each of its levels, in pool order


class Connector(nn.Module, ABC):
    """Projector inputs (B, G, G, D_e) of every encoder -> visual tokens (B, T, H).

    Attributes:
        encoders: the encoders, in pool order. A kind whose tokens or sums have an order sorts the encoders by
            name, so that the pool's order changes no output.
        tokens: T, the visual tokens of a picture if no encoder is dropped.
    """

    tokens: int

    def __init__(self, levels: Levels, settings: ConnectorSettings, hidden: int) -> None:
        """As `connectors.factory.build_connector`."""
        super().__init__()
        self.encoders = tuple(levels)
        self.settings, self.hidden = settings, hidden

    def forward(self, inputs: Mapping[str, Tensor], pictures: int | None = None) -> Tensor:
        """Projector inputs -> visual tokens (B, T, H).

        Args:
            inputs: see `projector_inputs`; an encoder that is not among them is dropped.
            pictures: B, needed if all encoders are dropped.

        Raises:
            StudyError: an encoder of the inputs is not one of the connector's.
        """
        if unknown := [encoder for encoder in inputs if encoder not in self.encoders]:
            raise StudyError(f"connector: inputs of {unknown}, but it reads {list(self.encoders)}")
        if not inputs and pictures is None:
            raise StudyError("connector: every encoder is dropped; the number of pictures must be given")
        batch = len(next(iter(inputs.values()))) if inputs else int(pictures or 0)
        return self.project(inputs, batch)

    @abstractmethod
    def project(self, inputs: Mapping[str, Tensor], batch: int) -> Tensor:
        """`forward`, after the inputs were checked."""

    def present(self, inputs: Mapping[str, Tensor]) -> list[str]:
        """The encoders that are not dropped, sorted by name."""
        return sorted(inputs)


def projector_inputs(features: Mapping[str, Tensor], levels: Levels | None = None) -> dict[str, Tensor]:
    """Each encoder's features (B, G, G, D), normalised: the projector inputs, on which masks act.

    A LayerNorm without parameters normalises every token over its channels; if an encoder has several
    `levels`, it normalises each level by itself.
    """
    return {
        encoder: normalise_levels(block, [block.shape[-1]] if levels is None else levels[encoder])
        for encoder, block in features.items()
    }


def normalise_levels(block: Tensor, widths: Sequence[int]) -> Tensor:
    """Features (..., D) of one encoder -> its projector input: each level of these widths by itself."""
    parts = [F.layer_norm(part, part.shape[-1:]) for part in block.split(list(widths), dim=-1)]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


class LevelNorm(nn.Module):
    """`normalise_levels` of one encoder as a module without parameters: a hook on it acts where masks act."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = tuple(widths)

    def forward(self, block: Tensor) -> Tensor:
        """Features (B, G, G, D) -> projector input (B, G, G, D)."""
        return normalise_levels(block, self.widths)


def projector(inputs: int, hidden: int, layers: int) -> nn.Sequential:
    """`layers` linear layers of width `hidden` with GELU between them, not initialised."""
    sizes = [inputs, *[hidden] * layers]
    parts: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        parts += [nn.GELU()] if parts else []
        parts.append(nn.Linear(before, after))
    return nn.Sequential(*parts)


def initialise(layer: nn.Linear, generator: torch.Generator) -> None:
    """Draw a linear layer's weights from torch's default, U(-1/sqrt(n), 1/sqrt(n)), with this generator."""
    bound = layer.in_features**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        if layer.bias is not None:
            layer.bias.uniform_(-bound, bound, generator=generator)


def initialise_by_name(module: nn.Module, seed: int) -> None:
    """Draw initial weights that depend only on the seed and on each weight's name and shape.

    So an encoder's weights depend neither on its place in the pool nor on the other encoders. Linear layers
    are drawn by `initialise`, norms stay as torch creates them, queries and positions are N(0, 0.02).
    """
    linear = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    for name, layer in linear.items():
        initialise(layer, _generator(seed, name))
    owned = {
        id(weight)
        for part in module.modules()
        if isinstance(part, nn.Linear | nn.LayerNorm)
        for weight in part.parameters(recurse=False)
    }
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if id(weight) not in owned:
                weight.normal_(0, 0.02, generator=_generator(seed, name))


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
