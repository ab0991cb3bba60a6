"""Attention over a packed batch, as an attention implementation that any model of transformers can use.

By samples (`trees`) it takes few calls under an explicit mask, on every device. By `blocks` it multiplies
nothing that a mask throws away. By `flash` it does so too; the mask is "causal, aligned at the last key",
which CUDA's flash kernel applies without a mask in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from encoder_roles.data.packing import Blocks, PackedBatch, Trees

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Way = Literal["trees", "blocks", "flash"]
NAMES: dict[Way, str] = {
    "trees": "encoder_roles_trees",
    "blocks": "encoder_roles_blocks",
    "flash": "encoder_roles_unmasked",  # transformers takes "flash" in a name for one of its libraries
}
FLASH_ROUNDING = 4  # of question lengths: more padding, but fewer calls of the kernel


def use_packed_attention(language_model: PreTrainedModel, way: Way = "trees") -> None:
    """Make the model attend within samples; its forward pass then needs `attention_inputs`."""
    from transformers import AttentionInterface

    implementation = tree_attention if way == "trees" else partial(block_attention, flash=way == "flash")
    AttentionInterface.register(NAMES[way], implementation)
    language_model.set_attn_implementation(NAMES[way])


def attention_inputs(language_model: PreTrainedModel, batch: PackedBatch) -> dict[str, Any]:
    """What the attention of the model reads of a batch; it is computed once for all layers."""
    if language_model.config._attn_implementation == NAMES["trees"]:
        return {"trees": batch.trees, "masks": batch.trees.masks()}
    return {"blocks": batch.blocks}


@lru_cache(maxsize=256)
def _mask(length: int, before: int) -> Tensor:
    """(length, before + length) fp32: a token sees the prefix, itself and the tokens between them."""
    seen = torch.ones(length, before + length, dtype=torch.bool).tril(before)
    return torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)


def tree_attention(
    _module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _attention_mask: Tensor | None,
    *,
    trees: Trees,
    masks: Sequence[Tensor],
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of queries (1, heads, N, size) to the keys of their prefix and question, sample by sample.

    Returns (1, N, heads, size).
    """
    arrays = [trees.gather(states.squeeze(0).transpose(0, 1)) for states in (query, key, value)]
    outputs = []
    for q, k, v, mask in zip(*arrays, masks, strict=True):  # (samples, length, heads, size)
        attended = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask.to(query.dtype),
            dropout_p=dropout,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        outputs.append(attended.transpose(1, 2))
    return trees.scatter(outputs)[None], None


def block_attention(
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
