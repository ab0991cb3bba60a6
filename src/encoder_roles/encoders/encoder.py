"""One interface for every vision encoder: uint8 pictures in, features of one or several layers out.

The layer rule is the same for all of them. A network with n blocks (stages, for a ConvNet) has the hidden
states 0 (after the embedding) to n (after the last block). `layer: -1` is the last hidden state after the
network's final norm, if it has one, applied to every token. Every other integer indexes the hidden states
without a norm (`-2` is the second to last). A list of layers gives several levels, in its order. Parts that
the layers do not need (later blocks, pooling, heads, text towers) are cut off, so that the counts of
parameters and FLOPs are those of the parts in use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from encoder_roles.encoders.framing import Frame
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import EncoderSpec

PICTURES_PER_PASS = 64  # the most pictures of one pass
PIXELS_PER_PASS = 2**22  # the most pixels of one pass: four of 1,024 x 1,024, so that SAM fits a GPU


class Encoder(nn.Module, ABC):
    """A vision encoder cut off after its deepest chosen layer.

    Attributes:
        name: its name in the pool.
        spec: its row of the encoder table.
        library_config: all that is needed to build `trunk` without weights, as JSON.
        trunk: the library's network.
        widths: channels of each level, in the order of the spec's layers.
        frame: the framing of its pictures.
    """

    widths: tuple[int, ...]
    frame: Frame
    trunk: Any

    def __init__(self, name: str, spec: EncoderSpec, library_config: dict[str, Any], trunk: Any) -> None:
        super().__init__()
        self.name, self.spec, self.library_config, self.trunk = name, spec, library_config, trunk
        self.frame = Frame.of(spec, patch=1)
        if spec.mean is not None and spec.std is not None:
            std = torch.tensor(spec.std).view(1, 3, 1, 1)
            mean = torch.tensor(spec.mean).view(1, 3, 1, 1)
            self.register_buffer("scale", 1 / (255 * std), persistent=False)
            self.register_buffer("shift", -mean / std, persistent=False)

    @property
    def width(self) -> int:
        """Channels D of the features: the sum over all levels."""
        return sum(self.widths)

    @property
    def pictures_per_pass(self) -> int:
        """Pictures of one pass without gradients, the same on every device."""
        return min(PICTURES_PER_PASS, max(1, PIXELS_PER_PASS // self.spec.pixels**2))

    def preprocess(self, pictures: Tensor) -> Tensor:
        """uint8 pictures (B, 3, H, W) -> normalised pixels (B, 3, p, p), on the encoder's device."""
        return self.normalise(self.frame.apply(pictures))

    def normalise(self, framed: Tensor) -> Tensor:
        """Framed pictures -> normalised pixels; those of `normalisation: picture` already are."""
        if self.spec.normalisation == "picture":
            weight = next(self.parameters())
            return framed.to(weight.device, weight.dtype)
        scale, shift = self.get_buffer("scale"), self.get_buffer("shift")
        pixels = framed.to(scale.device).to(scale.dtype)
        normalised = self.frame.complete(torch.addcmul(shift, pixels, scale))
        return normalised.to(next(self.parameters()).dtype)  # weights may be bf16; pixels are fp32

    @abstractmethod
    def levels(self, pixels: Tensor) -> list[Tensor]:
        """Normalised pixels (B, 3, p, p) -> features (B, h, w, D_l) of each layer, on its native grid."""

    def forward(self, pixels: Tensor) -> Tensor:
        """`levels` concatenated (B, h, w, D); if their grids differ, see `models.grid`."""
        levels = self.levels(pixels)
        return levels[0] if len(levels) == 1 else torch.cat(levels, dim=-1)


def hidden_state(layer: int, blocks: int, where: str) -> int:
    """The hidden state 0..blocks that `layer` (not -1) names. Raises StudyError if there is none."""
    index = layer if layer >= 0 else blocks + 1 + layer
    if not 0 <= index <= blocks:
        raise StudyError(
            f"{where}: layer {layer} does not exist, the network has hidden states 0 to {blocks}"
        )
    return index


def wrong_pixels(name: str, spec: EncoderSpec, made_for: int) -> str:
    """The message for a picture size that does not fit an encoder's position table."""
    return (
        f"encoder {name}: pixels is {spec.pixels}, but its position table is made for {made_for}; "
        "write that number in the config (or, where its library can do it, `positions: resample`)"
    )


def as_grid(tokens: Tensor, dropped: int, pixels: Tensor) -> Tensor:
    """Tokens (B, dropped + h*w, D) -> (B, h, w, D) without the class token and registers (`dropped`)."""
    batch, count, width = tokens.shape
    rows = round(((count - dropped) * pixels.shape[-2] / pixels.shape[-1]) ** 0.5)
    return tokens[:, dropped:].reshape(batch, rows, -1, width)
