"""What the objectives with captions share: the softmax contrast and a decoder of captions in parallel."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from encoder_roles.world.pretraining.captions import Phrase, same_caption

LARGEST_SCALE = math.log(100)  # CLIP's bound on the learnt scale


def softmax_contrast(
    pictures: Tensor, texts: Tensor, log_scale: Tensor, captions: list[list[Phrase]]
) -> Tensor:
    """CLIP's symmetric cross-entropy (Radford et al. 2021) of (b, width) embeddings of pictures and captions.

    Another picture's equal caption is no negative: in a small world captions repeat within a batch.
    """
    scale = log_scale.clamp(max=LARGEST_SCALE).exp()
    logits = scale * normalize(pictures, dim=-1) @ normalize(texts, dim=-1).T
    logits = logits.masked_fill(same_caption(captions).fill_diagonal_(False), -math.inf)
    target = torch.arange(len(captions))
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


class ParallelDecoder(nn.Module):
    """Says all parts of a caption at once: a learnt query per part looks at the picture's tokens
    (the parallel prediction of CapPa, Tschannen et al. 2023)."""

    def __init__(self, parts: int, classes: int, width: int) -> None:
        super().__init__()
        self.parts = nn.Parameter(torch.randn(parts, width))
        self.look = nn.MultiheadAttention(width, 4, batch_first=True)
        self.say = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, classes)
        )

    def loss(self, tokens: Tensor, said: Tensor) -> Tensor:
        """Mean cross-entropy of `said` (b, parts), class numbers, given tokens (b, n, width)."""
        queries = self.parts.expand(len(tokens), -1, -1)
        seen, _ = self.look(queries, tokens, tokens, need_weights=False)
        return cross_entropy(self.say(seen + queries).flatten(0, 1), said.flatten())
