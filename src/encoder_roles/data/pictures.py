"""Pictures as uint8 tensors. Resizing and normalising are each encoder's own business."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from encoder_roles.study import StudyError


def read_picture(path: Path) -> torch.Tensor:
    """One picture as uint8 (3, height, width), RGB. Raises StudyError naming a missing or damaged file."""
    try:
        with Image.open(path) as picture:
            pixels = np.array(picture.convert("RGB"))
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such picture") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise StudyError(f"{path}: damaged picture ({error}); write or fetch it again") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_by_size(paths: Sequence[Path]) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Pictures of each size together: places in ``paths`` and pixels, uint8 (B, 3, height, width)."""
    places: dict[torch.Size, list[int]] = {}
    pictures = [read_picture(path) for path in paths]
    for place, picture in enumerate(pictures):
        places.setdefault(picture.shape, []).append(place)
    for group in places.values():
        yield group, torch.stack([pictures[place] for place in group])
