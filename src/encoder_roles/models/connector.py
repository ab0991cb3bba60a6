"""The connector: from the features of all encoders to visual tokens the language model reads.

Channel concatenation, as in Eagle (Shi et al. 2024) and Prismatic (Karamcheti et al. 2024): each encoder's
block is normalised without parameters, so that no encoder is louder than another, the blocks stand side by
side, and a linear layer or an MLP maps each grid place to the language model's width. The output depends on
each block through the columns of the first linear layer alone, which is what makes zero-masking a block the
same as deleting its columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder_roles.study import ConnectorSettings


class Connector(nn.Module):
    """Normalised blocks (B, G, G, D_e) of every encoder -> visual tokens (B, G*G, H).

    Args:
        widths: encoder -> D_e, in pool order: the order of the blocks.
        settings: kind (linear, or mlp with GELU between its layers), number of layers, grid.
        hidden: width H of the language model.
        seed: the initial weights depend on it, and on the shapes, alone.
    """

    def __init__(
        self, widths: Mapping[str, int], settings: ConnectorSettings, hidden: int, seed: int
    ) -> None:
        super().__init__()
        self.encoders = tuple(widths)
        count = 1 if settings.kind == "linear" else settings.layers
        sizes = [sum(widths.values()), *[hidden] * count]
        parts: list[nn.Module] = []
        generator = torch.Generator().manual_seed(seed)
        for inputs, outputs in itertools.pairwise(sizes):
            parts += [nn.GELU()] if parts else []
            parts.append(_initialise(nn.Linear(inputs, outputs), generator))
        self.layers = nn.Sequential(*parts)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Projector inputs (see `projector_inputs`) -> visual tokens (B, G*G, H), row by row of the grid."""
        tokens: Tensor = self.layers(torch.cat([inputs[encoder] for encoder in self.encoders], dim=-1))
        return tokens.flatten(1, 2)


def projector_inputs(features: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each encoder's features (B, G, G, D), every token normalised over its channels by a LayerNorm without
    parameters.

    This is the projector's input and the place of every mask.
    """
    return {encoder: F.layer_norm(block, block.shape[-1:]) for encoder, block in features.items()}


def _initialise(layer: nn.Linear, generator: torch.Generator) -> nn.Linear:
    """torch's own distribution of a new linear layer, U(-1/sqrt(n), 1/sqrt(n)), drawn from our generator."""
    bound = layer.in_features**-0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return layer
