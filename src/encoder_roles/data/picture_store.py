"""Pictures framed once for a study: one memory-mapped array per frame, read by every job that needs pixels.

Decoding and resampling a picture costs as much as a small encoder's forward pass, and every subset reads the
same pictures. A store holds the same pixels as reading and framing each file, so results do not change.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.format import open_memmap

from encoder_roles.encoders.framing import Frame, Framed
from encoder_roles.provenance import atomic_folder, write_json
from encoder_roles.study.names import StudyError

INDEX = "index.json"

Array = npt.NDArray[Any]


class PictureStore:
    """Framed pictures by the paths of their files.

    Args:
        folders: written by `write_store`, each with different frames.
        root: the folder to which the stored names are relative.

    Raises:
        StudyError: a folder is missing or damaged, or does not hold framed pictures.
    """

    def __init__(self, folders: Sequence[Path], root: Path) -> None:
        self.folders = folders
        self.arrays: dict[Frame, tuple[Mapping[Path, int], Array]] = {}
        for folder in folders:
            try:
                index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
                rows = {root / name: row for row, name in enumerate(index["pictures"])}
                for entry in index["frames"]:
                    array = np.load(folder / entry["file"], mmap_mode="r")
                    if len(array) != len(rows):
                        raise ValueError(f"{len(array)} pictures for {len(rows)} names")
                    self.arrays[_frame(entry["frame"])] = rows, array
            except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
                raise StudyError(f"{folder}: not framed pictures ({error}); frame them again") from None

    def framed(self, path: Path, frames: Iterable[Frame]) -> Framed:
        """A picture in each of the frames. Raises StudyError if the store lacks the picture or a frame."""
        return {frame: torch.from_numpy(np.array(self._pixels(path, frame))) for frame in frames}

    def _pixels(self, path: Path, frame: Frame) -> Array:
        folders = ", ".join(map(str, self.folders))
        if frame not in self.arrays:
            raise StudyError(
                f"{folders}: no pictures framed by {frame.aspect} to {frame.pixels} pixels; frame them again"
            )
        rows, array = self.arrays[frame]
        if path not in rows:
            raise StudyError(f"{folders}: no picture {path}; frame the pictures again")
        pixels: Array = array[rows[path]]
        return pixels


def open_store(folders: Sequence[Path], root: Path) -> PictureStore | None:
    """The store of some folders; None if the study reads its pictures from their files."""
    return PictureStore(folders, root) if folders else None


def write_store(
    names: Sequence[str], pictures: Iterable[Framed], frames: Iterable[Frame], output: Path
) -> None:
    """Store framed pictures; `output` appears only when it is complete.

    Args:
        names: of the pictures, relative to the `root` of `PictureStore`.
        pictures: the same pictures, each in all of the frames.
        frames: the frames to store.
        output: the folder to write: an array per frame and index.json.

    Raises:
        StudyError: there are no pictures, or two have different sizes in one frame.
    """
    if not names:
        raise StudyError(f"{output}: there is no picture to frame; set `pictures: read` in the config")
    ordered = sorted(set(frames), key=lambda frame: json.dumps(asdict(frame)))
    files = {frame: f"{number}.{frame.aspect}{frame.pixels}.npy" for number, frame in enumerate(ordered)}
    with atomic_folder(output) as folder:
        arrays: dict[Frame, np.memmap[Any, Any]] = {}
        for row, (name, picture) in enumerate(zip(names, pictures, strict=True)):
            for frame in ordered:
                pixels = picture[frame].numpy()
                if frame not in arrays:
                    shape = (len(names), *pixels.shape)
                    arrays[frame] = open_memmap(folder / files[frame], "w+", pixels.dtype, shape)
                if arrays[frame].shape[1:] != pixels.shape:
                    raise StudyError(
                        f"{name}: {_size(pixels)} pixels when framed by {frame.aspect}, the pictures before "
                        f"it {_size(arrays[frame][0])}; a store holds one size: set `pictures: read`"
                    )
                arrays[frame][row] = pixels
        for array in arrays.values():
            array.flush()
        entries = [{"frame": asdict(frame), "file": files[frame]} for frame in ordered]
        write_json(folder / INDEX, {"pictures": list(names), "frames": entries})


def _size(pixels: Array) -> str:
    return " x ".join(map(str, pixels.shape[-2:]))


def _frame(row: Mapping[str, Any]) -> Frame:
    if set(row) != {field.name for field in fields(Frame)}:
        raise ValueError(f"a frame has the fields {sorted(row)}")
    return Frame(**dict(row) | {"fill": tuple(row["fill"])})
