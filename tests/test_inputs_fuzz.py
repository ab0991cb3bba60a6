"""Whatever comes in as records or pictures, the answer is a result or one line that names the file.

A few seconds of each here; minutes with `python -m pytest -m fuzz tests/test_inputs_fuzz.py -s`.
"""

from __future__ import annotations

import io
import json
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from encoder_roles.data.llava import PictureIndex, read_records
from encoder_roles.data.pictures import PictureReader
from encoder_roles.encoders.framing import Frame
from encoder_roles.evaluation.overlays import mathvista_by_rules
from encoder_roles.provenance import read_jsonl, write_json
from encoder_roles.sources.lock import lock_sources
from encoder_roles.sources.records import stage_records
from encoder_roles.study.names import StudyError

SHORT, LONG = 150, 6_000  # cases of each test
Check = Callable[[Any], str]


def fuzz(strategy: st.SearchStrategy[Any], check: Check, cases: int) -> Counter[str]:
    """Check so many cases; how many had each kind of answer."""
    answers: Counter[str] = Counter()

    @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def every(case: Any) -> None:
        answers[check(case)] += 1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about damaged files
        every()
    print(f"\n{answers.total()} cases: {dict(answers)}")
    return answers


def refused(error: StudyError, path: Path) -> str:
    """The kind of a refusal, which is one line and names the file."""
    assert path.name in str(error) and "\n" not in str(error), str(error)
    return "refused"


# records

TURN = st.fixed_dictionaries(
    {},
    optional={
        "from": st.sampled_from(["human", "gpt", "system", 1, None]),
        "value": st.one_of(st.text(max_size=8), st.sampled_from(["<image>\nq", "a", "\ud800", None, 1, ""])),
    },
)
GOOD_TURNS = st.just([{"from": "human", "value": "<image>\nq"}, {"from": "gpt", "value": "a"}])
SCALAR = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4))
ROW = st.fixed_dictionaries(
    {},
    optional={
        "id": SCALAR,
        "image": st.one_of(
            st.sampled_from(["a.png", "cut.png", "folder", "none.png", "", "nan", "\x00", "é\n", "\udc80"]),
            st.just("x" * 5000),
            SCALAR,
            st.lists(st.just("a.png"), max_size=2),
        ),
        "conversations": st.one_of(GOOD_TURNS, GOOD_TURNS, st.lists(TURN, max_size=4), SCALAR),
        "\ud83d": SCALAR,
    },
)
GOOD = st.fixed_dictionaries(
    {"image": st.just("a.png"), "conversations": GOOD_TURNS},
    optional={"id": st.one_of(st.integers(), st.text(min_size=1, max_size=4), st.just(1.0), st.none())},
)
SOME_GOOD = st.lists(GOOD, min_size=1, max_size=4)
ROWS = st.one_of(SOME_GOOD, SOME_GOOD, st.lists(GOOD | ROW, max_size=3), st.lists(ROW | SCALAR, max_size=2))
ENCODINGS = st.sampled_from(["utf-8"] * 9 + ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"])


def written(rows: list[Any], listed: bool, ascii_only: bool, encoding: str, space: str) -> bytes:
    """Records as some program writes them."""
    texts = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    text = f"{space}[{', '.join(texts)}]{space}" if listed else space + f"\n{space}".join(texts) + space
    return text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")


SPACES = st.sampled_from(["", "", "\n", " ", "\r\n", "\t"])
FILES = st.one_of(
    st.builds(written, ROWS, st.booleans(), st.booleans(), ENCODINGS, SPACES),
    st.binary(max_size=64),
    st.builds(lambda text, size: text * size, st.sampled_from([b"[", b'{"id":', b"9"]), st.integers(0, 3000)),
)


@pytest.fixture
def staging(tmp_path: Path) -> Check:
    """Stages bytes as records, and reads what was staged as training does."""
    folder = tmp_path / "pictures"
    (folder / "folder").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "a.png")
    (folder / "cut.png").write_bytes((folder / "a.png").read_bytes()[:50])
    records = tmp_path / "records.jsonl"
    entry = {"records": str(records), "pictures": str(folder)}
    stages = {"study": "own", "sources": {}, "benchmarks": [], "records": {"tune": entry, "probe": entry}}
    write_json(tmp_path / "lock.json", stages)
    lock = tmp_path / "own.lock.yaml"

    def check(data: bytes) -> str:
        records.write_bytes(data)
        lock_sources(settings=tmp_path / "lock.json", output=lock)
        for name in ("probe", "tune"):
            output = tmp_path / "own" / name
            try:
                stage_records(settings=tmp_path / "lock.json", lock=lock, name=name, output=output)
            except StudyError as error:
                answer = refused(error, records)
                continue
            answer = "staged"
            staged = output / f"{name}.jsonl"
            if name == "probe":
                assert all((output / row["image"]).is_file() for row in read_jsonl(staged))
                continue
            index = PictureIndex(staged, group_by_picture=False)
            assert [record for entry in index for record in entry.records] == list(read_records(staged))
        return answer

    return check


# pictures

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F", "I;16", "LAB", "HSV")
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF")
FRAMES = (
    Frame("squash", 8),
    Frame("pad", 8, (1, 2, 3)),
    Frame("longest", 8),
    Frame("crop", 8),
    Frame("keep", 8, patch=2, own=True),
)


def picture_file(mode: str, ending: str, size: tuple[int, int], turn: int, seed: int, clear: bool) -> bytes:
    """A picture as some program writes it; b"" where a format has no such mode."""
    width, height = size
    base = Image.effect_noise((width, height), 64) if min(size) > 1 else Image.new("L", size, seed % 256)
    dtype = {"I": np.int32, "F": np.float32, "I;16": np.uint16}.get(mode)
    picture = Image.fromarray(np.asarray(base).astype(dtype) * 255) if dtype else None
    exif = Image.Exif()
    exif[0x0112] = turn
    file = io.BytesIO()
    try:
        picture = picture or base.convert("RGB").convert(mode)
        options = {"transparency": seed % 256} if clear and mode in "LP" else {}
        picture.save(file, ending, exif=exif.tobytes(), **options)
    except (OSError, ValueError, KeyError, TypeError):
        return b""
    return file.getvalue()


def damaged(data: bytes, cut: float, changes: list[tuple[float, int]]) -> bytes:
    """The file with some bytes changed and its end cut off."""
    held = bytearray(data[: round(cut * len(data))])
    for place, value in changes if held else ():
        held[min(int(place * len(held)), len(held) - 1)] = value
    return bytes(held)


SIZES = st.one_of(st.tuples(st.integers(1, 24), st.integers(1, 24)), st.sampled_from([(1, 3000), (3000, 1)]))
WHOLE = st.builds(
    picture_file,
    st.sampled_from(MODES),
    st.sampled_from(FORMATS),
    SIZES,
    st.integers(0, 9),
    st.integers(0, 999),
    st.booleans(),
)
SHARE = st.floats(0, 1)
PICTURES = st.one_of(
    WHOLE,
    st.builds(
        damaged,
        WHOLE,
        st.one_of(st.just(1.0), SHARE),
        st.lists(st.tuples(SHARE | st.floats(0, 0.1), st.integers(0, 255)), max_size=6),
    ),
    st.binary(max_size=64),
)


@pytest.fixture
def reading(tmp_path: Path) -> Check:
    """Reads bytes as a picture and frames it for every kind of encoder."""
    path = tmp_path / "picture.bin"
    reader = PictureReader(FRAMES)

    def check(data: bytes) -> str:
        path.write_bytes(data)
        try:
            (framed,) = reader.read([path])
        except StudyError as error:
            return refused(error, path)
        assert all(pixels.shape[0] == 3 and min(pixels.shape) >= 1 for pixels in framed.values())
        assert all(pixels.isfinite().all() for pixels in framed.values())
        return "read"

    return check


# answers to MathVista

ANSWERS = st.one_of(st.text(max_size=30), st.text("0123456789-−–.,e^{}[]()*_`# cmAB", max_size=30))
KINDS = ("integer", "float", "list", "text")


def judging(case: tuple[str, str]) -> str:
    """Reads an answer by rules."""
    kind, text = case
    question = {"question_type": "multi_choice" if kind == "text" else "free_form", "answer_type": kind}
    row = {**question, "choices": ["5", "A cat"], "precision": 2.0, "answer": "5"}
    correct, unread = mathvista_by_rules(row, text)
    assert not (correct and unread)
    return "unread" if unread else "read"


@pytest.mark.parametrize("cases", [SHORT, pytest.param(LONG, marks=pytest.mark.fuzz)])
def test_any_file_of_records_is_staged_or_refused_in_one_line(staging: Check, cases: int) -> None:
    answers = fuzz(FILES, staging, cases)
    assert min(answers["staged"], answers["refused"]) > cases / 50, answers


@pytest.mark.parametrize("cases", [SHORT, pytest.param(LONG, marks=pytest.mark.fuzz)])
def test_any_file_is_read_as_a_picture_or_refused_in_one_line(reading: Check, cases: int) -> None:
    answers = fuzz(PICTURES, reading, cases)
    assert min(answers["read"], answers["refused"]) > cases / 50, answers


@pytest.mark.parametrize("cases", [SHORT, pytest.param(LONG, marks=pytest.mark.fuzz)])
def test_any_answer_is_read_or_unread(cases: int) -> None:
    answers = fuzz(st.tuples(st.sampled_from(KINDS), ANSWERS), judging, cases)
    assert min(answers["read"], answers["unread"]) > cases / 50, answers
