"""The Spatial Vision Aggregator of Cambrian-1 (Tong et al. 2024, arXiv 2406.16860, section 4).

It follows Cambrian-1's code: github.com/cambrian-mllm/cambrian, cambrian/model/vision_sampler.py and
cambrian_arch.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from encoder_roles.models.connector import Connector, Levels, initialise_by_name, projector
from encoder_roles.models.connectors.blocks import attend, inner_width
from encoder_roles.study.sections import ConnectorSettings


class SpatialVisionAggregator(Connector):
    """L*L queries; each reads its own window of every encoder's grid, `depth` times.

        inputs      N x (B, G, G, D_e)
        aligned     N x (B, G, G, C)          LayerNorm(two linear layers, GELU between them), by encoder
        windows     N x (B, L*L, m*m, C)      m = G / L: the part of the grid for the query at (i, j)
        context     (B, 1, 1, C)              the mean of the aligned tokens
        queries     g x (B, L*L, 1, C)        one learned vector per group, the same at every (i, j)
        tokens      (B, L*L, H)               the groups side by side, then `layers` linear layers

    Each group has its own blocks (`WindowBlock`). The softmax of a block is over the N*m*m tokens of the
    windows.

    Three things differ from Cambrian-1's code. Its context is the mean of its first encoder's tokens; here it
    is the mean over all encoders, because none is special. Its encoders have different grids; here all have
    the study's. It masks the padding of pictures that are not square; here padding is read. This is
    Cambrian-1's SVA before the language model (`connector_only`); docs/models.md says why it is not within.

    Removed: `drop` takes the encoder's windows out of the softmax and its tokens out of the context. `zero`
    leaves tokens, the alignment of zeros, that still draw attention.
    """

    def __init__(self, levels: Levels, settings: ConnectorSettings, hidden: int, seed: int) -> None:
        super().__init__(levels, settings, hidden)
        width, heads = inner_width(settings, hidden), int(settings.heads or 1)
        self.side, groups = int(settings.query_grid or 1), int(settings.groups or 1)
        self.window = settings.grid // self.side
        self.tokens = settings.visual_tokens(len(levels))
        self.aligned = nn.ModuleDict(
            {
                e: nn.Sequential(*projector(sum(widths), width, 2), nn.LayerNorm(width))
                for e, widths in levels.items()
            }
        )
        self.queries = nn.Parameter(torch.empty(groups, width))
        self.groups = nn.ModuleList(
            nn.ModuleList(
                WindowBlock(width, heads, levels, self.window**2) for _ in range(int(settings.depth or 1))
            )
            for _ in range(groups)
        )
        self.layers = projector(groups * width, hidden, settings.layers)
        initialise_by_name(self, seed)

    def windows(self, block: Tensor) -> Tensor:
        """An encoder's aligned tokens (B, G, G, C) -> its windows (B, L*L, m*m, C), row by row."""
        cut = block.unflatten(2, (self.side, self.window)).unflatten(1, (self.side, self.window))
        windows: Tensor = cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return windows

    def project(self, inputs: Mapping[str, Tensor], batch: int) -> Tensor:
        """See `Connector.forward`."""
        windows = {e: self.windows(self.aligned[e](inputs[e])) for e in self.present(inputs)}
        context = self.queries.new_zeros(batch, 1, 1, self.queries.shape[1])
        if windows:  # encoders have equally many tokens: the mean over all is the mean of their means
            means = [block.mean((1, 2), keepdim=True) for block in windows.values()]
            context = torch.stack(means).mean(0)
        outputs = []
        groups: Any = self.groups
        for query, blocks in zip(self.queries, groups, strict=True):
            states = query.expand(batch, self.tokens, 1, -1)
            for block in blocks:
                states = block(states, context, windows)
            outputs.append(states.squeeze(2))
        tokens: Tensor = self.layers(torch.cat(outputs, dim=-1))
        return tokens


class WindowBlock(nn.Module):
    """One block: queries (B, L*L, 1, C), context (B, 1, 1, C), windows (B, L*L, m*m, C) -> queries.

        u  = W_in [q, W_c context]
        k_e = W_K,e LN(F_e + P_e),  v_e = W_V,e LN(F_e + P_e)    P_e the place in a window of several
        a  = W_O softmax(W_Q LN(u) [k_1 ... k_N]^T / sqrt(d)) [v_1 ... v_N]
        q <- q + W_2 GELU(W_1 LN(u + a))

    No linear layer has a bias. Each encoder has one LayerNorm before W_K,e and another before W_V,e.
    """

    def __init__(self, width: int, heads: int, encoders: Mapping[str, Any], places: int) -> None:
        super().__init__()
        self.heads = heads
        self.context = nn.Linear(width, width, bias=False)
        self.enter = nn.Linear(2 * width, width, bias=False)
        self.query = _normed(width)
        self.key = nn.ModuleDict({e: _normed(width) for e in encoders})
        self.value = nn.ModuleDict({e: _normed(width) for e in encoders})
        self.output = nn.Linear(width, width, bias=False)
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Sequential(
            nn.Linear(width, width, bias=False), nn.GELU(), nn.Linear(width, width, bias=False)
        )
        several = {e: torch.empty(places, width) for e in encoders} if places > 1 else {}
        self.places = nn.ParameterDict(several)

    def forward(self, states: Tensor, context: Tensor, windows: Mapping[str, Tensor]) -> Tensor:
        expanded = self.context(context).expand_as(states)
        inner = self.enter(torch.cat([states, expanded], dim=-1))
        if windows:
            inner = inner + self._read(inner, windows)
        result: Tensor = states + self.leave(self.norm(inner))
        return result

    def _read(self, inner: Tensor, windows: Mapping[str, Tensor]) -> Tensor:
        placed = {e: block + self.places[e] if len(self.places) else block for e, block in windows.items()}
        keys = torch.cat([self.key[e](block) for e, block in placed.items()], dim=-2)
        values = torch.cat([self.value[e](block) for e, block in placed.items()], dim=-2)
        attended: Tensor = self.output(attend(self.query(inner), keys, values, self.heads))
        return attended


def _normed(width: int) -> nn.Sequential:
    """A LayerNorm, then a linear layer without a bias."""
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width, bias=False))
