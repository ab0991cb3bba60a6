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
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from encoder_roles.data.llava import IMAGE_MARKER, SPEAKERS, Record, check_record, parse_json
from encoder_roles.provenance import atomic_folder, read_jsonl, sha256_of, write_jsonl
from encoder_roles.sources.checked_conversations import ConversationCheck, ConversationError
from encoder_roles.sources.checked_pictures import PictureCheck
from encoder_roles.sources.lock import locked_records
from encoder_roles.sources.record_faults import WRONG, RecordFault, in_words, write_counts, write_list
from encoder_roles.study.names import DataError, StudyError
from encoder_roles.study.stages import RecordStage, read_settings

NO_PICTURE = ("", "None", "none", "nan")  # as text, which is also how JSON's null and NaN are compared


def stage_records(
    *, settings: Path, lock: Path, name: str, output: Path, language_model: Path | None = None
) -> None:
    """Check the user's records and write them to `output`/{name}.jsonl, with paths relative to `output`.

    Every record must be one that training can learn from, and every picture must decode. What cannot be used
    stops the study (`on_fault: stop`) or is left out. {name}.faults.csv lists it: beside `output` if it stops
    the study, else in `output`, with the numbers in {name}.counts.csv. Beside `output`, .{name}.decoded
    remembers the pictures that decode.

    Args:
        settings: settings/records.json.
        lock: studies/<study>.lock.yaml, with the SHA-256 of the file.
        name: align, tune or probe.
        output: records/<name>.
        language_model: the staged language model, whose tokenizer renders the conversations; None for probe.

    Raises:
        StudyError: the file is missing or not the one that was locked; there is no record, or none is left;
            or, if `on_fault` is stop, a record or a picture cannot be used. `output` is not written then.
    """
    stage = read_settings(settings, RecordStage)
    request = stage.records[name]
    source = Path(request.records)
    expected = locked_records(lock, stage, name)
    if sha256_of(source) != expected:
        raise StudyError(
            f"{source}: not the file that {lock} has for {name}; fetch that file, or run lock_sources again"
        )
    conversations = None if language_model is None else ConversationCheck(language_model, stage.limits)
    outside = output.with_name(f"{name}.faults.csv")
    with atomic_folder(output) as folder, PictureCheck(output.with_name(f".{name}.decoded")) as pictures:
        staging = Staging(source, Path(request.pictures), output, name, pictures, conversations)
        records, list_file = folder / f"{name}.jsonl", folder / f"{name}.faults.csv"
        write_jsonl(records, staging.rows())
        faults = staging.finish()
        if faults and stage.on_fault == "stop":
            write_list(outside, faults)
            raise DataError(_complaint(source, faults, f"see {outside}"))
        outside.unlink(missing_ok=True)
        left_out = staging.leave_out(records)
        if not records.stat().st_size:
            write_list(outside, faults)
            raise DataError(_complaint(source, faults, f"see {outside}, and no other record is left"))
        write_list(list_file, faults)
        write_counts(folder / f"{name}.counts.csv", name, records, left_out, list_file)


def _complaint(source: Path, faults: list[RecordFault], where: str) -> str:
    """One line about faults: how many for each reason, where they are listed, and the first."""
    counts = in_words(Counter(fault.reason for fault in faults))
    pictures = sum(fault.picture is not None for fault in faults)
    numbers = [(len(faults) - pictures, "record"), (pictures, "picture")]
    nouns = " and ".join(f"{n} {noun}{'s' if n > 1 else ''}" for n, noun in numbers if n)
    return f"{source}: {nouns} cannot be used ({counts}), {where}; the first is {faults[0]}"


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


class Staging:
    """The records of one file as training reads them, and what is wrong with the others.

    Args:
        source: the user's file.
        pictures: the folder of its pictures.
        output: the folder that the staged paths are relative to.
        name: align, tune or probe.
        check: decodes the pictures.
        conversations: renders the conversations; None: they are not rendered.
    """

    def __init__(
        self,
        source: Path,
        pictures: Path,
        output: Path,
        name: str,
        check: PictureCheck,
        conversations: ConversationCheck | None,
    ) -> None:
        self.source, self.pictures, self.output, self.name = source, pictures, output, name
        self.check, self.conversations = check, conversations
        self.faults: list[RecordFault] = []
        self.bad: dict[str, str] = {}  # a picture as staged -> the reason why it cannot be used

    def rows(self) -> Iterator[dict[str, Any]]:
        """The records that can be learnt from; their pictures are still being decoded."""
        rows = read_rows(self.source)
        for number, row in enumerate(
            tqdm(rows, desc=f"checking {self.name}", unit="record", file=sys.stderr, disable=None), 1
        ):
            try:
                staged = self._stage(number, _plain(row, number))
            except DataError as error:
                reason = error.reason if isinstance(error, ConversationError) else WRONG
                detail = str(error).removeprefix(f"{self.source}, ")
                self.faults.append(RecordFault(number, reason, detail))
                continue
            if "image" in staged:
                picture = self.pictures / staged["image"]
                self.check.add(picture, number)
                staged["image"] = self._relative(picture)
            yield staged

    def _stage(self, number: int, row: Any) -> dict[str, Any]:
        if self.name == "probe":
            return _probe(self.source, number, row)
        record = check_record(self.source, number, row, unit="record")
        if self.conversations is not None:
            try:
                self.conversations.check(record)
            except ConversationError as error:
                raise ConversationError(error.reason, f"record {number}: {error}") from None
        return _record(record, row)

    def _relative(self, picture: Path) -> str:
        place = picture.parent.resolve() / picture.name  # `..` of a relative path crosses no link as written
        return os.path.relpath(place, self.output.resolve())

    def finish(self) -> list[RecordFault]:
        """Wait for the last picture; all faults in the order of the records."""
        for bad in self.check.finish():
            self.bad[self._relative(bad.picture)] = bad.error.reason
            self.faults.append(RecordFault(bad.record, bad.error.reason, bad.error.detail, bad.picture))
        self.faults.sort(key=lambda fault: fault.record)
        return self.faults

    def leave_out(self, records: Path) -> dict[str, int]:
        """Remove the records about bad pictures from the staged file; reason -> all records left out."""
        counts = Counter(fault.reason for fault in self.faults if fault.picture is None)
        if self.bad:
            counts += Counter(self.bad.get(row.get("image", ""), "") for row in read_jsonl(records))
            del counts[""]
            rows = (row for row in read_jsonl(records) if row.get("image") not in self.bad)
            write_jsonl(records, rows)
        return dict(counts)


def _record(record: Record, row: dict[str, Any]) -> dict[str, Any]:
    """One record to train on."""
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
