"""Atomic writes, hashes and versions, by which every result can be checked."""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

RECORDED_PACKAGES = (
    "torch",
    "transformers",
    "open_clip_torch",
    "timm",
    "numpy",
    "pandas",
    "lmms_eval",
    "snakemake",
)
PICKLED = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
)  # formats of weights that are never read
WRITTEN: list[Path] = []  # what this process has written, files and folders; a job hashes it at its end


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; if the block succeeds rename it to `path`, else remove it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        give_usual_mode(temporary)
        temporary.replace(path)
        WRITTEN.append(path)
    finally:
        temporary.unlink(missing_ok=True)


def give_usual_mode(path: Path) -> None:
    """Give a file, or all files of a folder, the permissions that the umask grants a new file there.

    safetensors writes through a temporary file that only its owner may read, whatever the umask says. No
    permission is taken away.
    """
    name = f"{path.name}.mode"  # no other process writes to this path
    probe = path / name if path.is_dir() else path.with_name(name)
    probe.touch()
    usual = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for file in path.rglob("*") if path.is_dir() else (path,):
        mode = file.lstat().st_mode
        if stat.S_ISREG(mode) and stat.S_IMODE(mode) & usual != usual:
            file.chmod(stat.S_IMODE(mode) | usual)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """As `atomic_file`, for a folder: `path` appears complete or not at all, and replaces an old folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        give_usual_mode(temporary)
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
        WRITTEN.append(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, with sorted keys and a final newline: equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write one JSON object per line, atomically."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_rows(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a CSV table from mappings, atomically. Raises ValueError if a row has an unknown column."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_table(path: Path, table: pd.DataFrame, float_format: str | None = "%.8g") -> None:
    """Write a data frame as CSV without its index, atomically."""
    with atomic_file(path) as temporary:
        table.to_csv(temporary, index=False, float_format=float_format, lineterminator="\n")


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Read one JSON object per line."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digests(files: Sequence[Path]) -> dict[str, str]:
    """File -> SHA-256, in a thread per core: hashing releases the interpreter lock."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(map(str, files), pool.map(sha256_of, files), strict=True))


def key_of(value: Any) -> str:
    """A short stable key of a value that JSON can hold, for the names of folders."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that affect results, for training.json and the manifest."""
    recorded = {"python": platform.python_version(), "machine": platform.machine()}
    for package in RECORDED_PACKAGES:
        try:
            recorded[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue  # an environment holds only the packages of its stage
    return recorded
