"""Training and probe data of the user: checked once, then read like the data of the procedural world.

LLaVA's and Cambrian-1's records come as one JSON file, one record per line or one list, beside folders of
pictures. The study's lock pins the file by its SHA-256. Two special cases are read as in their loaders.
A first turn of the model and a last question without an answer are skipped (LLaVA, llava/train/train.py,
preprocess_v1). A word such as "None" can stand for no picture (Cambrian-1, cambrian/train/train_fsdp.py,
_has_image).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from encoder_roles.data.llava import SPEAKERS, parse_record
from encoder_roles.provenance import atomic_folder, sha256_of, write_jsonl
from encoder_roles.sources.lock import locked_records
from encoder_roles.study.names import StudyError
from encoder_roles.study.stages import LockStage, read_settings

NO_PICTURE = ("", "None", "none", "nan")  # as text, which is also how JSON's null and NaN are compared


def stage_records(*, settings: Path, lock: Path, name: str, output: Path) -> None:
    """Check the user's records and write them to `output`/{name}.jsonl, with paths relative to `output`.

    Training must be able to learn from every record, and every picture must exist. Pictures are not opened.

    Args:
        settings: settings/lock.json.
        lock: studies/<study>.lock.yaml, with the SHA-256 of the file.
        name: align, tune or probe.
        output: data/own/<name>.

    Raises:
        StudyError: the file is missing or differs from the lock, a record is wrong, or a picture is missing.
            Nothing is written then.
    """
    stage = read_settings(settings, LockStage)
    files = stage.records[name]
    source, pictures = Path(files.records), Path(files.pictures)
    expected = locked_records(lock, stage, name)
    if sha256_of(source) != expected:
        raise StudyError(
            f"{source}: not the file that {lock} has for {name}; fetch that file, or run lock_sources again"
        )
    rows = tqdm(read_rows(source), desc=name, unit="record", file=sys.stderr, disable=None)
    with atomic_folder(output) as folder:
        staged = (_staged(source, number, row, pictures, output, name) for number, row in enumerate(rows, 1))
        write_jsonl(folder / f"{name}.jsonl", staged)


def read_rows(path: Path) -> Iterator[Any]:
    """The records of a JSON list, or of a file with one per line. Raises StudyError if it is neither."""
    try:
        with path.open(encoding="utf-8") as file:
            start = file.read(1)
            file.seek(0)
            if start == "[":
                yield from json.load(file)
                return
            for number, line in enumerate(file, 1):
                try:
                    yield json.loads(line)
                except json.JSONDecodeError as error:
                    raise StudyError(f"{path}, line {number}: not JSON ({error})") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as records ({error})") from error


def _staged(source: Path, number: int, row: Any, pictures: Path, output: Path, name: str) -> dict[str, Any]:
    """One record as training reads it. Raises StudyError if training cannot use it."""
    kept: dict[str, Any]
    if name == "probe":
        if not isinstance(row, dict) or not isinstance(row.get("image"), str):
            raise StudyError(f"{source}, record {number}, key 'image': expected a picture's path")
        kept = {"id": str(row.get("id", number)), "image": row["image"]}
    else:
        row = _plain(row, number)
        record = parse_record(source, number, json.dumps(row))
        kept = {"id": record.id} | {key: row[key] for key in ("image", "conversations") if key in row}
    if "image" not in kept:
        return kept
    picture = pictures / str(kept["image"])
    if not picture.is_file():
        raise StudyError(f"{source}, record {number}: picture {picture} is missing")
    return {**kept, "image": os.path.relpath(picture, output)}


def _plain(row: Any, number: int) -> Any:
    """A record as LLaVA's and Cambrian-1's loaders read it.

    It has an id, begins with a question and ends with an answer, and has no key `image` without a picture. A
    value that is not a record is returned unchanged.
    """
    if not isinstance(row, dict):
        return row
    row = {"id": number} | row
    if str(row.get("image")) in NO_PICTURE:
        row.pop("image", None)
    turns = row.get("conversations")
    if isinstance(turns, list):
        speakers = [turn.get("from") if isinstance(turn, dict) else None for turn in turns]
        start = int(speakers[:1] == [SPEAKERS[1]])
        stop = len(turns) - int(len(turns) > start and speakers[-1] == SPEAKERS[0])
        row["conversations"] = turns[start:stop]
    return row
