"""Framing: how a picture of any shape becomes the input of one encoder.

Each encoder has its own rule (`aspect`), which does not depend on the other encoders of the subset:

    squash   the full picture is resized to (p, p); the aspect ratio is lost, nothing is cut off or added
    pad      centred on a square of the mean colour, then resized to (p, p): LLaVA's rule
    longest  the longer side is resized to p, then zeros (after normalisation) fill the square: SAM's rule
    crop     the shorter side is resized to p, then the centre (p, p) is cut out: CLIP's and DINOv2's rule
    keep     resized to as many whole patches as fit into p * p pixels, keeping the ratio: Pix2Struct's rule

Resampling is bicubic (`longest` and `keep`: bilinear, as for SAM and Pix2Struct) and antialiased like
Pillow's. It runs on uint8 on the CPU, so that every device sees the same pixels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from encoder_roles.study.names import DataError, StudyError
from encoder_roles.study.sections import EncoderSpec

LARGEST_PIXELS = 178_956_970  # of a picture, and of what it becomes while it is framed; Pillow's own limit


@dataclass(frozen=True)
class Frame:
    """The framing of one encoder; encoders with equal frames share the framed pictures.

    Attributes:
        aspect: the rule.
        pixels: p.
        fill: for `pad`: the colour around the picture, 0..255 per channel.
        patch: for `keep`: the side of a patch in pixels.
        own: whether each picture is first normalised by its own mean and deviation (Pix2Struct).
    """

    aspect: str
    pixels: int
    fill: tuple[int, ...] = ()
    patch: int = 1
    own: bool = False

    @classmethod
    def of(cls, spec: EncoderSpec, patch: int) -> Frame:
        """The frame of a row of the encoder table; `patch` is the network's patch size."""
        fill = tuple(int(channel * 255) for channel in spec.mean or ()) if spec.aspect == "pad" else ()
        own = spec.normalisation == "picture"
        return cls(spec.aspect, spec.pixels, fill, patch if spec.aspect == "keep" else 1, own)

    def apply(self, pictures: Tensor) -> Tensor:
        """uint8 pictures (B, 3, H, W) -> uint8 (fp32 if `own`) (B, 3, h, w): all but the zeros of
        `longest`. Raises DataError if a picture takes more than LARGEST_PIXELS on the way."""
        check_pictures(pictures)
        self._check_area(*pictures.shape[-2:])
        if self.own:
            pictures = standardise(pictures)
        height, width = pictures.shape[-2:]
        if self.aspect == "squash":
            return _scaled(pictures, self.pixels, self.pixels)
        if self.aspect == "pad":
            return _scaled(self._padded(pictures), self.pixels, self.pixels)
        if self.aspect == "longest":
            scale = self.pixels / max(height, width)
            rows, columns = (max(int(side * scale + 0.5), 1) for side in (height, width))
            return _scaled(pictures, rows, columns, "bilinear")
        if self.aspect == "crop":
            short = min(height, width)
            scaled = _scaled(pictures, self.pixels * height // short, self.pixels * width // short)
            top, left = ((side - self.pixels) // 2 for side in scaled.shape[-2:])
            return scaled[..., top : top + self.pixels, left : left + self.pixels]
        rows, columns = self.patches(height, width)
        return _scaled(pictures, rows * self.patch, columns * self.patch, "bilinear")

    def patches(self, height: int, width: int) -> tuple[int, int]:
        """For `keep`: rows and columns of patches, at most (p / patch)^2 patches (Lee et al. 2022)."""
        most = (self.pixels // self.patch) ** 2
        scale = math.sqrt(most * (self.patch / height) * (self.patch / width))
        rows = max(min(math.floor(scale * height / self.patch), most), 1)
        columns = max(min(math.floor(scale * width / self.patch), most), 1)
        return rows, columns

    def complete(self, pixels: Tensor) -> Tensor:
        """Normalised pixels (B, 3, h, w) -> the network's input; for `longest` this adds the zeros."""
        if self.aspect != "longest":
            return pixels
        height, width = pixels.shape[-2:]
        return F.pad(pixels, (0, self.pixels - width, 0, self.pixels - height))

    def _check_area(self, height: int, width: int) -> None:
        """Raise DataError for a picture so long and thin that its square, or its length, does not fit."""
        long, short = max(height, width), min(height, width)
        area = {"pad": long**2, "crop": self.pixels * (self.pixels * long // short)}.get(self.aspect, 0)
        if area > LARGEST_PIXELS:
            raise DataError(
                f"a picture of {width} x {height} pixels takes {area:,} pixels when framed by "
                f"{self.aspect}, the most is {LARGEST_PIXELS:,}; scale or cut it, or leave it out"
            )

    def _padded(self, pictures: Tensor) -> Tensor:
        batch, channels, height, width = pictures.shape
        if height == width:
            return pictures
        side = max(height, width)
        square = (
            torch.tensor(self.fill, dtype=torch.uint8).view(1, channels, 1, 1).repeat(batch, 1, side, side)
        )
        top, left = (side - height) // 2, (side - width) // 2
        square[..., top : top + height, left : left + width] = pictures
        return square


Framed = dict[Frame, Tensor]  # one picture: (3, h, w) in each frame


def frame_picture(picture: Tensor, frames: Iterable[Frame]) -> Framed:
    """A picture, uint8 (3, H, W), in each of the frames."""
    return {frame: frame.apply(picture[None])[0] for frame in frames}


def map_by_size(function: Callable[[Tensor], Tensor], pictures: Sequence[Tensor]) -> Tensor:
    """Apply a function to pictures (B, 3, h, w) of one size at a time; results in the pictures' order."""
    places: dict[torch.Size, list[int]] = {}
    for place, picture in enumerate(pictures):
        places.setdefault(picture.shape, []).append(place)
    parts = [function(torch.stack([pictures[place] for place in group])) for group in places.values()]
    if len(parts) == 1:
        return parts[0]
    order = torch.tensor([place for group in places.values() for place in group]).argsort()
    return torch.cat(parts)[order]


def standardise(pictures: Tensor) -> Tensor:
    """uint8 pictures (B, 3, h, w) -> fp32 with mean 0 and deviation 1 over all values of each picture.

    As in Pix2Struct, the deviation is at least 1/sqrt(number of values).
    """
    values = pictures.float()
    mean = values.mean((1, 2, 3), keepdim=True)
    deviation = values.std((1, 2, 3), keepdim=True, correction=0)
    return (values - mean) / deviation.clamp(min=values[0].numel() ** -0.5)


def resize(pictures: Tensor, pixels: int) -> Tensor:
    """Resize uint8 pictures (B, 3, H, W) to uint8 (B, 3, pixels, pixels); the aspect ratio is lost.

    Resampling is bicubic and antialiased like Pillow's.
    """
    check_pictures(pictures)
    return _scaled(pictures, pixels, pixels)


def check_pictures(pictures: Tensor) -> None:
    """Raise StudyError unless these are uint8 pictures (B, 3, H, W)."""
    if pictures.dtype != torch.uint8 or pictures.dim() != 4 or pictures.shape[1] != 3:
        raise StudyError(f"pictures: need uint8 (B, 3, H, W), got {pictures.dtype} {list(pictures.shape)}")


def _scaled(pictures: Tensor, height: int, width: int, mode: str = "bicubic") -> Tensor:
    if tuple(pictures.shape[-2:]) == (height, width):
        return pictures
    return F.interpolate(pictures.cpu(), size=(height, width), mode=mode, antialias=True)
