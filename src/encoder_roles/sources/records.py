"""A user's training and probe data: checked once, then read like the procedural world's.

LLaVA's and Cambrian-1's records come as one JSON file, one record a line or one long list, beside folders of
pictures. The study's lock pins the file by its SHA-256. Two habits of these files are read as their loaders
do. A first turn of the model is skipped, and so is a last question without an answer: nothing is learnt from
either (LLaVA, llava/train/train.py, preprocess_v1). Words may say that there is no picture (Cambrian-1,
cambrian/train/train_fsdp.py, _has_image).
"""

from __future__ import annotations

import json
import os
import sys
from codecs import BOM_UTF8
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from encoder_roles.data.llava import IMAGE_MARKER, SPEAKERS, check_record, parse_json
from encoder_roles.provenance import atomic_folder, sha256_of, write_jsonl
from encoder_roles.sources.checked_pictures import BadPicture, PictureCheck, report
from encoder_roles.sources.lock import locked_records
from encoder_roles.study.names import DataError, StudyError
from encoder_roles.study.stages import LockStage, read_settings

NO_PICTURE = ("", "None", "none", "nan")  # as text, which is also how JSON's null and NaN are compared


def stage_records(*, settings: Path, lock: Path, name: str, output: Path) -> None:
    """Check the user's records and write them to `output`/{name}.jsonl, with paths relative to `output`.

    Every record must be one that training can learn from, and every picture must decode. Beside `output`,
    {name}.bad_pictures.csv lists the pictures that do not, and .{name}.decoded remembers those that do.

    Args:
        settings: settings/lock.json.
        lock: studies/<study>.lock.yaml, with the SHA-256 of the file.
        name: align, tune or probe.
        output: records/<name>.

    Raises:
        StudyError: the file is missing or not the one that was locked, there is no record or a wrong one, or
            a picture cannot be used; nothing is written but the list of such pictures.
    """
    stage = read_settings(settings, LockStage)
    request = stage.records[name]
    source = Path(request.records)
    expected = locked_records(lock, stage, name)
    if sha256_of(source) != expected:
        raise StudyError(
            f"{source}: not the file that {lock} has for {name}; fetch that file, or run lock_sources again"
        )
    with atomic_folder(output) as folder, PictureCheck(output.with_name(f".{name}.decoded")) as check:
        staged = _staged(source, Path(request.pictures), output, name, check)
        write_jsonl(folder / f"{name}.jsonl", staged)
        _refuse_bad(source, check.finish(), output.with_name(f"{name}.bad_pictures.csv"))


def _refuse_bad(source: Path, bad: list[BadPicture], list_file: Path) -> None:
    """Raise DataError and write the list if there are bad pictures; else remove an old list."""
    if not bad:
        list_file.unlink(missing_ok=True)
        return
    counts = report(bad, list_file)
    raise DataError(
        f"{source}: {len(bad)} of its pictures cannot be used ({counts}), see {list_file}; "
        f"the first is of record {bad[0].record}: {bad[0].error}"
    )


def read_rows(path: Path) -> Iterator[Any]:
    """The records of a JSON list, or of a file with one a line: UTF-8, empty lines and a mark of it allowed.

    Raises StudyError on what is neither, and on a file without records.
    """
    rows = 0
    try:
        with path.open("rb") as file:
            start = len(BOM_UTF8) if file.read(len(BOM_UTF8)) == BOM_UTF8 else 0
            file.seek(start)
            first = next((line for line in file if line.strip()), b"")
            file.seek(start)
            lines = enumerate(file, 1)
            values = (parse_json(path, number, line) for number, line in lines if line.strip())
            for row in _list(path, file.read()) if first.lstrip().startswith(b"[") else values:
                rows += 1
                yield row
    except OSError as error:
        raise StudyError(f"{path}: cannot be read as records ({error})") from error
    if not rows:
        raise DataError(f"{path}: no records; is it the right file?")


def _list(path: Path, text: bytes) -> list[Any]:
    """The records of a JSON list."""
    try:
        rows = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise DataError(f"{path}: cannot be read as records ({error})") from error
    assert isinstance(rows, list)  # it begins with [
    return rows


def _staged(
    source: Path, pictures: Path, output: Path, name: str, check: PictureCheck
) -> Iterator[dict[str, Any]]:
    """The records as training reads them. Each is held against what training needs, its picture checked."""
    rows = tqdm(read_rows(source), desc=f"checking {name}", unit="record", file=sys.stderr, disable=None)
    for number, row in enumerate(rows, 1):
        row = _plain(row, number)
        staged = _probe(source, number, row) if name == "probe" else _record(source, number, row)
        if "image" in staged:
            picture = pictures / staged["image"]
            check.add(picture, number)
            place = (
                picture.parent.resolve() / picture.name
            )  # `..` of a relative path crosses no link as written
            staged["image"] = os.path.relpath(place, output.resolve())
        yield staged


def _record(source: Path, number: int, row: Any) -> dict[str, Any]:
    """One record to train on."""
    record = check_record(source, number, row, unit="record")
    image = {} if record.image is None else {"image": record.image}
    turns = [{"from": turn["from"], "value": turn["value"]} for turn in row["conversations"]]
    return {"id": record.id, **image, "conversations": turns}


def _probe(source: Path, number: int, row: Any) -> dict[str, Any]:
    """One record of a picture to probe with: all else but its id is left out."""
    turns = [{"from": SPEAKERS[0], "value": IMAGE_MARKER}, {"from": SPEAKERS[1], "value": "-"}]
    if not isinstance(row, dict) or not isinstance(row.get("image"), str):
        raise DataError(f"{source}, record {number}, key 'image': expected a picture's path")
    record = check_record(source, number, row | {"conversations": turns}, unit="record")
    return {"id": record.id, "image": record.image}


def _plain(row: Any, number: int) -> Any:
    """A record as LLaVA's and Cambrian-1's loaders read it: from a question to an answer, and without the key
    of a picture where there is none. A list of one picture, also under the key `images`, is that picture. A
    record without an id gets its place. What is no record stays as it is."""
    if not isinstance(row, dict):
        return row
    row = dict(row)
    if row.get("image") is None and "images" in row:
        row["image"] = row.pop("images")
    if isinstance(row.get("image"), list) and len(row["image"]) < 2:
        row["image"] = row["image"][0] if row["image"] else None
    if row.get("id") is None or row["id"] != row["id"]:  # NaN: pandas' missing value
        row["id"] = number
    if str(row.get("image")) in NO_PICTURE:
        row.pop("image", None)
    turns = row.get("conversations")
    if isinstance(turns, list):
        speakers = [turn.get("from") if isinstance(turn, dict) else None for turn in turns]
        start = int(speakers[:1] == [SPEAKERS[1]])
        stop = len(turns) - int(len(turns) > start and speakers[-1] == SPEAKERS[0])
        row["conversations"] = turns[start:stop]
    return row
