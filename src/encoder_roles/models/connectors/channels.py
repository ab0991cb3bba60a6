"""Channel concatenation with a linear layer or an MLP, as in Eagle (Shi et al. 2024, arXiv 2408.15998) and
Prismatic (Karamcheti et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from encoder_roles.models.connector import Connector, Levels, initialise, projector
from encoder_roles.study.sections import ConnectorSettings


class ChannelConcat(Connector):
    """The channels of all encoders concatenated, then a linear layer or an MLP at every place.

        inputs     N x (B, G, G, D_e)
        side by side   (B, G, G, sum D_e)     in pool order
        projector      (B, G, G, H)           `layers` linear layers, GELU between them; one for `linear`
        tokens         (B, G*G, H)            row by row of the grid

    Removed: zero = drop. A block enters only through its columns of the first weight, so zeroing it is the
    same as deleting these columns.

    The initial weights are drawn from one stream in pool order: they depend on the seed and the shapes.
    """

    def __init__(self, levels: Levels, settings: ConnectorSettings, hidden: int, seed: int) -> None:
        super().__init__(levels, settings, hidden)
        self.widths = {encoder: sum(widths) for encoder, widths in levels.items()}
        count = 1 if settings.kind == "linear" else settings.layers
        self.layers = projector(sum(self.widths.values()), hidden, count)
        self.tokens = settings.visual_tokens(len(levels))
        generator = torch.Generator().manual_seed(seed)
        for part in self.layers:
            if isinstance(part, nn.Linear):
                initialise(part, generator)

    def project(self, inputs: Mapping[str, Tensor], batch: int) -> Tensor:
        """See `Connector.forward`."""
        tokens: Tensor = self.layers(
            side_by_side(inputs, self.widths, self.settings.grid, batch, self.layers)
        )
        return tokens.flatten(1, 2)


def side_by_side(
    inputs: Mapping[str, Tensor], widths: Mapping[str, int], grid: int, batch: int, reader: nn.Module
) -> Tensor:
    """All blocks concatenated (B, G, G, sum D_e) in the order of `widths`, dropped ones as zeros.

    `reader` is the module that reads them; zeros have its type and device.
    """
    like = next(reader.parameters())
    blocks = [
        inputs[encoder] if encoder in inputs else like.new_zeros(batch, grid, grid, width)
        for encoder, width in widths.items()
    ]
    return torch.cat(blocks, dim=-1)
