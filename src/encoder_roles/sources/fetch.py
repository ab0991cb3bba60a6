"""Fetching pretrained checkpoints and benchmarks, at the commits of the study's lock."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from encoder_roles.benchmarks.rows import SCHEMAS, kept_rows, write_public_rows
from encoder_roles.benchmarks.table import Benchmark, find_benchmark
from encoder_roles.provenance import atomic_folder, sha256_of, write_text
from encoder_roles.sources.hub import fetch_files
from encoder_roles.sources.lock import locked_source
from encoder_roles.study.names import StudyError
from encoder_roles.study.stages import LockStage, read_settings

CHECKSUMS = "SHA256SUMS"


def fetch_source(*, settings: Path, lock: Path, source: str, output: Path) -> None:
    """Fetch a pretrained checkpoint into a folder, and write the SHA256SUMS that staging checks.

    Args:
        settings: settings/lock.json.
        lock: studies/<study>.lock.yaml.
        source: its name in the lock: encoders/<encoder> or language_model.
        output: the folder to make.

    Raises:
        StudyError: the lock does not have the source as the study requests it, or a file differs from it.
    """
    locked = locked_source(lock, read_settings(settings, LockStage), source)
    with atomic_folder(output) as folder:
        files = fetch_files(source, locked, folder)
        sums = "".join(f"{sha256_of(file)}  {file.relative_to(folder).as_posix()}\n" for file in files)
        write_text(folder / CHECKSUMS, sums)


def fetch_benchmark(*, settings: Path, lock: Path, benchmark: str, output: Path) -> None:
    """Fetch the split of a public benchmark and write its rows in the columns that the task code reads.

    Args:
        settings: settings/lock.json.
        lock: studies/<study>.lock.yaml.
        benchmark: the name of one of the sixteen benchmarks.
        output: data/benchmarks/<benchmark>/test.parquet.

    Raises:
        StudyError: the lock does not have the benchmark as the study requests it, a file differs from it, a
            column is missing, or the number of questions differs from the published one.
    """
    row, stage = find_benchmark(benchmark), read_settings(settings, LockStage)
    locked = {name: locked_source(lock, stage, name) for name in row.hub_sources}
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        parts = []
        for place, (name, source) in enumerate(locked.items()):
            (part := Path(folder) / str(place)).mkdir()
            parts.append(read_parquet(fetch_files(name, source, part)))
        table = join_images(*parts) if row.images else parts[0]
        commit = locked[f"benchmarks/{benchmark}"].commit[:12]
        write_public_rows(output, benchmark, asked_rows(row, table, f"{row.source}@{commit}"))


def read_parquet(files: list[Path]) -> pa.Table:
    """The rows of a split's files, in the order of their names. Raises StudyError if one is not readable."""
    try:
        return pa.concat_tables([pq.read_table(file) for file in sorted(files)], promote_options="permissive")
    except (OSError, pa.ArrowException) as error:
        raise StudyError(f"{files[0]}: not a readable parquet file ({error}); fetch it again") from error


def join_images(questions: pa.Table, images: pa.Table) -> pa.Table:
    """For GQA: add the picture of each question, by imageId. Raises StudyError if one is missing."""
    place = {str(id): number for number, id in enumerate(images.column("id").to_pylist())}
    wanted = [str(id) for id in questions.column("imageId").to_pylist()]
    if missing := sorted(set(wanted) - set(place)):
        raise StudyError(f"gqa: picture {missing[0]!r} of a question is missing, and {len(missing) - 1} more")
    taken = images.column("image").take(pa.array([place[id] for id in wanted]))
    return questions.append_column("image", taken)


def asked_rows(benchmark: Benchmark, table: pa.Table, where: str) -> pa.Table:
    """The rows to ask. Raises StudyError unless their number is that of the public data set."""
    if missing := [c for c in SCHEMAS[benchmark.name] if c not in table.column_names]:
        raise StudyError(f"{where}: benchmark {benchmark.name} needs the columns {missing}")
    kept = kept_rows(benchmark, table)
    if len(kept) != benchmark.questions:
        raise StudyError(
            f"{where}: {len(kept):,} questions of benchmark {benchmark.name}, not the {benchmark.questions:,}"
            " that published scores are measured on; lock another revision"
        )
    return kept
