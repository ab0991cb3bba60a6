"""Benchmark rows as parquet in the public data sets' schemas, readable by `datasets` and by lmms-eval's task
code.

Only the columns that the tasks read, and those that name a row, are here; types are the public data sets'.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from encoder_roles.benchmarks.table import SKILL, Benchmark
from encoder_roles.provenance import atomic_file
from encoder_roles.study.names import StudyError

# a column's type: a name of this table, [name] for a list, or a dictionary of columns for a struct
ARROW = {
    "string": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "image": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
}
Kind = str | list[str] | dict[str, Any]


def _strings(*names: str) -> dict[str, Kind]:
    return dict.fromkeys(names, "string")


_CV_BENCH: dict[str, Kind] = {
    "idx": "int64",
    **_strings("type", "task"),
    "image": "image",
    "question": "string",
    "choices": ["string"],
    **_strings("answer", "prompt", "source"),
}
SCHEMAS: dict[str, dict[str, Kind]] = {
    "mme": {"question_id": "string", "image": "image", **_strings("question", "answer", "category")},
    "mmbench": {
        "index": "int64",
        **_strings("question", "hint", "A", "B", "C", "D", "answer", "category"),
        "image": "image",
        **_strings("source", "L2-category", "split"),
    },
    "seed": {
        **_strings("answer", "choice_a", "choice_b", "choice_c", "choice_d", "data_type", "question"),
        **_strings("question_id", "question_type_id"),
        "image": ["image"],
    },
    "gqa": {**_strings("id", "imageId", "question", "answer"), "image": "image"},
    "scienceqa": {
        "image": "image",
        "question": "string",
        "choices": ["string"],
        "answer": "int64",
        "hint": "string",
    },
    "mmmu": {
        **_strings("id", "question", "options"),
        **{f"image_{i}": "image" for i in range(1, 8)},
        **_strings("answer", "question_type"),
    },
    "mathvista": {
        **_strings("pid", "question"),
        "decoded_image": "image",
        "choices": ["string"],
        "unit": "string",
        "precision": "float64",
        **_strings("answer", "question_type", "answer_type"),
        "metadata": {
            **_strings("category", "context", "grade", "language"),
            "skills": ["string"],
            **_strings("source", "split", "task"),
        },
        "query": "string",
    },
    "ai2d": {"question": "string", "options": ["string"], "answer": "string", "image": "image"},
    "chartqa": {**_strings("type", "question", "answer"), "image": "image"},
    "ocrbench": {**_strings("dataset", "question", "question_type"), "answer": ["string"], "image": "image"},
    "textvqa": {"question_id": "int64", "question": "string", "image": "image", "answers": ["string"]},
    "docvqa": {**_strings("questionId", "question"), "image": "image", "answers": ["string"]},
    "mmvp": {"Index": "int64", **_strings("Question", "Options", "Correct Answer"), "image": "image"},
    "realworldqa": {"image": "image", **_strings("question", "answer")},
    "cvbench2d": _CV_BENCH,
    "cvbench3d": _CV_BENCH,
}


def write_rows(path: Path, benchmark: str, rows: Sequence[dict[str, Any]]) -> None:
    """Write a benchmark's rows; a picture is `picture_cell(...)`, a missing column is null.

    Rows of the procedural world also have the column SKILL. Raises StudyError on a column that the benchmark
    does not have or a value of another type.
    """
    schema = SCHEMAS[benchmark] | ({SKILL: "string"} if any(SKILL in row for row in rows) else {})
    for number, row in enumerate(rows):
        if unknown := sorted(set(row) - set(schema)):
            raise StudyError(
                f"benchmark {benchmark}, row {number}: no columns {unknown} (known: {list(schema)})"
            )
    try:
        table = pa.Table.from_pylist(
            list(rows),
            pa.schema(
                [(c, _arrow(k)) for c, k in schema.items()],
                metadata=_metadata({c: _feature(k) for c, k in schema.items()}),
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise StudyError(
            f"benchmark {benchmark}: a value has another type than its column: {error}"
        ) from error
    _write(path, table)


def write_public_rows(path: Path, benchmark: str, table: pa.Table) -> None:
    """Write a public data set's rows: the columns that are read, in its own types, pictures marked as such.

    Raises StudyError on a column of pictures that holds something else.
    """
    import datasets  # slow to import, and the procedural world's rows need none of it

    schema = SCHEMAS[benchmark]
    table = table.select(list(schema))
    for column in picture_columns(benchmark):
        found = table.schema.field(column).type
        if schema[column] == ["image"] and pa.types.is_list(found):
            found = found.value_type
        if not pa.types.is_struct(found) or {field.name for field in found} != {"bytes", "path"}:
            raise StudyError(f"benchmark {benchmark}: column {column!r} holds {found}, not pictures")
    features = datasets.Features.from_arrow_schema(pa.schema(list(table.schema))).to_dict()
    features |= {column: _feature(schema[column]) for column in picture_columns(benchmark)}
    _write(path, table.replace_schema_metadata(_metadata(features)))


def kept_rows(benchmark: Benchmark, table: pa.Table) -> pa.Table:
    """The rows of a data set that are part of the benchmark."""
    if not benchmark.keep:
        return table
    column, values = benchmark.keep
    return table.filter(pc.is_in(table.column(column), value_set=pa.array(values)))


def _metadata(features: dict[str, Any]) -> dict[str, str]:
    """Where `datasets` looks for a parquet file's types: what is a picture, and what only bytes."""
    return {"huggingface": json.dumps({"info": {"features": features}})}


def _write(path: Path, table: pa.Table) -> None:
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=256)


def picture_cell(name: str, png: bytes) -> dict[str, Any]:
    """The value of an `image` column."""
    return {"bytes": png, "path": name}


def picture_columns(benchmark: str) -> list[str]:
    """The columns that hold a picture, or a list of pictures, first the one that always does."""
    return [column for column, kind in SCHEMAS[benchmark].items() if kind in ("image", ["image"])]


def _arrow(kind: Kind) -> pa.DataType:
    if isinstance(kind, dict):
        return pa.struct([(column, _arrow(inner)) for column, inner in kind.items()])
    return pa.list_(_arrow(kind[0])) if isinstance(kind, list) else ARROW[kind]


def _feature(kind: Kind) -> dict[str, Any]:
    """The type in datasets' own JSON."""
    if isinstance(kind, dict):
        return {column: _feature(inner) for column, inner in kind.items()}
    if isinstance(kind, list):
        return {"_type": "List", "feature": _feature(kind[0])}
    return {"_type": "Image"} if kind == "image" else {"_type": "Value", "dtype": kind}
