"""Training data as LLaVA-format JSONL: a record per question or caption, records of a picture consecutive."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder_roles.study import StudyError

IMAGE_MARKER = "<image>"  # where a conversation shows its picture; never reaches the tokenizer
CAPTION_SUFFIX = "-caption"  # ids of captions end in it


@dataclass(frozen=True, slots=True)
class Record:
    """One question about one picture and its answer. ``line`` is its line in the file, from 1."""

    id: str
    image: str | None
    question: str
    answer: str
    line: int

    @property
    def is_caption(self) -> bool:
        """Whether the answer describes the whole picture."""
        return self.id.endswith(CAPTION_SUFFIX)


@dataclass(frozen=True, slots=True)
class PictureRecords:
    """All records of one picture, in file order. ``image`` is relative to the file's folder; None without
    one.
    """

    image: str | None
    records: tuple[Record, ...]


def _fault(path: Path, line: int, key: str, problem: str) -> StudyError:
    return StudyError(f"{path}, line {line}, key {key!r}: {problem}")


def _conversation(path: Path, line: int, row: dict[str, Any]) -> tuple[str, str]:
    """The question and the answer of one row's `conversations`."""
    turns = row.get("conversations")
    if not isinstance(turns, list) or len(turns) != 2:
        raise _fault(path, line, "conversations", "expected a list of one human and one gpt turn")
    texts = []
    for number, (turn, speaker) in enumerate(zip(turns, ("human", "gpt"), strict=True)):
        key = f"conversations.{number}"
        if not isinstance(turn, dict) or turn.get("from") != speaker:
            raise _fault(path, line, f"{key}.from", f"expected {speaker!r}")
        if not isinstance(turn.get("value"), str):
            raise _fault(path, line, f"{key}.value", "expected text")
        texts.append(turn["value"])
    return texts[0], texts[1].strip()


def parse_record(path: Path, line: int, text: str) -> Record:
    """One line of the file, validated. Raises StudyError with file, line and key."""
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        raise StudyError(f"{path}, line {line}: not JSON ({error}); is the file cut off?") from error
    if not isinstance(row, dict):
        raise StudyError(f"{path}, line {line}: expected an object")
    if not isinstance(row.get("id"), str) or not row["id"]:
        raise _fault(path, line, "id", "expected text")
    image = row.get("image")
    if image is not None and (not isinstance(image, str) or not image):
        raise _fault(path, line, "image", "expected a path, or no such key for a text-only record")
    question, answer = _conversation(path, line, row)
    if (markers := question.count(IMAGE_MARKER)) != (image is not None):
        raise _fault(
            path,
            line,
            "conversations.0.value",
            f"{markers} {IMAGE_MARKER} for {int(image is not None)} pictures",
        )
    if IMAGE_MARKER in answer:
        raise _fault(path, line, "conversations.1.value", f"an answer cannot hold {IMAGE_MARKER}")
    if not answer:
        raise _fault(path, line, "conversations.1.value", "the answer is empty: nothing to learn")
    return Record(row["id"], image, question.replace(IMAGE_MARKER, "").strip(), answer, line)


def read_records(path: Path) -> Iterator[Record]:
    """The file's records, one line at a time. Raises StudyError if it is missing or a line is wrong."""
    try:
        with path.open(encoding="utf-8") as file:
            for line, text in enumerate(file, start=1):
                yield parse_record(path, line, text)
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as training data ({error})") from error


def read_pictures(path: Path) -> Iterator[PictureRecords]:
    """The records of each picture together, in order of first appearance; a text-only record stands alone.

    Raises StudyError if a picture's records are not consecutive, because a reader that goes on lazily would
    then take them for two pictures.
    """
    seen: set[str] = set()
    group: list[Record] = []
    for record in read_records(path):
        if group and (record.image is None or record.image != group[0].image):
            yield PictureRecords(group[0].image, tuple(group))
            group = []
        if record.image is not None and not group:
            if record.image in seen:
                raise _fault(path, record.line, "image", f"records of {record.image} are not consecutive")
            seen.add(record.image)
        group.append(record)
    if not group:
        raise StudyError(f"{path}: no records")
    yield PictureRecords(group[0].image, tuple(group))
