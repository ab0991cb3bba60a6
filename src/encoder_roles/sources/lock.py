"""The lock of a study's hub sources: every name resolved to a commit, every file to its size and hash.

`snakemake lock_sources` writes studies/<study>.lock.yaml once, with a network; it is committed, and from then
on nothing is fetched that the lock does not describe.
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
    """A study's lock file: what a hub has, and the SHA-256 of the user's own files of records."""

    study: str
    sources: dict[str, LockedSource]
    records: dict[str, str] = Field(default_factory=dict)


def lock_sources(*, settings: Path, output: Path) -> None:
    """Resolve every hub source of the study to a commit and its files, hash its own records, and write both.

    Args:
        settings: settings/lock.json.
        output: studies/<study>.lock.yaml; replaced as a whole, or left alone if anything cannot be resolved.

    Raises:
        StudyError: the study has nothing to lock, or a repository, revision, configuration or split does not
            exist, or it holds no files that are read here, or a file of records is missing.
    """
    from encoder_roles.sources.hub import resolve_source

    stage = read_settings(settings, LockStage)
    asked = asked_sources(stage)
    if not asked and not stage.records:
        raise StudyError(
            f"study {stage.study}: nothing to lock; no source has a revision, and evaluation.data is not hub"
        )
    records = {name: records_hash(asked.records) for name, asked in stage.records.items()}
    names = tqdm(asked, desc="resolving", unit="source", file=sys.stderr, disable=None)
    sources = {name: resolve_source(name, asked[name]) for name in names}
    lock = Lock(study=stage.study, sources=sources, records=records)
    write_text(output, HEAD + yaml.safe_dump(lock.model_dump(mode="json"), sort_keys=True, width=110))


def records_hash(path: str) -> str:
    """SHA-256 of a file of records. Raises StudyError if it is not there."""
    if not Path(path).is_file():
        raise StudyError(f"{path}: no such file of records; fetch it, or correct training.data in the config")
    return sha256_of(Path(path))


def locked_records(path: Path, stage: LockStage, name: str) -> str:
    """The SHA-256 that the lock has for a file of records. Raises StudyError if it has none."""
    records_hash(stage.records[name].records)  # a missing file is told before a missing lock
    lock = read_lock(path)
    if lock.study != stage.study or name not in lock.records:
        raise StudyError(f"{path}: the records for {name} are not locked; run lock_sources, commit the lock")
    return lock.records[name]


def asked_sources(stage: LockStage) -> dict[str, HubSource]:
    """Everything a study takes from a hub, by name: encoders, language model, benchmarks."""
    sources = dict(stage.sources)
    for name in stage.benchmarks:
        sources |= find_benchmark(name).hub_sources
    return sources


def read_lock(path: Path) -> Lock:
    """A lock file. Raises StudyError if it is missing or not whole."""
    try:
        return Lock.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise StudyError(
            f"{path}: no such file; `snakemake lock_sources` writes it, with a network"
        ) from None
    except (OSError, yaml.YAMLError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"{path}: not a lock of sources ({reason:.200}); run lock_sources again") from None


def locked_source(path: Path, stage: LockStage, name: str) -> LockedSource:
    """One source of the lock at `path`, held against what the study asks for now. Raises StudyError."""
    lock, asked = read_lock(path), asked_sources(stage)
    if lock.study != stage.study:
        raise StudyError(f"{path}: the lock of study {lock.study!r}, not of {stage.study!r}")
    if name not in asked:
        raise StudyError(f"source {name!r}: the study takes no such source from a hub")
    if name not in lock.sources:
        raise StudyError(f"{path}: source {name!r} is not locked; run lock_sources again and commit the lock")
    locked = lock.sources[name]
    if locked.asked != asked[name]:
        then, now = locked.asked.model_dump(), asked[name].model_dump()
        key = next(key for key in now if now[key] != then[key])
        raise StudyError(
            f"{path}: source {name!r} was locked with {key} {then[key]!r}, the study now has {now[key]!r}; "
            "run lock_sources again, or undo the change"
        )
    return locked
