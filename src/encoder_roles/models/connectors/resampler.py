"""Learned queries that read the tokens of all encoders.

BLIP-2's Q-Former (Li et al. 2023, arXiv 2301.12597) reads those of one encoder in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from encoder_roles.models.connector import Connector, Levels, initialise_by_name, projector
from encoder_roles.models.connectors.blocks import CrossAttention, SelfAttention, feed_forward, inner_width
from encoder_roles.study.sections import ConnectorSettings


class Resampler(Connector):
    """Q queries; `depth` blocks of self-attention, cross-attention to all encoders' tokens, perceptron.

        inputs      N x (B, G, G, D_e)
        keys        N x (B, G*G, C)        by each encoder's own weights, plus a position for each place
        queries     (B, Q, C)              learned; residual, a LayerNorm before each part
        tokens      (B, Q, H)              LayerNorm, then `layers` linear layers

    One softmax is over the tokens of all encoders, so nothing depends on their order.

    Removed: `drop` takes the encoder's tokens out of the keys; `zero` leaves G*G tokens whose keys are a
    bias and a position and whose values are a bias, which still draw attention.
    """

    def __init__(self, levels: Levels, settings: ConnectorSettings, hidden: int, seed: int) -> None:
        super().__init__(levels, settings, hidden)
        width, heads = inner_width(settings, hidden), int(settings.heads or 1)
        widths = {encoder: sum(channels) for encoder, channels in levels.items()}
        self.tokens = settings.visual_tokens(len(levels))
        self.queries = nn.Parameter(torch.empty(self.tokens, width))
        self.places = nn.Parameter(torch.empty(settings.grid**2, width))
        self.blocks = nn.ModuleList(QueryBlock(width, heads, widths) for _ in range(int(settings.depth or 1)))
        self.norm = nn.LayerNorm(width)
        self.layers = projector(width, hidden, settings.layers)
        initialise_by_name(self, seed)

    def project(self, inputs: Mapping[str, Tensor], batch: int) -> Tensor:
        """See `Connector.forward`."""
        tokens = {encoder: block.flatten(1, 2) for encoder, block in inputs.items()}
        states = self.queries.expand(batch, -1, -1)
        for block in self.blocks:
            states = block(states, tokens, self.places)
        visual: Tensor = self.layers(self.norm(states))
        return visual


class QueryBlock(nn.Module):
    """Queries (B, Q, C) -> (B, Q, C)."""

    def __init__(self, width: int, heads: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.own = SelfAttention(width, heads)
        self.read = CrossAttention(width, heads, widths)
        self.feed = feed_forward(width)

    def forward(self, states: Tensor, tokens: Mapping[str, Tensor], places: Tensor) -> Tensor:
        before_own, before_read, before_feed = self.norms
        states = states + self.own(before_own(states))
        states = states + self.read(before_read(states), tokens, dict.fromkeys(tokens, places))
        result: Tensor = states + self.feed(before_feed(states))
        return result
