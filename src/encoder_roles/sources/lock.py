"""The lock of a study's hub sources: the commit of every source, the size and hash of every file.

`snakemake lock_sources` writes studies/<study>.lock.yaml once, with a network. Commit it: from then on, only
files that the lock describes are fetched.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml
from pydantic import Field, ValidationError
from tqdm import tqdm

from encoder_roles.benchmarks.table import find_benchmark
from encoder_roles.provenance import sha256_of, write_text
from encoder_roles.sources.locked import LockedSource
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import HubSource, Settings
from encoder_roles.study.stages import LockStage, read_settings

HEAD = "# Written by `snakemake lock_sources`: commit it. Every run fetches exactly these files or stops.\n"


class Lock(Settings):
    """A study's lock file: its hub sources, and the SHA-256 of the user's files of records."""

    study: str
    sources: dict[str, LockedSource]
    records: dict[str, str] = Field(default_factory=dict)


def lock_sources(*, settings: Path, output: Path) -> None:
    """Write the lock: the commit and files of every hub source, and the hashes of the user's records.

    Args:
        settings: settings/lock.json.
        output: studies/<study>.lock.yaml; it stays as it is if a source cannot be resolved.

    Raises:
        StudyError: the study has nothing to lock; a repository, revision, configuration or split does not
            exist or has no readable files; or a file of records is missing.
    """
    from encoder_roles.sources.hub import resolve_source

    stage = read_settings(settings, LockStage)
    requested = requested_sources(stage)
    if not requested and not stage.records:
        raise StudyError(
            f"study {stage.study}: nothing to lock; no source has a revision, and evaluation.data is not hub"
        )
    records = {name: records_hash(files.records) for name, files in stage.records.items()}
    names = tqdm(requested, desc="resolving", unit="source", file=sys.stderr, disable=None)
    sources = {name: resolve_source(name, requested[name]) for name in names}
    lock = Lock(study=stage.study, sources=sources, records=records)
    write_text(output, HEAD + yaml.safe_dump(lock.model_dump(mode="json"), sort_keys=True, width=110))


def records_hash(path: str) -> str:
    """SHA-256 of a file of records. Raises StudyError if it is missing."""
    if not Path(path).is_file():
        raise StudyError(f"{path}: no such file of records; fetch it, or correct training.data in the config")
    return sha256_of(Path(path))


def locked_records(path: Path, stage: LockStage, name: str) -> str:
    """The SHA-256 of a file of records in the lock. Raises StudyError if it is not locked."""
    records_hash(stage.records[name].records)  # report a missing file before a missing lock
    lock = read_lock(path)
    if lock.study != stage.study or name not in lock.records:
        raise StudyError(f"{path}: the records for {name} are not locked; run lock_sources, commit the lock")
    return lock.records[name]


def requested_sources(stage: LockStage) -> dict[str, HubSource]:
    """Everything that a study fetches from a hub, by name: encoders, language model, benchmarks."""
    sources = dict(stage.sources)
    for name in stage.benchmarks:
        sources |= find_benchmark(name).hub_sources
    return sources


def read_lock(path: Path) -> Lock:
    """A lock file. Raises StudyError if it is missing or damaged."""
    try:
        return Lock.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; run `snakemake lock_sources` with a network") from None
    except (OSError, yaml.YAMLError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"{path}: not a lock of sources ({reason:.200}); run lock_sources again") from None


def locked_source(path: Path, stage: LockStage, name: str) -> LockedSource:
    """One source of the lock at `path`. Raises StudyError unless the study still requests the same."""
    lock, requested = read_lock(path), requested_sources(stage)
    if lock.study != stage.study:
        raise StudyError(
            f"{path}: the lock of study {lock.study!r}, not of {stage.study!r}; run lock_sources"
        )
    if name not in requested:
        raise StudyError(f"source {name!r}: the study fetches no such source from a hub")
    if name not in lock.sources:
        raise StudyError(f"{path}: source {name!r} is not locked; run lock_sources again and commit the lock")
    locked = lock.sources[name]
    if locked.asked != requested[name]:
        then, now = locked.asked.model_dump(), requested[name].model_dump()
        key = next(key for key in now if now[key] != then[key])
        raise StudyError(
            f"{path}: source {name!r} was locked with {key} {then[key]!r}, the study now has {now[key]!r}; "
            "run lock_sources again, or undo the change"
        )
    return locked
