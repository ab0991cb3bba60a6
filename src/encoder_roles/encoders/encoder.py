"""One interface for every vision encoder: uint8 pictures in, the native grid of one layer out.

The layer rule is the same for all of them. A network with n blocks (stages, for a ConvNet) has the hidden
states 0 (after the embedding) to n (after the last block). `layer: -1` is the last hidden state after the
network's final norm, if it has one, applied to every token; every other integer indexes the hidden states as
they are, without a norm (`-2` is the last but one). Parts that the chosen layer does not need (later blocks,
pooling, heads, text towers) are cut off, so that parameter and FLOP counts are those of what is really used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from encoder_roles.study import EncoderSpec, StudyError


def resize(pictures: Tensor, pixels: int) -> Tensor:
    """Resize uint8 pictures (B, 3, H, W) to uint8 (B, 3, pixels, pixels): bicubic, antialiased, as Pillow
    does it.

    A picture that is not square is squashed to one; nothing is cropped, because questions ask about the
    borders too. The work is done on the CPU, where the operation exists for uint8, so that every device sees
    the same pixels.
    """
    if pictures.dtype != torch.uint8 or pictures.dim() != 4 or pictures.shape[1] != 3:
        raise StudyError(f"pictures: need uint8 (B, 3, H, W), got {pictures.dtype} {list(pictures.shape)}")
    if pictures.shape[-2:] == (pixels, pixels):
        return pictures
    return F.interpolate(pictures.cpu(), size=(pixels, pixels), mode="bicubic", antialias=True)


class Encoder(nn.Module, ABC):
    """A vision encoder cut off after one layer.

    Attributes:
        name: its name in the pool.
        spec: its row of the encoder table.
        library_config: all that is needed to build `trunk` again without weights, as JSON.
        trunk: the library's own network.
        width: channels D of the features.
    """

    width: int
    trunk: Any

    def __init__(self, name: str, spec: EncoderSpec, library_config: dict[str, Any], trunk: Any) -> None:
        super().__init__()
        self.name, self.spec, self.library_config, self.trunk = name, spec, library_config, trunk
        std = torch.tensor(spec.std).view(1, 3, 1, 1)
        mean = torch.tensor(spec.mean).view(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def preprocess(self, pictures: Tensor) -> Tensor:
        """uint8 pictures (B, 3, H, W) -> normalised pixels (B, 3, p, p), on the encoder's device."""
        scale, shift = self.get_buffer("scale"), self.get_buffer("shift")
        resized = resize(pictures, self.spec.pixels).to(scale.device)
        return torch.addcmul(shift, resized.to(scale.dtype), scale)

    @abstractmethod
    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, p, p) -> features (B, h, w, D) of the spec's layer on its native grid."""


def hidden_state(layer: int, blocks: int, where: str) -> int:
    """The hidden state 0..blocks that `layer` (not -1) names. Raises StudyError if there is none."""
    index = layer if layer >= 0 else blocks + 1 + layer
    if not 0 <= index <= blocks:
        raise StudyError(
            f"{where}: layer {layer} does not exist, the network has hidden states 0 to {blocks}"
        )
    return index


def wrong_pixels(name: str, spec: EncoderSpec, made_for: int) -> str:
    """The message for an encoder asked for a picture size that its position table is not made for."""
    return (
        f"encoder {name}: pixels is {spec.pixels}, but its position table is made for {made_for}; "
        "write that number in the config"
    )


def as_grid(tokens: Tensor, dropped: int, pixels: Tensor) -> Tensor:
    """Tokens (B, dropped + h*w, D) -> (B, h, w, D); the `dropped` ones are class token and registers."""
    batch, count, width = tokens.shape
    rows = round(((count - dropped) * pixels.shape[-2] / pixels.shape[-1]) ** 0.5)
    return tokens[:, dropped:].reshape(batch, rows, -1, width)
