"""A small vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929) over the grid."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from encoder_roles.models.connector import Connector, Levels, initialise_by_name, projector
from encoder_roles.models.connectors.blocks import BlockLinear, SelfAttention, feed_forward, inner_width
from encoder_roles.study.sections import ConnectorSettings


class SmallViT(Connector):
    """The channels of all encoders at a place form its patch; `depth` transformer blocks, then the projector.

        inputs      N x (B, G, G, D_e)
        embedding   (B, G*G, C)            linear, of the concatenated blocks, plus a position for each place
        blocks      (B, G*G, C)            residual, a LayerNorm before attention and perceptron
        tokens      (B, G*G, H)            LayerNorm, then `layers` linear layers

    Removed: zero = drop. An encoder enters only through columns of the embedding's weight, before any
    LayerNorm, so zeroing its block is the same as deleting these columns.
    """

    def __init__(self, levels: Levels, settings: ConnectorSettings, hidden: int, seed: int) -> None:
        super().__init__(levels, settings, hidden)
        width, heads = inner_width(settings, hidden), int(settings.heads or 1)
        self.tokens = settings.visual_tokens(len(levels))
        self.embedding = BlockLinear({e: sum(widths) for e, widths in levels.items()}, width)
        self.places = nn.Parameter(torch.empty(self.tokens, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(int(settings.depth or 1)))
        self.norm = nn.LayerNorm(width)
        self.layers = projector(width, hidden, settings.layers)
        initialise_by_name(self, seed)

    def project(self, inputs: Mapping[str, Tensor], batch: int) -> Tensor:
        """See `Connector.forward`."""
        grid = self.settings.grid
        states = self.embedding(inputs, (batch, grid, grid)).flatten(1, 2) + self.places
        for block in self.blocks:
            states = block(states)
        tokens: Tensor = self.layers(self.norm(states))
        return tokens


class Block(nn.Module):
    """x (B, T, C) -> (B, T, C)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.own = SelfAttention(width, heads)
        self.feed = feed_forward(width)

    def forward(self, states: Tensor) -> Tensor:
        before_own, before_feed = self.norms
        states = states + self.own(before_own(states))
        result: Tensor = states + self.feed(before_feed(states))
        return result
