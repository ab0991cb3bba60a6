"""Attention over a packed batch, as an attention implementation that any model of transformers can use.

`sdpa` gives every block an explicit mask and runs on every device. `flash` expresses the same mask as
"causal, aligned at the last key", which CUDA's flash kernel applies without a mask in memory.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from encoder_roles.data.packing import Blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "encoder_roles_packed"
UNMASKED = "encoder_roles_unmasked"  # transformers takes a name with "flash" in it for one of its libraries


def use_packed_attention(language_model: PreTrainedModel, flash: bool = False) -> None:
    """Make the model attend block by block; its forward pass then needs the argument ``blocks``."""
    from transformers import AttentionInterface

    name = UNMASKED if flash else NAME
    AttentionInterface.register(name, partial(packed_attention, flash=flash))
    language_model.set_attn_implementation(name)


@lru_cache(maxsize=256)
def _mask(length: int, before: int) -> Tensor:
    """(length, before + length) fp32: a token sees the prefix, itself and the tokens between them."""
    seen = torch.ones(length, before + length, dtype=torch.bool).tril(before)
    return torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)


def packed_attention(
    _module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _attention_mask: Tensor | None,
    *,
    blocks: Blocks,
    scaling: float | None = None,
    dropout: float = 0.0,
    flash: bool = False,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of each block's queries (1, heads, N, size) to the keys of its prefix and of itself.

    Returns (1, N, heads, size). Tokens are split and gathered once for all blocks, because the gradient of a
    slice is as large as the tensor it was cut from.
    """

    def mask(length: int, before: int) -> Tensor:
        if flash:
            return causal_lower_right(length, before + length)
        return _mask(length, before).to(query)

    queries, keys, values = (states.squeeze(0).transpose(0, 1) for states in (query, key, value))
    within = zip(*(blocks.split(states) for states in (queries, keys, values)), strict=True)
    before = zip(*(blocks.split_prefixes(states) for states in (keys, values)), strict=True)
    outputs = []
    for (q, k, v), (k_before, v_before) in zip(within, before, strict=True):  # (rows, tokens, heads, size)
        attended = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            torch.cat([k_before, k], dim=1).transpose(1, 2),
            torch.cat([v_before, v], dim=1).transpose(1, 2),
            attn_mask=mask(q.shape[1], k_before.shape[1]),
            dropout_p=dropout,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        outputs.append(attended.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[None], None
