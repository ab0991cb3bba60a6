"""lmms-eval's task objects over local parquet files: its prompts, parsers and metrics with our rows.

A task is built from the YAML file of lmms-eval; only the source of its rows is replaced. So nothing is
fetched, no cache outside the study is written, and the same code reads the laptop study's generated rows and
the public data sets.
"""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import encoder_roles.encoders._torchvision  # first: lmms-eval imports torchvision
import encoder_roles.evaluation._evaluate  # noqa: F401  # and evaluate
from encoder_roles.benchmarks.rows import SCHEMAS, kept_rows
from encoder_roles.benchmarks.table import LMMS_EVAL, Benchmark
from encoder_roles.study.names import StudyError

os.environ["API_TYPE"] = (
    "dummy"  # lmms-eval reads it at its import: no score may depend on the service of a judge
)

import datasets
import lmms_eval.tasks
from lmms_eval.api.task import ConfigurableTask
from lmms_eval.utils import load_yaml_config
from loguru import logger
from PIL import ImageFile

logger.disable("lmms_eval")
ImageFile.LOAD_TRUNCATED_IMAGES = False  # lmms-eval turns it on, which would accept truncated pictures


class LocalTask(ConfigurableTask):  # type: ignore[misc]  # lmms-eval is untyped
    """lmms-eval's task with given rows, without a download."""

    def __init__(self, config: dict[str, Any], rows: datasets.Dataset) -> None:
        self._rows = rows
        super().__init__(config=config)

    def download(self, dataset_kwargs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        """Use the given rows as the split that the task evaluates."""
        self.dataset = datasets.DatasetDict({self.config.test_split: self._rows})
        self.dataset_no_image = self.dataset


@dataclass(frozen=True)
class Task:
    """A benchmark's rows and lmms-eval's task for them. `ids` are the rows' numbers in the parquet file."""

    benchmark: Benchmark
    ids: tuple[str, ...]
    rows: datasets.Dataset
    lmms: LocalTask


def load_task(benchmark: Benchmark, parquet: Path, with_pictures: bool) -> Task:
    """The task for the rows of one parquet file that belong to this benchmark.

    Pictures are decoded when a row is read, or left out. Raises StudyError on another version of lmms-eval,
    an unreadable file, missing columns, columns without pictures, or no rows.
    """
    if (version := importlib.metadata.version("lmms_eval")) != LMMS_EVAL:
        raise StudyError(
            f"lmms-eval is {version}: prompts and parsers differ by version; install {LMMS_EVAL}"
        )
    table = read_rows(benchmark, parquet)
    ids = tuple(str(i) for i in table.column("__place").to_pylist())
    table = table.drop_columns("__place")
    features = datasets.Features.from_arrow_schema(table.schema)
    pictures = [name for name, kind in features.items() if _holds_pictures(kind)]
    if not pictures:
        raise StudyError(f"{parquet}: no column holds pictures (datasets' Image); columns: {list(features)}")
    if not with_pictures:
        table = table.drop_columns(pictures)
    rows = datasets.Dataset(table)
    path = Path(lmms_eval.tasks.__file__).parent / benchmark.file
    config = load_yaml_config(str(path))
    config |= {"dataset_path": "parquet", "dataset_name": None, "dataset_kwargs": None, "process_docs": None}
    config |= {"tag": []}
    try:
        return Task(benchmark, ids, rows, LocalTask(config, rows))
    except (OSError, SyntaxError, ValueError) as error:
        raise damaged_picture(parquet, ids[0], error) from error


def read_rows(benchmark: Benchmark, parquet: Path) -> pa.Table:
    """The benchmark's rows, with their numbers in the file as column `__place`.

    Raises StudyError if the file is unreadable, lacks a column or has no rows of the benchmark.
    """
    try:
        table = pq.read_table(parquet)
    except (OSError, pa.ArrowInvalid) as error:
        raise StudyError(f"{parquet}: not a readable parquet file: {error}") from error
    if missing := [c for c in SCHEMAS[benchmark.name] if c not in table.column_names]:
        raise StudyError(f"{parquet}: benchmark {benchmark.name} needs the columns {missing}")
    table = table.append_column("__place", pa.array(range(len(table)), pa.int64()))
    table = kept_rows(benchmark, table)
    if len(table) == 0:
        raise StudyError(f"{parquet}: no rows of benchmark {benchmark.name}")
    return table


def damaged_picture(parquet: Path, row: str, error: Exception) -> StudyError:
    """The error for a row whose picture cannot be decoded."""
    return StudyError(f"{parquet}: row {row}: damaged picture or row ({error}); make or fetch the file again")


def _holds_pictures(kind: Any) -> bool:
    return isinstance(getattr(kind, "feature", kind), datasets.Image)
