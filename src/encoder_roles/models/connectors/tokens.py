"""Each encoder's own tokens: one after another, or interleaved as in MMVP's I-MoF (Tong et al. 2024, arXiv
2401.06209)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from encoder_roles.models.connector import Connector, Levels, initialise_by_name, projector
from encoder_roles.study.sections import ConnectorSettings


class TokenConcat(Connector):
    """A projector for every encoder; its tokens follow those of the encoder before it.

        inputs      N x (B, G, G, D_e)
        projectors  N x (B, G*G, H)       `layers` linear layers each, GELU between them
        tokens      (B, N*G*G, H)         encoders in the order of their names

    Removed: `drop` deletes the encoder's tokens, (N - 1)*G*G are left; `zero` leaves them, each the constant
    that the projector makes of zeros.
    """

    def __init__(self, levels: Levels, settings: ConnectorSettings, hidden: int, seed: int) -> None:
        super().__init__(levels, settings, hidden)
        self.projectors = nn.ModuleDict(
            {e: projector(sum(widths), hidden, settings.layers) for e, widths in levels.items()}
        )
        self.tokens = len(levels) * settings.grid**2
        initialise_by_name(self, seed)

    def project(self, inputs: Mapping[str, Tensor], batch: int) -> Tensor:
        """See `Connector.forward`."""
        found = [self.projectors[encoder](inputs[encoder].flatten(1, 2)) for encoder in self.present(inputs)]
        if not found:
            return next(self.parameters()).new_zeros(batch, 0, self.hidden)
        return self.arrange(found)

    def arrange(self, found: list[Tensor]) -> Tensor:
        """Tokens (B, G*G, H) of every encoder -> the visual tokens."""
        return torch.cat(found, dim=1)


class TokenInterleave(TokenConcat):
    """As `TokenConcat`, place by place: at each of the G*G places one token of every encoder, by name.

    tokens      (B, G*G*N, H)         place 1 of all encoders, place 2 of all encoders, ...
    """

    def arrange(self, found: list[Tensor]) -> Tensor:
        """Tokens (B, G*G, H) of every encoder -> the visual tokens."""
        return torch.stack(found, dim=2).flatten(1, 2)
