"""Pictures as uint8 tensors. Resizing and normalising are each encoder's own business."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from encoder_roles.study import StudyError


def to_pixels(picture: Image.Image) -> torch.Tensor:
    """A picture as uint8 (3, height, width), RGB."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).contiguous()


def read_picture(path: Path) -> torch.Tensor:
    """One picture as uint8 (3, height, width), RGB. Raises StudyError naming a missing or damaged file."""
    try:
        with Image.open(path) as picture:
            return to_pixels(picture)
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such picture") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise StudyError(f"{path}: damaged picture ({error}); write or fetch it again") from error


def by_size(pictures: Sequence[torch.Tensor]) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Pictures of each size together: places in ``pictures`` and pixels, uint8 (B, 3, height, width)."""
    places: dict[torch.Size, list[int]] = {}
    for place, picture in enumerate(pictures):
        places.setdefault(picture.shape, []).append(place)
    for group in places.values():
        yield group, torch.stack([pictures[place] for place in group])
