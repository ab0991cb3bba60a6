"""Pictures as uint8 tensors. Resizing and normalising are each encoder's own business (encoders.Encoder.preprocess)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from encoder_roles.study import StudyError


def read_picture(path: Path) -> torch.Tensor:
    """One picture as uint8 (3, height, width), RGB. Raises StudyError naming a missing, damaged or cut-off file."""
    try:
        with Image.open(path) as picture:
            pixels = np.array(picture.convert("RGB"))
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such picture") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise StudyError(f"{path}: damaged picture ({error}); write or fetch it again") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def read_batch(paths: Sequence[Path]) -> torch.Tensor:
    """Pictures of one size as uint8 (B, 3, height, width). Raises StudyError if one has another size."""
    pictures = [read_picture(path) for path in paths]
    for path, picture in zip(paths, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            sizes = " and ".join("x".join(map(str, p.shape[1:])) for p in (pictures[0], picture))
            raise StudyError(
                f"{path}: pictures of one batch must have one size, here {sizes} (height x width)"
            )
    return torch.stack(pictures)
