"""Several layers of every encoder with learned weights: COMM (Jiang et al. 2023, arXiv 2310.08825)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from encoder_roles.models.connector import Connector, Levels, initialise_by_name, projector
from encoder_roles.models.connectors.blocks import BlockLinear, inner_width
from encoder_roles.study.sections import ConnectorSettings


class MultiLevel(Connector):
    """Each level aligned by a linear layer and a LayerNorm, their weighted sum, then channel concatenation.

        inputs      N x (B, G, G, D_e),  D_e = sum of D_e,l over the levels l
        aligned     N x L_e x (B, G, G, C)     LayerNorm(Linear(level))
        merged      N x (B, G, G, C)           sum over l of w_e,l * aligned; w_e is a softmax of learned
                                               numbers: it sums to 1 and starts at 1/L_e
        projector   (B, G, G, H)               of the merged blocks side by side, `layers` linear layers
        tokens      (B, G*G, H)                row by row of the grid

    This is COMM's LLN-Layerscale. COMM gives DINOv2's merged levels one more MLP, but not CLIP's; here all
    encoders are treated alike.

    Removed: `drop` deletes the encoder's columns of the projector's first weight; `zero` leaves the constant
    that Linear and LayerNorm give for zeros.
    """

    def __init__(self, levels: Levels, settings: ConnectorSettings, hidden: int, seed: int) -> None:
        super().__init__(levels, settings, hidden)
        width = inner_width(settings, hidden)
        self.widths = {encoder: list(widths) for encoder, widths in levels.items()}
        self.aligned = nn.ModuleDict(
            {
                e: nn.ModuleList(nn.Sequential(nn.Linear(w, width), nn.LayerNorm(width)) for w in widths)
                for e, widths in levels.items()
            }
        )
        several = {e: torch.empty(len(widths)) for e, widths in levels.items() if len(widths) > 1}
        self.weights = nn.ParameterDict(several)
        self.first = BlockLinear(dict.fromkeys(levels, width), hidden)
        self.rest = projector(hidden, hidden, settings.layers - 1)
        self.tokens = settings.visual_tokens(len(levels))
        initialise_by_name(self, seed)
        with torch.no_grad():
            for weights in self.weights.values():
                weights.zero_()

    def merge(self, encoder: str, block: Tensor) -> Tensor:
        """The projector input (B, G, G, D_e) of an encoder -> its merged levels (B, G, G, C)."""
        levels = block.split(self.widths[encoder], dim=-1)
        layers: Any = self.aligned[encoder]
        aligned: list[Tensor] = [align(level) for align, level in zip(layers, levels, strict=True)]
        if len(aligned) == 1:
            return aligned[0]
        merged: Tensor = torch.einsum("l,l...->...", self.weights[encoder].softmax(0), torch.stack(aligned))
        return merged

    def project(self, inputs: Mapping[str, Tensor], batch: int) -> Tensor:
        """See `Connector.forward`."""
        merged = {encoder: self.merge(encoder, inputs[encoder]) for encoder in self.present(inputs)}
        states = self.first(merged, (batch, self.settings.grid, self.settings.grid))
        if len(self.rest):
            states = self.rest(nn.functional.gelu(states))
        tokens: Tensor = states.flatten(1, 2)
        return tokens
