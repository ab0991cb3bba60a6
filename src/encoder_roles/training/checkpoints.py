"""Restart checkpoints: whole or absent, checked before use, kept outside every declared output.

A folder per run, `<restart>/<key>`, with the last two checkpoints `step000000100/` in it: the engine's
safetensors, the log so far as JSON, and the SHA-256 of both. The key is a hash of everything the run's
weights depend on, so that a run with other settings never takes up this one's state.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from encoder_roles.provenance import key_of, sha256_of, versions, whole_folder, write_json
from encoder_roles.training.engine import Engine

KEPT = 2  # the newest may turn out damaged, then the one before it is used
LOG_FILE, SUMS_FILE = "log.json", "sha256.json"


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
    """The checkpoints of one run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _steps(self) -> list[Path]:
        """Checkpoints, newest first."""
        return sorted(self.folder.glob("step*"), reverse=True)

    def save(self, engine: Engine, log: list[dict[str, Any]]) -> None:
        """Write a checkpoint after the last step of the log; keep the last two."""
        with whole_folder(self.folder / f"step{len(log):09d}") as folder:
            engine.save(folder)
            write_json(folder / LOG_FILE, log)
            write_json(folder / SUMS_FILE, {f.name: sha256_of(f) for f in sorted(folder.iterdir())})
        for old in self._steps()[KEPT:]:
            shutil.rmtree(old)

    def load(self, engine: Engine) -> list[dict[str, Any]]:
        """Take up the newest whole checkpoint and return its log; an empty log if there is none.

        A cut-off or altered checkpoint is told apart by its hashes, said on stderr and removed; the one
        before it is used. Nothing is lost but time.
        """
        for folder in self._steps():
            if fault := damage(folder):
                _complain(
                    f"checkpoint {folder} is damaged ({fault}): removed, going on from the one before it"
                )
                shutil.rmtree(folder)
                continue
            log: list[dict[str, Any]] = json.loads((folder / LOG_FILE).read_text())
            engine.load(folder)
            _complain(f"going on from {folder}")
            return log
        return []

    def remove(self) -> None:
        """Drop all checkpoints: the outputs are written."""
        shutil.rmtree(self.folder, ignore_errors=True)


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
