"""Training data as LLaVA-format JSONL, one conversation per line, read one picture at a time.

The procedural world writes a record per question or caption, with the records of a picture consecutive. In
public data sets a line is a conversation of one or more turns about one picture or none, in any order.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder_roles.study.names import DataError, StudyError

IMAGE_MARKER = "<image>"  # the place of the picture in a conversation; removed before the tokenizer
CAPTION_SUFFIX = "-caption"  # ids of captions end in it
CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # in no picture's path: a message is one line
EXACT_FLOATS = 2.0**53
SPEAKERS = ("human", "gpt")  # by turns
Turns = tuple[tuple[str, str], ...]  # (question, answer), one pair or more


@dataclass(frozen=True, slots=True)
class Record:
    """One conversation about one picture or none. ``line`` is its line number in the file, from 1."""

    id: str
    image: str | None
    turns: Turns
    line: int

    @property
    def is_caption(self) -> bool:
        """Whether the answer is a caption of the picture."""
        return self.id.endswith(CAPTION_SUFFIX)


@dataclass(frozen=True, slots=True)
class PictureRecords:
    """All records about one picture, in file order.

    ``image`` is relative to the pictures' folder; None for a text-only record.
    """

    image: str | None
    records: tuple[Record, ...]


class _WrongValueError(Exception):
    """A value of a record that is wrong: its key, and what is wrong with it."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(key, problem)
        self.key, self.problem = key, problem


def _fault(path: Path, line: int, key: str, problem: str, unit: str = "line") -> DataError:
    return DataError(f"{path}, {unit} {line}, key {key!r}: {problem}")


def text_fault(text: str) -> str | None:
    """What keeps a text from being written as UTF-8: half of a surrogate pair. None if nothing does."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"no text: {text[error.start : error.end]!r} at character {error.start} is half a character"
    return None


def _id(value: Any) -> str | None:
    """A record's id as text: any text, or a whole number (1.0, as pandas writes 1, is 1); None of all else.

    Floats from 2^53 on are refused: several whole numbers are the same float there.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < EXACT_FLOATS:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None


def _conversation(row: dict[str, Any]) -> list[str]:
    """The texts of a conversation, question and answer by turns. Raises _WrongValueError."""
    turns = row.get("conversations")
    if not isinstance(turns, list):
        raise _WrongValueError("conversations", "expected a list of turns")
    if len(turns) < 2 or len(turns) % 2:
        speakers = [str(turn.get("from")) if isinstance(turn, dict) else "no turn" for turn in turns]
        given = ", ".join(speakers) or "none"
        raise _WrongValueError("conversations", f"expected human and gpt turns in turn, not {given!r:.60}")
    texts = []
    for number, turn in enumerate(turns):
        key, speaker = f"conversations.{number}", SPEAKERS[number % 2]
        if not isinstance(turn, dict) or turn.get("from") != speaker:
            other = turn.get("from") if isinstance(turn, dict) else turn
            raise _WrongValueError(f"{key}.from", f"expected {speaker!r}, not {other!r:.40}")
        value = turn.get("value")
        if not isinstance(value, str):
            raise _WrongValueError(f"{key}.value", "expected text")
        if problem := text_fault(value):
            raise _WrongValueError(f"{key}.value", problem)
        texts.append(value.strip())
        if speaker == "gpt" and IMAGE_MARKER in value:
            raise _WrongValueError(f"{key}.value", f"an answer cannot hold {IMAGE_MARKER}")
        if speaker == "gpt" and not texts[-1]:
            raise _WrongValueError(f"{key}.value", "the answer is empty: nothing to learn")
    return texts


def _picture(image: Any) -> str | None:
    """The path of a record's picture; None without one. Raises _WrongValueError."""
    if isinstance(image, list):
        raise _WrongValueError("image", f"a list of {len(image)}; a record is about one picture or none")
    if image is not None and (not isinstance(image, str) or not image):
        raise _WrongValueError("image", "expected a path, or no such key for a text-only record")
    if image is not None and (CONTROL.search(image) or text_fault(image)):
        raise _WrongValueError("image", f"{image!r} is no path of a file")
    return image


def check_record(path: Path, line: int, row: Any, unit: str = "line") -> Record:
    """One JSON value of the file as a record. Raises DataError with file, line and key.

    Args:
        path: the file, for messages.
        line: the value's line, from 1; its place in a list, with `unit` "record".
        row: the value.
        unit: what `line` counts, for messages.
    """
    if not isinstance(row, dict):
        raise DataError(f"{path}, {unit} {line}: expected an object")
    try:
        id = _id(row.get("id"))
        if id is None or text_fault(id):
            raise _WrongValueError("id", "expected text or a whole number")
        image = _picture(row.get("image"))
        texts = _conversation(row)
        markers = sum(text.count(IMAGE_MARKER) for text in texts)
        if markers != (image is not None):
            problem = f"{markers} {IMAGE_MARKER} for {int(image is not None)} pictures"
            raise _WrongValueError("conversations.0.value", problem)
    except _WrongValueError as error:
        raise _fault(path, line, error.key, error.problem, unit) from None
    questions = [text.replace(IMAGE_MARKER, "").strip() for text in texts[::2]]
    return Record(id, image, tuple(zip(questions, texts[1::2], strict=True)), line)


def parse_json(path: Path, line: int, text: bytes) -> Any:
    """The JSON value of one line. Raises DataError with file and line."""
    try:
        return json.loads(text.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {line}: not UTF-8 ({error}); convert the file") from None
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}, line {line}: not JSON ({error}); a file is one list, or has one record a line"
        ) from error


def parse_record(path: Path, line: int, text: bytes) -> Record:
    """One line of the file, validated. Raises DataError with file, line and key."""
    return check_record(path, line, parse_json(path, line, text))


def _lines(path: Path) -> Iterator[tuple[Record, int]]:
    """The records of a file, one line at a time, each with its length in bytes."""
    try:
        with path.open("rb") as file:
            for line, text in enumerate(file, start=1):
                yield parse_record(path, line, text), len(text)
    except OSError as error:
        raise StudyError(f"{path}: cannot be read as training data ({error})") from error


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file, one line at a time. Raises StudyError if it is missing or a line is wrong."""
    return (record for record, _ in _lines(path))


def distinct_pictures(path: Path) -> Iterator[str]:
    """The pictures of a file, each once, in order of first appearance."""
    seen: set[str] = set()
    for record in read_records(path):
        if record.image is not None and record.image not in seen:
            seen.add(record.image)
            yield record.image


class PictureIndex:
    """The positions of each picture's records in a file: 33 bytes per picture in memory.

    With ``group_by_picture`` consecutive records about a picture are one entry, and a picture that returns
    later is an error. Otherwise every record is an entry, as in the recipes of public data sets. Raises
    StudyError with the line of the first wrong record.
    """

    def __init__(self, path: Path, group_by_picture: bool) -> None:
        self.path = path
        self.starts, self.sizes, self.lines = array("q"), array("q"), array("q")
        self.pictured = bytearray()
        seen: set[str] = set()
        before, place = None, 0
        for record, size in _lines(path):
            if group_by_picture and record.image is not None and record.image == before:
                self.sizes[-1] += size
            else:
                if group_by_picture and record.image is not None:
                    if record.image in seen:
                        problem = f"records of {record.image} are not consecutive"
                        raise _fault(path, record.line, "image", problem)
                    seen.add(record.image)
                self.starts.append(place)
                self.sizes.append(size)
                self.lines.append(record.line)
                self.pictured.append(record.image is not None)
            before, place = record.image, place + size
        if not self.starts:
            raise DataError(f"{path}: no records")
        self._file = path.open("rb")

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, place: int) -> PictureRecords:
        self._file.seek(self.starts[place])
        lines = self._file.read(self.sizes[place]).rstrip(b"\n").split(b"\n")
        first = self.lines[place]
        records = tuple(parse_record(self.path, first + n, text) for n, text in enumerate(lines))
        return PictureRecords(records[0].image, records)
