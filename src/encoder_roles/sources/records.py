"""Training and probe data of a user's own: checked once, then read like the procedural world's.

LLaVA's and Cambrian-1's records come as one JSON file, a line a record or one long list, beside folders of
pictures. What they are is pinned by the file's SHA-256 in the study's lock. Two habits of theirs are read as
their own loaders do: a first turn of the model's is passed over, as is a last question without an answer, of
which nothing is learnt (LLaVA, llava/train/train.py, preprocess_v1), and a picture may be said to be none in
words (Cambrian-1, cambrian/train/train_fsdp.py, _has_image).
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

NO_PICTURE = ("", "None", "none", "nan")  # as text; JSON's null and NaN are written so too


def stage_records(*, settings: Path, lock: Path, name: str, output: Path) -> None:
    """Write records that were checked to `output`/{name}.jsonl, their pictures' paths relative to `output`.

    Every record must be one that training can learn from, and every picture must be there; pictures are not
    opened.

    Args:
        settings: settings/lock.json.
        lock: studies/<study>.lock.yaml, which has the file's SHA-256.
        name: align, tune or probe.
        output: data/own/<name>.

    Raises:
        StudyError: the file is missing or not the one that was locked, a record is wrong, or a picture is
            missing; nothing is written.
    """
    stage = read_settings(settings, LockStage)
    asked = stage.records[name]
    source, pictures = Path(asked.records), Path(asked.pictures)
    expected = locked_records(lock, stage, name)
    if sha256_of(source) != expected:
        raise StudyError(
            f"{source}: not the file that {lock} has for {name}; fetch that one, or run lock_sources again"
        )
    rows = tqdm(read_rows(source), desc=name, unit="record", file=sys.stderr, disable=None)
    with atomic_folder(output) as folder:
        staged = (_staged(source, number, row, pictures, output, name) for number, row in enumerate(rows, 1))
        write_jsonl(folder / f"{name}.jsonl", staged)


def read_rows(path: Path) -> Iterator[Any]:
    """The records of a JSON list, or of a file with one a line. Raises StudyError on what is neither."""
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
    """One record as training reads it, held against what training needs."""
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
        raise StudyError(f"{source}, record {number}: no such picture as {picture}")
    place = picture.parent.resolve() / picture.name  # `..` of a relative path crosses no link as written
    return {**kept, "image": os.path.relpath(place, output.resolve())}


def _plain(row: Any, number: int) -> Any:
    """A record as LLaVA's and Cambrian-1's loaders understand it: with an id, from a question to an answer,
    and without a picture's key where there is no picture. What is no record is given back."""
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
