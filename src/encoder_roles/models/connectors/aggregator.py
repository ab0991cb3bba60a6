"""The Spatial Vision Aggregator of Cambrian-1 (Tong et al. 2024, arXiv 2406.16860, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from encoder_roles.models.connector import Connector, Levels, initialise_by_name, projector
from encoder_roles.models.connectors.blocks import CrossAttention, feed_forward, inner_width
from encoder_roles.study import ConnectorSettings


class SpatialVisionAggregator(Connector):
    """L*L learned queries, each of which reads its own window of every encoder's grid, `depth` times.

        inputs      N x (B, G, G, D_e)
        windows     N x (B, L*L, m*m, D_e)    m = G / L: the part of the grid behind the query at (i, j)
        queries     g x (B, L*L, 1, C)        learned, in g groups; each group has blocks of its own
        attention   one softmax over the N*m*m tokens of the windows; keys and values by encoder
        tokens      (B, L*L, H)               the groups side by side, then `layers` linear layers

    q(i, j) <- q(i, j) + W softmax(W_Q q(i, j) [W_K,e F_e(i, j) + P_e]^T / sqrt(d)) [W_V,e F_e(i, j)], all
    encoders e in one row; P_e is the position in the window, where it has more than one. Then a perceptron;
    a LayerNorm before both.

    Two things of Cambrian-1's code are left out because they would make encoders special or go beyond the
    connector: the global context, which it takes from its first encoder alone, and further aggregation
    between layers of the language model. Its encoders have grids of their own, here all have the study's.

    Removed: `drop` takes the encoder's windows out of the softmax; `zero` leaves tokens whose keys and
    values are biases, which still draw attention.
    """

    def __init__(self, levels: Levels, settings: ConnectorSettings, hidden: int, seed: int) -> None:
        super().__init__(levels, settings, hidden)
        width, heads = inner_width(settings, hidden), int(settings.heads or 1)
        widths = {encoder: sum(found) for encoder, found in levels.items()}
        self.side, groups = int(settings.query_grid or 1), int(settings.groups or 1)
        self.window = settings.grid // self.side
        self.tokens = self.side**2
        self.queries = nn.Parameter(torch.empty(groups, self.tokens, width))
        self.groups = nn.ModuleList(
            nn.ModuleList(
                WindowBlock(width, heads, widths, self.window**2) for _ in range(int(settings.depth or 1))
            )
            for _ in range(groups)
        )
        self.layers = projector(groups * width, hidden, settings.layers)
        initialise_by_name(self, seed)

    def windows(self, block: Tensor) -> Tensor:
        """An encoder's projector input (B, G, G, D) -> its windows (B, L*L, m*m, D), row by row."""
        cut = block.unflatten(2, (self.side, self.window)).unflatten(1, (self.side, self.window))
        windows: Tensor = cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return windows

    def project(self, inputs: Mapping[str, Tensor], batch: int) -> Tensor:
        """See `Connector.forward`."""
        windows = {encoder: self.windows(block) for encoder, block in inputs.items()}
        found = []
        groups: Any = self.groups
        for queries, blocks in zip(self.queries, groups, strict=True):
            states = queries[:, None].expand(batch, -1, -1, -1)
            for block in blocks:
                states = block(states, windows)
            found.append(states.squeeze(2))
        tokens: Tensor = self.layers(torch.cat(found, dim=-1))
        return tokens


class WindowBlock(nn.Module):
    """Queries (B, L*L, 1, C) and windows (B, L*L, m*m, D_e) -> queries (B, L*L, 1, C)."""

    def __init__(self, width: int, heads: int, widths: Mapping[str, int], places: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.read = CrossAttention(width, heads, widths)
        several = {e: torch.empty(places, width) for e in widths} if places > 1 else {}
        self.places = nn.ParameterDict(several)
        self.feed = feed_forward(width)

    def forward(self, states: Tensor, windows: Mapping[str, Tensor]) -> Tensor:
        before_read, before_feed = self.norms
        places = {e: self.places[e] for e in windows} if len(self.places) else None
        states = states + self.read(before_read(states), windows, places)
        result: Tensor = states + self.feed(before_feed(states))
        return result
