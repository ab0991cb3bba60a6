"""Requests: the questions for every model, rendered once by lmms-eval's task code, hashed, and never changed.

Prompts affect scores, so they are data here. Prediction jobs read them and do not import lmms-eval. Scoring
stops if the bytes of the requests are not those of their manifest.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoder_roles.benchmarks.table import (
    ANSWER_TOKENS,
    LMMS_EVAL,
    category_of,
    cluster_of,
    find_benchmark,
)
from encoder_roles.provenance import (
    atomic_folder,
    read_jsonl,
    sha256_of,
    write_json,
    write_jsonl,
    write_rows,
)
from encoder_roles.study.names import StudyError
from encoder_roles.study.stages import RequestStage, read_settings

MANIFEST = "manifest.json"
CATEGORIES = "categories.csv"
CATEGORY_COLUMNS = ("benchmark", "question", "category")
FIELDS = {"id": str, "cluster": str, "prompt": str, "images": list, "max_new_tokens": int}


@dataclass(frozen=True)
class Request:
    """One question as a model reads it; `images` are relative to the requests' folder."""

    id: str
    cluster: str
    prompt: str
    images: tuple[str, ...]
    max_new_tokens: int


def write_requests(*, settings: Path, data: Path, output: Path) -> None:
    """Render the questions of every benchmark of the study into `output`.

    Writes {benchmark}.jsonl, images/{sha256}.png (equal pictures once), manifest.json, and categories.csv:
    the skill, or the benchmark's own category, of every question.

    Args:
        settings: a RequestStage.
        data: a folder with benchmarks/{benchmark}/{split}.parquet.
        output: the folder to write, whole or not at all.

    Raises:
        StudyError: a benchmark belongs to no group, data are missing or unreadable, or a picture is damaged.
    """
    stage = read_settings(settings, RequestStage)
    names, split = stage.benchmarks, stage.split
    for name in names:
        find_benchmark(name)
    with atomic_folder(output) as folder:
        pictures = PictureFolder(folder / "images")
        manifest, categories = {}, []
        for name in names:
            parquet = benchmark_file(data, name, split)
            rendered = list(_render(name, parquet, pictures))
            rows = [row for row, _ in rendered]
            categories += [
                {"benchmark": name, "question": row.id, "category": category} for row, category in rendered
            ]
            write_jsonl(folder / f"{name}.jsonl", (vars(row) for row in rows))
            manifest[name] = _describe(name, rows, split, folder / f"{name}.jsonl", parquet)
        write_rows(folder / CATEGORIES, CATEGORY_COLUMNS, categories)
        write_json(folder / MANIFEST, manifest)


def benchmark_file(data: Path, benchmark: str, split: str) -> Path:
    """The file of a benchmark's rows in the study's data. Raises StudyError if it is missing."""
    parquet = data / "benchmarks" / benchmark / f"{split}.parquet"
    if not parquet.is_file():
        raise StudyError(f"{parquet}: no such file; make the data of benchmark {benchmark} first")
    return parquet


def encode_picture(picture: Any) -> tuple[str, bytes]:
    """The name of a PIL picture among the requests, by the hash of its bytes, and these bytes: a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return hashlib.sha256(buffer.getvalue()).hexdigest()[:16] + ".png", buffer.getvalue()


class PictureFolder:
    """A folder of pictures named by the hash of their bytes, each encoded and written once."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._names: dict[bytes, str] = {}

    def add(self, picture: Any) -> str:
        """Write a PIL picture as PNG, equal pixels once. Returns the path relative to the requests."""
        pixels = f"{picture.mode} {picture.size} ".encode() + picture.tobytes()
        key = hashlib.sha256(pixels).digest()
        if key not in self._names:
            name, png = encode_picture(picture)
            (self._folder / name).write_bytes(png)
            self._names[key] = f"{self._folder.name}/{name}"
        return self._names[key]


def _render(name: str, parquet: Path, pictures: PictureFolder) -> Iterator[tuple[Request, str]]:
    """The requests of one benchmark and their categories, in the order of its rows."""
    from encoder_roles.data.pictures import plain_pictures
    from encoder_roles.evaluation.harness import damaged_picture, load_task

    task = load_task(find_benchmark(name), parquet, with_pictures=True)
    limit = task.lmms.config.generation_kwargs.get("max_new_tokens", ANSWER_TOKENS)
    for place, id in enumerate(task.ids):
        try:
            row = plain_pictures(task.rows[place])
            shown = tuple(pictures.add(picture) for picture in task.lmms.doc_to_visual(row))
        except (OSError, SyntaxError, ValueError) as error:
            raise damaged_picture(parquet, id, error) from error
        cluster = cluster_of(task.benchmark, row, shown)
        request = Request(id, cluster, task.lmms.doc_to_text(row), shown, min(limit, ANSWER_TOKENS))
        yield request, category_of(task.benchmark, row)


def _describe(name: str, rows: list[Request], split: str, path: Path, parquet: Path) -> dict[str, Any]:
    """The entry of one benchmark in the manifest."""
    benchmark = find_benchmark(name)
    return {
        "task": benchmark.task,
        "group": benchmark.group,
        "metric": benchmark.metric,
        "n": len(rows),
        "clusters": len({row.cluster for row in rows}),
        "sha256": sha256_of(path),
        "split": split,
        "data_sha256": sha256_of(parquet),
        "lmms_eval": LMMS_EVAL,
    }


def read_manifest(requests: Path) -> dict[str, dict[str, Any]]:
    """The manifest of a requests folder.

    Raises StudyError if it is missing or damaged, or names an unknown benchmark.
    """
    path = requests / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise StudyError(f"{path}: not a readable manifest of requests: {error}") from error
    for name in manifest:
        find_benchmark(name)
    return dict(manifest)


def read_requests(requests: Path, benchmark: str) -> list[Request]:
    """The requests of one benchmark. Raises StudyError if they do not match the manifest."""
    manifest = read_manifest(requests)
    path = requests / f"{benchmark}.jsonl"
    if benchmark not in manifest:
        raise StudyError(f"{requests / MANIFEST}: benchmark {benchmark!r} has no requests in it")
    if not path.is_file() or sha256_of(path) != manifest[benchmark]["sha256"]:
        raise StudyError(f"{path}: its bytes are not those of {MANIFEST}; write the requests again")
    rows = []
    for number, row in enumerate(read_jsonl(path), 1):
        if set(row) != set(FIELDS) or not all(isinstance(row[key], kind) for key, kind in FIELDS.items()):
            raise StudyError(f"{path}, line {number}: a request has exactly the fields {', '.join(FIELDS)}")
        rows.append(Request(**(row | {"images": tuple(row["images"])})))
    return rows
