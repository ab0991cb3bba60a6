"""How large an encoder is, from its row of the encoder table alone: built on the meta device, no weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from encoder_roles.encoders.encoder import Encoder
from encoder_roles.encoders.loading import build_encoder, build_network
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import EncoderSpec

TOLERANCE = 0.01  # by which parameters may differ from the published number, which is rounded


@dataclass(frozen=True)
class NetworkSize:
    """What a row of the encoder table amounts to.

    Attributes:
        parameters: of the whole vision network.
        kept: of them those that the row's layers need: what is trained, stored and computed.
        widths: channels of each level.
        grids: tokens a side of each level, of a square picture.
    """

    parameters: int
    kept: int
    widths: tuple[int, ...]
    grids: tuple[int, ...]

    @property
    def width(self) -> int:
        """Channels of all levels together."""
        return sum(self.widths)

    @property
    def grid(self) -> int:
        """Tokens a side of the finest level."""
        return max(self.grids)


def build_on_meta(name: str, spec: EncoderSpec, library_config: dict[str, Any] | None = None) -> Encoder:
    """The encoder of a row, without weights and without memory.

    Args:
        name: for errors.
        spec: the row.
        library_config: what the network is; by default as the row says.

    Raises:
        StudyError: the row does not say what the network is, or the network cannot give its layers or pixels.
    """
    config = library_config or spec.library_config
    if config is None:
        raise StudyError(
            f"encoder {name}: library_config is missing; without it the network is known once it is staged"
        )
    with torch.device("meta"):
        return build_encoder(name, spec, config)


def measure_network(
    name: str, spec: EncoderSpec, library_config: dict[str, Any] | None = None
) -> NetworkSize:
    """The sizes of a row's network. Arguments and errors as `build_on_meta`; or its grid is not square."""
    encoder = build_on_meta(name, spec, library_config)
    with torch.device("meta"):
        whole = build_network(name, spec, encoder.library_config)
    with torch.no_grad():
        levels = encoder.levels(torch.empty(1, 3, spec.pixels, spec.pixels, device="meta"))
    for level, width in zip(levels, encoder.widths, strict=True):
        _, rows, columns, channels = level.shape
        if rows != columns or channels != width:
            raise StudyError(
                f"encoder {name}: gives a {rows} x {columns} grid of {channels} channels for a square "
                f"picture, not a square one of {width}"
            )
    return NetworkSize(
        parameters=sum(weight.numel() for weight in whole.parameters()),
        kept=sum(weight.numel() for weight in encoder.parameters()),
        widths=encoder.widths,
        grids=tuple(int(level.shape[1]) for level in levels),
    )
