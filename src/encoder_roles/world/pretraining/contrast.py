"""The softmax contrast of pictures and captions, which clip and convnext share."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from encoder_roles.world.pretraining.captions import Phrase, same_caption

LARGEST_SCALE = math.log(100)  # CLIP's bound on the learnt scale


def softmax_contrast(
    pictures: Tensor, texts: Tensor, log_scale: Tensor, captions: list[list[Phrase]]
) -> Tensor:
    """CLIP's symmetric cross-entropy (Radford et al. 2021) of (b, width) embeddings of pictures and captions.

    An equal caption of another picture is not a negative: in a small world captions repeat within a batch.
    """
    scale = log_scale.clamp(max=LARGEST_SCALE).exp()
    logits = scale * normalize(pictures, dim=-1) @ normalize(texts, dim=-1).T
    logits = logits.masked_fill(same_caption(captions).fill_diagonal_(False), -math.inf)
    target = torch.arange(len(captions))
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
