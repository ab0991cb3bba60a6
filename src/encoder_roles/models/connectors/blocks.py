"""Layers that several connectors use: a linear layer with a weight per encoder, attention, perceptrons."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import ConnectorSettings


def inner_width(settings: ConnectorSettings, hidden: int) -> int:
    """The inner width C. Raises StudyError if the attention heads do not divide it."""
    width = settings.width or hidden
    if settings.heads is not None and width % settings.heads:
        raise StudyError(
            f"connector.heads: {settings.heads} do not divide the width of {width}; change one of them"
        )
    return width


class BlockLinear(nn.Module):
    """A linear layer on concatenated blocks, with its weight stored block by block.

        blocks  N x (..., D_e)  ->  (..., O) = bias + sum of W_e x_e

    It is the same function as one weight (O, sum D_e) on the concatenated blocks. A missing block deletes its
    columns, which is the same as zeroing the block.
    """

    def __init__(self, widths: Mapping[str, int], outputs: int) -> None:
        super().__init__()
        self.weights = nn.ModuleDict(
            {e: nn.Linear(width, outputs, bias=False) for e, width in widths.items()}
        )
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, blocks: Mapping[str, Tensor], shape: tuple[int, ...]) -> Tensor:
        """The bias plus the sum over the given blocks, sorted by name; `shape` is the output's without O."""
        total = self.bias.expand(*shape, -1)
        for encoder in sorted(blocks):
            total = total + self.weights[encoder](blocks[encoder])
        return total


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Multi-head attention of queries (..., T, C) on keys and values (..., S, C) -> (..., T, C)."""
    q, k, v = (states.unflatten(-1, (heads, -1)).transpose(-3, -2) for states in (query, key, value))
    read: Tensor = F.scaled_dot_product_attention(q, k, v).transpose(-3, -2).flatten(-2)
    return read


class SelfAttention(nn.Module):
    """x (B, T, C) -> (B, T, C): every token attends to all tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, states: Tensor) -> Tensor:
        query, key, value = self.inputs(states).chunk(3, dim=-1)
        mixed: Tensor = self.output(attend(query, key, value, self.heads))
        return mixed


class CrossAttention(nn.Module):
    """Queries (..., T, C) on the tokens N x (..., S_e, D_e) of all encoders at once -> (..., T, C).

    One softmax over the tokens of all encoders, each with its own key and value weights. A missing encoder
    has no keys; if all are missing, the result is zero.
    """

    def __init__(self, width: int, heads: int, widths: Mapping[str, int]) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.ModuleDict({e: nn.Linear(inputs, width) for e, inputs in widths.items()})
        self.value = nn.ModuleDict({e: nn.Linear(inputs, width) for e, inputs in widths.items()})
        self.output = nn.Linear(width, width, bias=False)

    def forward(
        self, states: Tensor, tokens: Mapping[str, Tensor], places: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """`places` (S_e, C), if given, are added to each encoder's keys."""
        if not tokens:
            return torch.zeros_like(states)
        names = sorted(tokens)
        keys = [self.key[e](tokens[e]) + (places[e] if places else 0) for e in names]
        values = [self.value[e](tokens[e]) for e in names]
        read = attend(self.query(states), torch.cat(keys, dim=-2), torch.cat(values, dim=-2), self.heads)
        found: Tensor = self.output(read)
        return found


def feed_forward(width: int) -> nn.Sequential:
    """The two-layer perceptron of a transformer block, with four times the width inside."""
    return nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
