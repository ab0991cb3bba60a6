"""Restart checkpoints: whole or absent, checked before use, kept outside every declared output.

A folder per run, `<restart>/<key>`, with the last two checkpoints `step000000100/` in it: the engine's
safetensors, one a rank, the log so far as JSON, and the SHA-256 of all. The key is a hash of everything the
run's weights depend on, so that a run with other settings never takes up this one's state.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from encoder_roles.provenance import key_of, sha256_of, versions, write_json
from encoder_roles.study.names import StudyError
from encoder_roles.training.engine import Engine

KEPT = 2  # the newest may turn out damaged, then the one before it is used
LOG_FILE, SUMS_FILE = "log.json", "sha256.json"
PART = ".part"  # ending of a checkpoint that is being written


def fingerprint(paths: Iterable[Path]) -> list[list[Any]]:
    """Name, size and modification time of every file under the paths; new if an input is written anew."""
    files = [
        f for path in paths for f in (sorted(path.rglob("*")) if path.is_dir() else [path]) if f.is_file()
    ]
    return [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in files]


def run_folder(restart: Path, settings: Any, inputs: Iterable[Path]) -> Path:
    """The folder of a run's checkpoints, keyed by its settings, its inputs and the libraries' versions."""
    return restart / key_of([settings, fingerprint(inputs), versions()])


def _complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Checkpoints:
    """The checkpoints of one run. All processes save and load together; rank 0 names, prunes and removes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _steps(self) -> list[Path]:
        """Checkpoints, newest first."""
        return sorted(self.folder.glob("step*"), reverse=True)

    def _part(self, step: int) -> Path:
        """A checkpoint while it is written: the same name for all processes, and found again if they die."""
        return self.folder / f".step{step:09d}{PART}"

    def save(self, engine: Engine, log: list[dict[str, Any]]) -> None:
        """Write a checkpoint after the last step of the log; keep the last two.

        Raises StudyError, on every rank, if one of them cannot write; earlier checkpoints stay.
        """
        part, first = self._part(len(log)), engine.process.rank == 0
        faults = engine.gather(_fault(lambda: _make(part)) if first else None)
        if not any(faults):
            faults = engine.gather(_fault(lambda: engine.save(part)))
        if first and not any(faults):
            faults = [_fault(lambda: self._finish(part, log))]
        faults = [fault for fault in engine.gather(next(filter(None, faults), None)) if fault]
        if faults:
            if first:
                shutil.rmtree(part, ignore_errors=True)
            raise StudyError(
                f"{self.folder}: the checkpoint of step {len(log)} cannot be written ({faults[0]}): "
                "make room, then run the job again; it goes on from the checkpoint before"
            )

    def _finish(self, part: Path, log: list[dict[str, Any]]) -> None:
        write_json(part / LOG_FILE, log)
        write_json(part / SUMS_FILE, {f.name: sha256_of(f) for f in sorted(part.iterdir())})
        target = self.folder / part.name.removeprefix(".").removesuffix(PART)
        shutil.rmtree(target, ignore_errors=True)
        part.replace(target)
        for old in self._steps()[KEPT:]:
            shutil.rmtree(old)

    def load(self, engine: Engine) -> tuple[Path | None, list[dict[str, Any]]]:
        """Load the newest intact checkpoint into the engine. Returns its folder and its log, or None and [].

        A truncated or altered checkpoint is detected by its hashes, reported on stderr and removed; the one
        before it is used. Nothing is lost but time.
        """
        newest: Path | None = engine.gather(self._newest() if engine.process.rank == 0 else None)[0]
        if newest is None:
            return None, []
        log: list[dict[str, Any]] = json.loads((newest / LOG_FILE).read_text())
        engine.load(newest)
        return newest, log

    def _newest(self) -> Path | None:
        for part in self.folder.glob(f".step*{PART}"):
            shutil.rmtree(part)  # of a run that died while it wrote
        for folder in self._steps():
            if not (fault := damage(folder)):
                return folder
            _complain(f"checkpoint {folder} is damaged ({fault}): removed, going on from the one before it")
            shutil.rmtree(folder)
        return None

    def remove(self) -> None:
        """Drop all checkpoints: the outputs are written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _make(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _fault(write: Callable[[], None]) -> str | None:
    """What went wrong when something was written, on one line; None if nothing did."""
    try:
        write()
    except (OSError, SafetensorError) as error:
        return " ".join(str(error).split())
    return None


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    try:
        sums = json.loads((folder / SUMS_FILE).read_text())
    except (OSError, ValueError) as error:
        return f"{SUMS_FILE}: {error}"
    present = {f.name for f in folder.iterdir()} - {SUMS_FILE}
    if not isinstance(sums, dict) or set(sums) != present:
        return f"files are {sorted(present)}"
    altered = [name for name, digest in sums.items() if sha256_of(folder / name) != digest]
    return f"{', '.join(altered)}: SHA-256 differs" if altered else None
