"""Pictures as uint8 tensors, framed for each encoder, and read ahead in threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from encoder_roles.encoders.framing import Frame, Framed, frame_picture
from encoder_roles.study.names import StudyError


def to_pixels(picture: Image.Image) -> Tensor:
    """A picture as uint8 (3, height, width), RGB."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).contiguous()


def read_picture(path: Path) -> Tensor:
    """One picture as uint8 (3, height, width), RGB. Raises StudyError naming a missing or damaged file."""
    try:
        with Image.open(path) as picture:
            return to_pixels(picture)
    except FileNotFoundError as error:
        raise StudyError(f"{path}: no such picture") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise StudyError(f"{path}: damaged picture ({error}); make or fetch it again") from error


class PictureReader:
    """Reads and frames picture files in its own threads, as many as torch has.

    So the device does not wait for the pictures of the next batch. A framed picture depends only on its file
    and its frame, not on the thread that reads it.
    """

    def __init__(self, frames: Iterable[Frame]) -> None:
        self.frames = frozenset(frames)
        self.pool = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="pictures")
        self.begun: dict[Path, Future[Framed]] = {}

    def begin(self, paths: Iterable[Path]) -> None:
        """Start to read pictures that will be needed."""
        for path in paths:
            if path not in self.begun:
                self.begun[path] = self.pool.submit(self._read, path)

    def read(self, paths: Sequence[Path]) -> list[Framed]:
        """The pictures, in order. Raises StudyError naming a missing or damaged file."""
        self.begin(paths)
        futures = {path: self.begun.pop(path) for path in dict.fromkeys(paths)}
        return [futures[path].result() for path in paths]

    def portions(self, paths: Sequence[Path], size: int) -> Iterator[list[Framed]]:
        """The pictures in order, `size` at a time; the next portion is read ahead. Raises as `read`."""
        parts = [paths[start : start + size] for start in range(0, len(paths), size)]
        for part, following in zip(parts, [*parts[1:], ()], strict=True):
            pictures = self.read(part)
            self.begin(following)
            yield pictures

    def _read(self, path: Path) -> Framed:
        return frame_picture(read_picture(path), self.frames)
