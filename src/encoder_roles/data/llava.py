"""Training data as LLaVA-format JSONL, one conversation per line, read one picture at a time.

The procedural world writes a record per question or caption, with the records of a picture consecutive. In
public data sets a line is a conversation of one or more turns about one picture or none, in any order.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder_roles.study.names import StudyError

IMAGE_MARKER = "<image>"  # the place of the picture in a conversation; removed before the tokenizer
CAPTION_SUFFIX = "-caption"  # ids of captions end in it
SPEAKERS = ("human", "gpt")  # they alternate
Turns = tuple[tuple[str, str], ...]  # pairs (question, answer), at least one


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


def _fault(path: Path, line: int, key: str, problem: str) -> StudyError:
    return StudyError(f"{path}, line {line}, key {key!r}: {problem}")


def _conversation(path: Path, line: int, row: dict[str, Any]) -> list[str]:
    """The texts of a record, questions and answers alternating."""
    turns = row.get("conversations")
    if not isinstance(turns, list) or len(turns) < 2 or len(turns) % 2:
        raise _fault(path, line, "conversations", "expected a list in which human and gpt turns alternate")
    texts = []
    for number, turn in enumerate(turns):
        key, speaker = f"conversations.{number}", SPEAKERS[number % 2]
        if not isinstance(turn, dict) or turn.get("from") != speaker:
            raise _fault(path, line, f"{key}.from", f"expected {speaker!r}")
        if not isinstance(turn.get("value"), str):
            raise _fault(path, line, f"{key}.value", "expected text")
        texts.append(turn["value"].strip())
        if speaker == "gpt" and IMAGE_MARKER in turn["value"]:
            raise _fault(path, line, f"{key}.value", f"an answer cannot hold {IMAGE_MARKER}")
        if speaker == "gpt" and not texts[-1]:
            raise _fault(path, line, f"{key}.value", "the answer is empty; remove the record")
    return texts


def parse_record(path: Path, line: int, text: str) -> Record:
    """Validate one line of the file. Raises StudyError with file, line and key."""
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise StudyError(f"{path}, line {line}: not JSON ({error}); is the file truncated?") from error
    if not isinstance(row, dict):
        raise StudyError(f"{path}, line {line}: expected an object")
    if not isinstance(row.get("id"), str | int) or row["id"] in ("", True, False):
        raise _fault(path, line, "id", "expected text or a number")
    image = row.get("image")
    if isinstance(image, list):
        raise _fault(path, line, "image", f"a list of {len(image)}; a record is about one picture or none")
    if image is not None and (not isinstance(image, str) or not image):
        raise _fault(path, line, "image", "expected a path; a text-only record has no such key")
    texts = _conversation(path, line, row)
    if (markers := sum(text.count(IMAGE_MARKER) for text in texts)) != (image is not None):
        problem = f"{markers} {IMAGE_MARKER} for {int(image is not None)} pictures"
        raise _fault(path, line, "conversations.0.value", problem)
    questions = [text.replace(IMAGE_MARKER, "").strip() for text in texts[::2]]
    return Record(str(row["id"]), image, tuple(zip(questions, texts[1::2], strict=True)), line)


def _lines(path: Path) -> Iterator[tuple[Record, int]]:
    """The records of a file, one line at a time, each with its length in bytes."""
    try:
        with path.open("rb") as file:
            for line, text in enumerate(file, start=1):
                yield parse_record(path, line, text.decode("utf-8")), len(text)
    except (OSError, UnicodeDecodeError) as error:
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
            raise StudyError(f"{path}: no records")
        self._file = path.open("rb")

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, place: int) -> PictureRecords:
        self._file.seek(self.starts[place])
        lines = self._file.read(self.sizes[place]).decode("utf-8").rstrip("\n").split("\n")
        first = self.lines[place]
        records = tuple(parse_record(self.path, first + n, text) for n, text in enumerate(lines))
        return PictureRecords(records[0].image, records)
