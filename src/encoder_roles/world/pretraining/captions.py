"""Captions as sets of phrases, their vocabulary, and the text tower that reads them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from encoder_roles.world.scenes import BAR_HEIGHTS, COLOURS, DIGITS, KINDS, SHAPES, TEXTURES, WORDS

Phrase = tuple[str, ...]
VOCABULARY = (
    "",  # padding
    *COLOURS,
    *SHAPES,
    *TEXTURES,
    *KINDS,
    *WORDS,
    *(str(number) for number in sorted({*DIGITS, *BAR_HEIGHTS})),
)
INDEX = {word: index for index, word in enumerate(VOCABULARY)}
PHRASE_WORDS = 3  # the longest phrase


def encode_phrases(captions: list[list[Phrase]]) -> Tensor:
    """Token ids (captions, phrases, PHRASE_WORDS), padded with 0."""
    longest = max(len(caption) for caption in captions)
    tokens = torch.zeros(len(captions), longest, PHRASE_WORDS, dtype=torch.long)
    for row, caption in enumerate(captions):
        for place, phrase in enumerate(caption):
            tokens[row, place, : len(phrase)] = torch.tensor([INDEX[word] for word in phrase])
    return tokens


def same_caption(captions: list[list[Phrase]]) -> Tensor:
    """Bool (captions, captions): whether two captions have the same phrases, in any order."""
    keys = [tuple(sorted(caption)) for caption in captions]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    ids = torch.tensor([numbers[key] for key in keys])
    return ids[:, None] == ids[None, :]


class TextTower(nn.Module):
    """A caption's embedding: words summed to phrases, phrases to a caption, an MLP after each sum.

    The order of phrases does not matter. The grouping of words into phrases does, because it binds a colour
    to its shape.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(len(VOCABULARY), width, padding_idx=0)
        self.phrase = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Linear(2 * width, width),
            nn.GELU(),
            nn.Linear(width, width),
        )
        self.caption = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def phrases(self, tokens: Tensor) -> Tensor:
        """(b, phrases, words) -> (b, phrases, width), zero for padding."""
        embedded: Tensor = self.phrase(self.words(tokens).sum(2))
        return embedded * (tokens[..., :1] != 0)

    def forward(self, tokens: Tensor) -> Tensor:
        """Token ids (b, phrases, words) -> (b, width)."""
        embedded: Tensor = self.caption(self.phrases(tokens).sum(1))
        return embedded
