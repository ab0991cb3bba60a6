"""Every picture is read as a person sees it, or refused in one line that names its file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from benchmark_cases import write_case
from picture_files import write_png_header
from PIL import ExifTags, Image, PngImagePlugin

from encoder_roles.data.pictures import PictureError, PictureReader, read_picture, to_pixels
from encoder_roles.encoders.framing import Frame
from encoder_roles.evaluation.requests import write_requests
from encoder_roles.provenance import read_jsonl, write_json
from encoder_roles.study.names import DataError

WORDS = np.arange(65536, dtype=np.uint16).reshape(256, 256)
CORNERS = np.zeros((4, 6, 3), dtype=np.uint8)  # no turn or reflection of it is itself
CORNERS[0, 0], CORNERS[0, 5], CORNERS[3, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def grey(path: Path) -> np.ndarray:
    """The one channel of a grey picture as it is read."""
    pixels = read_picture(path).numpy()
    assert (pixels == pixels[:1]).all()
    return pixels[0]


@pytest.mark.parametrize("ending", ["png", "tif", "jp2"])
def test_16_bit_grey_keeps_its_high_byte(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"p.{ending}"
    Image.fromarray(WORDS).save(path)
    assert (grey(path) == WORDS >> 8).all()


def test_16_bit_grey_of_ppm_and_big_endian_tiff_keep_their_high_byte(tmp_path: Path) -> None:
    (tmp_path / "p.pgm").write_bytes(b"P5 256 256 65535\n" + WORDS.astype(">u2").tobytes())
    Image.frombytes("I;16B", (256, 256), WORDS.astype(">u2").tobytes()).save(tmp_path / "p.tif")
    assert (grey(tmp_path / "p.pgm") == WORDS >> 8).all()
    assert (grey(tmp_path / "p.tif") == WORDS >> 8).all()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_values_without_a_stated_white_are_refused(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(WORDS.astype(dtype)).save(tmp_path / "p.tif")
    with pytest.raises(PictureError, match=r"p\.tif: unsupported picture \(mode [IF]: .*white") as fault:
        read_picture(tmp_path / "p.tif")
    assert fault.value.reason == "unsupported"


ALPHA = np.array([[0, 51, 255]], dtype=np.uint8)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_laid_on_white(tmp_path: Path, mode: str) -> None:
    black = Image.new(mode[:-1], (3, 1))
    black.putalpha(Image.fromarray(ALPHA))
    black.save(tmp_path / "p.png")
    assert grey(tmp_path / "p.png").tolist() == [[255, 204, 0]]


def test_a_transparent_colour_is_laid_on_white(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    palette.putpalette([10, 10, 10, 20, 20, 20])
    palette.save(tmp_path / "palette.png", transparency=0)
    palette.save(tmp_path / "palette.gif", transparency=0)
    Image.fromarray(np.array([[10, 20]], dtype=np.uint8)).save(tmp_path / "grey.png", transparency=10)
    Image.new("RGB", (2, 1), (10, 10, 10)).save(tmp_path / "all.png", transparency=(10, 10, 10))
    Image.fromarray(np.array([[2560, 5120]], dtype=np.uint16)).save(tmp_path / "deep.png")
    add_transparent_word(tmp_path / "deep.png", 2560)
    for name in ("palette.png", "palette.gif", "grey.png", "deep.png"):
        assert grey(tmp_path / name).tolist() == [[255, 20]], name
    assert grey(tmp_path / "all.png").tolist() == [[255, 255]]


def add_transparent_word(path: Path, value: int) -> None:
    """Write a chunk tRNS into a PNG of 16-bit grey."""
    data, chunk = path.read_bytes(), io.BytesIO()
    PngImagePlugin.putchunk(chunk, b"tRNS", value.to_bytes(2, "big"))
    place = data.index(b"IDAT") - 4
    path.write_bytes(data[:place] + chunk.getvalue() + data[place:])


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "webp", "tif"])
def test_a_picture_stands_upright_whatever_its_orientation_says(
    tmp_path: Path, turn: int, ending: str
) -> None:
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    upright = Image.fromarray(CORNERS)
    lying = upright.transpose(undo[turn]) if turn in undo else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = turn
    path = tmp_path / f"p.{ending}"
    lying.save(path, exif=exif, **({"lossless": True} if ending == "webp" else {}))
    assert (read_picture(path).permute(1, 2, 0).numpy() == CORNERS).all()
    with Image.open(path) as picture:
        assert torch.equal(to_pixels(picture), read_picture(path)), "in memory as from the file"


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_orientation_leaves_the_picture_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(CORNERS).save(tmp_path / "p.png", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff garbage")
    assert (read_picture(tmp_path / "p.png").permute(1, 2, 0).numpy() == CORNERS).all()


def test_requests_show_upright_pictures_on_white_as_training_does(tmp_path: Path) -> None:
    lying, clear, deep = io.BytesIO(), io.BytesIO(), io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(CORNERS).transpose(Image.Transpose.ROTATE_90).save(lying, "PNG", exif=exif)
    Image.new("RGBA", (6, 4)).save(clear, "PNG")
    Image.fromarray(np.full((4, 6), 0x1234, np.uint16)).save(deep, "PNG")
    parquet = write_case(tmp_path / "data", "gqa", 3)
    table = pq.read_table(parquet)
    place = table.column_names.index("image")
    images = [{"bytes": one.getvalue(), "path": None} for one in (lying, clear, deep)]
    kind = table.schema.field("image")
    column = pa.array(images, kind.type)
    pq.write_table(table.set_column(place, kind, column), parquet)
    write_json(tmp_path / "requests.json", {"benchmarks": ["gqa"]})
    write_requests(settings=tmp_path / "requests.json", data=tmp_path / "data", output=tmp_path / "requests")
    rows = list(read_jsonl(tmp_path / "requests/gqa.jsonl"))
    upright, white, dark = (read_picture(tmp_path / "requests" / row["images"][0]) for row in rows)
    assert (upright.permute(1, 2, 0).numpy() == CORNERS).all()
    assert (white == 255).all() and (dark == 0x12).all()


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("page.jpg", b"<html>404</html>", "not a picture"),
        ("empty.jpg", b"", "not a picture"),
        ("drawing.svg", b"<svg/>", "not a picture"),
        ("script.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not a picture"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(PictureError, match=name) as fault:
        read_picture(tmp_path / name)
    assert fault.value.reason == reason


def test_a_picture_too_large_or_missing_is_named(tmp_path: Path) -> None:
    write_png_header(tmp_path / "huge.png", 14_000, 14_000)
    reasons = {"huge.png": "too large", ".": "missing", "x" * 300: "missing", "none.png": "missing"}
    for name, reason in reasons.items():
        with pytest.raises(PictureError) as fault:
            read_picture(tmp_path / name)
        assert (fault.value.reason, "\n" in str(fault.value)) == (reason, False)


def test_a_missing_picture_with_a_file_of_nearly_its_name_says_so(tmp_path: Path) -> None:
    composed, decomposed = "caf\u00e9.png", "cafe\u0301.png"
    for name in (composed, "photo.JPG"):
        Image.new("RGB", (2, 2)).save(tmp_path / name)
    (tmp_path / "folder").mkdir()
    expected = {
        decomposed: "another Unicode form",
        "photo.jpg": "there is photo.JPG",
        "folder": "it is a folder",
    }
    for name, detail in expected.items():
        with pytest.raises(PictureError, match=detail) as fault:
            read_picture(tmp_path / name)
        assert fault.value.reason == "missing"


THIN = [(1, 1), (4000, 1), (1, 4000), (300, 7)]
ASPECTS = ("squash", "pad", "longest", "crop", "keep")


@pytest.mark.parametrize("size", THIN)
@pytest.mark.parametrize("aspect", ASPECTS)
def test_a_picture_of_any_shape_keeps_a_pixel(tmp_path: Path, size: tuple[int, int], aspect: str) -> None:
    frame = Frame(aspect, 16, (9, 9, 9), 8 if aspect == "keep" else 1)
    path = tmp_path / "p.png"
    Image.new("RGB", size, (200, 200, 200)).save(path)
    (framed,) = PictureReader([frame]).read([path])
    assert min(framed[frame].shape) >= 1
    if aspect in ("squash", "pad", "crop"):
        assert framed[frame].shape == (3, 16, 16)


LONG = [("pad", (20_000, 2)), ("pad", (2, 20_000)), ("crop", (40_000, 1))]


@pytest.mark.parametrize(("aspect", "size"), LONG)
def test_a_frame_too_large_is_refused_by_the_name_of_its_file(
    tmp_path: Path, aspect: str, size: tuple[int, int]
) -> None:
    path = tmp_path / "long.png"
    Image.new("RGB", size).save(path)
    with pytest.raises(DataError, match=rf"long\.png: a picture of .* framed by {aspect}") as fault:
        PictureReader([Frame(aspect, 224, (9, 9, 9))]).read([path])
    assert "\n" not in str(fault.value)
