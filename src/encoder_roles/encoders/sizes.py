"""The size of an encoder from its row of the encoder table: built on the meta device, without weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from encoder_roles.encoders.encoder import Encoder
from encoder_roles.encoders.loading import build_encoder, build_network
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import EncoderSpec

TOLERANCE = 0.01  # largest relative difference to the published, rounded number of parameters


@dataclass(frozen=True)
class NetworkSize:
    """The sizes of the network of a row of the encoder table.

    Attributes:
        parameters: of the complete vision network.
        kept: the parameters that the row's layers need; only these are trained, stored and computed.
        widths: channels of each level.
        grids: tokens per side of each level for a square picture.
    """

    parameters: int
    kept: int
    widths: tuple[int, ...]
    grids: tuple[int, ...]

    @property
    def width(self) -> int:
        """Channels of all levels, summed."""
        return sum(self.widths)

    @property
    def grid(self) -> int:
        """Tokens per side of the finest level."""
        return max(self.grids)


def build_on_meta(name: str, spec: EncoderSpec, library_config: dict[str, Any] | None = None) -> Encoder:
    """The encoder of a row, without weights and without memory.

    Args:
        name: for errors.
        spec: the row.
        library_config: describes the network; by default that of the row.

    Raises:
        StudyError: the row does not describe the network, or its layers or pixels do not fit the network.
    """
    config = library_config or spec.library_config
    if config is None:
        raise StudyError(
            f"encoder {name}: library_config is missing; without it the network is only known after staging"
        )
    with torch.device("meta"):
        return build_encoder(name, spec, config)


def measure_network(
    name: str, spec: EncoderSpec, library_config: dict[str, Any] | None = None
) -> NetworkSize:
    """The sizes of a row's network. Arguments and errors as `build_on_meta`; the grid must be square."""
    encoder = build_on_meta(name, spec, library_config)
    with torch.device("meta"):
        network = build_network(name, spec, encoder.library_config)
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
        parameters=sum(weight.numel() for weight in network.parameters()),
        kept=sum(weight.numel() for weight in encoder.parameters()),
        widths=encoder.widths,
        grids=tuple(int(level.shape[1]) for level in levels),
    )
