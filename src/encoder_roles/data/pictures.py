"""Pictures as uint8 tensors, framed for each encoder, and read ahead in threads."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from errno import ENAMETOOLONG, ENOENT
from functools import cache
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from encoder_roles.data.picture_store import PictureStore
from encoder_roles.encoders.framing import LARGEST_PIXELS, Frame, Framed, frame_picture
from encoder_roles.study.names import DataError, StudyError

BACKGROUND = (255, 255, 255, 255)  # what transparent pixels show: white, as a page does
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF")
READ = "PNG, JPEG, WebP, GIF, BMP, TIFF, PPM, JPEG 2000 and AVIF are read; fetch it again, or convert it"
DEEP = "values without a stated white; write it with 8 or 16 bits a channel"
# what Pillow raises on damaged files
BROKEN = (
    *(OSError, EOFError, SyntaxError, ValueError, TypeError, KeyError, IndexError, RuntimeError),
    *(struct.error, zlib.error),
)
UPRIGHT = 1  # the EXIF orientation of a picture that is not turned
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PictureError(DataError):
    """A picture file that cannot be used. `reason` is why, in a word or two; `detail` is a sentence."""

    def __init__(self, path: Path, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}")
        self.reason, self.detail = reason, detail


def to_rgb(picture: Image.Image) -> Image.Image:
    """A picture as a person sees it: upright, RGB, 8 bits a channel, on white where it is transparent.

    The rules for every mode are in docs/full-study.md. Raises ValueError for a mode without a rule.
    """
    picture.load()  # before its orientation is read: Pillow turns a TIFF itself, and drops the mark
    picture = _upright(picture)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM"):
        picture = _high_byte(picture)
    if picture.mode in ("I", "F"):
        raise ValueError(f"mode {picture.mode}: {DEEP}")
    if picture.has_transparency_data:
        ground = Image.new("RGBA", picture.size, BACKGROUND)
        picture = Image.alpha_composite(ground, picture.convert("RGBA"))
    return picture.convert("RGB")


def _upright(picture: Image.Image) -> Image.Image:
    """The picture turned as its EXIF or XMP orientation says, without that mark: it must turn only once."""
    try:
        turn = TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, UPRIGHT))
    except BROKEN:  # a damaged EXIF block: viewers show the picture as it is
        return picture
    if turn is None:
        return picture
    turned = picture.transpose(turn)
    turned.info = {key: value for key, value in picture.info.items() if key == "transparency"}
    return turned


def _high_byte(picture: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey, as Pillow reads 16-bit colours. Its transparent value becomes alpha."""
    values = np.asarray(picture)
    grey = Image.fromarray((np.clip(values, 0, 65535) >> 8).astype(np.uint8))
    if (clear := picture.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def plain_pictures(row: Mapping[str, Any]) -> dict[str, Any]:
    """A benchmark's row whose pictures that are transparent or deeper than 8 bits are as `to_rgb` makes them.

    lmms-eval's task code would drop the transparency and clip the values. All others stay as they are.
    Raises ValueError for a mode without a rule.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        if not isinstance(value, Image.Image):
            return value
        return to_rgb(value) if value.has_transparency_data or value.mode[0] in "IF" else value

    return {key: plain(value) for key, value in row.items()}


def to_pixels(picture: Image.Image) -> Tensor:
    """A picture as uint8 (3, height, width), as `to_rgb` makes it. Raises ValueError as that does."""
    return torch.from_numpy(np.array(to_rgb(picture))).permute(2, 0, 1).contiguous()


def decode_picture(path: Path) -> Image.Image:
    """One picture file, decoded by `to_rgb`; the first frame of an animation.

    Raises:
        PictureError: there is no such file, or it is damaged, no picture, too large, or of a mode without a
            rule.
        StudyError: the machine cannot read the file now.
    """
    try:
        if not path.is_file():
            raise FileNotFoundError(ENOENT, "no such picture")
        with Image.open(path, formats=_formats()) as picture:
            width, height = picture.size
            if width * height > LARGEST_PIXELS:
                raise Image.DecompressionBombError
            picture.load()  # what is wrong now is damage, later a mode
            return _ruled(path, picture)
    except StudyError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(path, "not a picture", f"not a picture; {READ}") from error
    except Image.DecompressionBombError as error:
        detail = f"picture too large: more than {LARGEST_PIXELS:,} pixels; scale it down"
        raise PictureError(path, "too large", detail) from error
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno in (ENOENT, ENAMETOOLONG):
            raise PictureError(path, "missing", _missing(path)) from error
        if isinstance(error, OSError) and error.errno is not None:
            raise StudyError(f"{path}: cannot be read ({error.strerror})") from error
        problem = " ".join(str(error).split())
        reason = "truncated" if "truncated" in problem.lower() else "damaged"
        raise PictureError(path, reason, f"damaged picture ({problem}); write or fetch it again") from error


def _missing(path: Path) -> str:
    """What is missing, and the file of nearly that name if there is one: names look alike in two Unicode
    forms, and archives are unpacked with .JPG for .jpg.
    """
    names = {normalize(form, path.name) for form in ("NFC", "NFD")} - {path.name}
    case = path.with_suffix(path.suffix.swapcase())
    try:
        if path.is_dir():
            return "no such picture: it is a folder"
        if any(path.with_name(name).is_file() for name in names):
            return "no such picture: the file has this name in another Unicode form (NFC and NFD); rename it"
        return f"no such picture, but there is {case.name}" if case.is_file() else "no such picture"
    except OSError:  # a name that is too long
        return "no such picture"


@cache
def _formats() -> tuple[str, ...]:
    """FORMATS, less those that this Pillow was built without."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _ruled(path: Path, picture: Image.Image) -> Image.Image:
    try:
        return to_rgb(picture)
    except ValueError as error:
        raise PictureError(path, "unsupported", f"unsupported picture ({error})") from error


def read_picture(path: Path) -> Tensor:
    """One picture as uint8 (3, height, width). Raises as `decode_picture` does."""
    return torch.from_numpy(np.array(decode_picture(path))).permute(2, 0, 1).contiguous()


class PictureReader:
    """Reads and frames picture files in its own threads, as many as torch has.

    So the device does not wait for the pictures of the next batch. A framed picture depends only on its file
    and its frame, not on the thread that reads it. With a store no file is decoded.
    """

    def __init__(self, frames: Iterable[Frame], store: PictureStore | None = None) -> None:
        self.frames, self.store = frozenset(frames), store
        self.pool = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="pictures")
        self.begun: dict[Path, Future[Framed]] = {}

    def begin(self, paths: Iterable[Path]) -> None:
        """Start reading pictures that will be read soon."""
        for path in paths if self.store is None else ():
            if path not in self.begun:
                self.begun[path] = self.pool.submit(self._read, path)

    def read(self, paths: Sequence[Path]) -> list[Framed]:
        """The pictures, in order. Raises StudyError naming a file that cannot be read or framed."""
        if self.store is not None:
            return [self.store.framed(path, self.frames) for path in paths]
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
        pixels = read_picture(path)
        try:
            return frame_picture(pixels, self.frames)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error
