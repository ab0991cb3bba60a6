"""Separate tokens for each encoder, one encoder after another or interleaved.

Interleaved tokens are I-MoF of MMVP (Tong et al. 2024, arXiv 2401.06209).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from encoder_roles.models.connector import Connector, Levels, initialise_by_name, projector
from encoder_roles.study.sections import ConnectorSettings


class TokenConcat(Connector):
    """A projector for every encoder; the tokens of one encoder follow those of another.

        inputs      N x (B, G, G, D_e)
        projectors  N x (B, G*G, H)       `layers` linear layers each, GELU between them
        tokens      (B, N*G*G, H)         encoders sorted by name

    Removed: `drop` deletes the encoder's tokens, so that (N - 1)*G*G are left. `zero` leaves tokens that are
    the projector's constant output for zeros.
    """

    def __init__(self, levels: Levels, settings: ConnectorSettings, hidden: int, seed: int) -> None:
        super().__init__(levels, settings, hidden)
        self.projectors = nn.ModuleDict(
            {e: projector(sum(widths), hidden, settings.layers) for e, widths in levels.items()}
        )
        self.tokens = settings.visual_tokens(len(levels))
        initialise_by_name(self, seed)

    def project(self, inputs: Mapping[str, Tensor], batch: int) -> Tensor:
        """See `Connector.forward`."""
        tokens = [self.projectors[encoder](inputs[encoder].flatten(1, 2)) for encoder in self.present(inputs)]
        if not tokens:
            return next(self.parameters()).new_zeros(batch, 0, self.hidden)
        return self.arrange(tokens)

    def arrange(self, tokens: list[Tensor]) -> Tensor:
        """Tokens (B, G*G, H) of every encoder -> the visual tokens."""
        return torch.cat(tokens, dim=1)


class TokenInterleave(TokenConcat):
    """As `TokenConcat`, but place by place: one token of every encoder, sorted by name, at each place.

    tokens      (B, G*G*N, H)         place 1 of all encoders, place 2 of all encoders, ...
    """

    def arrange(self, tokens: list[Tensor]) -> Tensor:
        """Tokens (B, G*G, H) of every encoder -> the visual tokens."""
        return torch.stack(tokens, dim=2).flatten(1, 2)
