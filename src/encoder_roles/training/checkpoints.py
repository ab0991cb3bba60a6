"""Restart checkpoints: written whole or not at all, verified before use, kept outside every declared output.

Each run has a folder `<restart>/<key>` with its last two checkpoints, such as `step000000100/`. A checkpoint
holds the engine's safetensors, one file per process, the log so far as JSON, and the SHA-256 of every file.
The key is a hash of everything that the weights depend on, so a run with other settings never uses it.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from encoder_roles.provenance import digests, give_usual_mode, key_of, sha256_of, versions, write_json
from encoder_roles.study.names import KEPT_CHECKPOINTS, StudyError
from encoder_roles.training.engine import Engine, state_file

LOG_FILE, SUMS_FILE = "log.json", "sha256.json"
PART = ".part"  # ending of a checkpoint that is being written


def fingerprint(paths: Iterable[Path]) -> list[list[Any]]:
    """Name, size and modification time of every file under the paths; changes if an input is rewritten."""
    files = [
        f for path in paths for f in (sorted(path.rglob("*")) if path.is_dir() else [path]) if f.is_file()
    ]
    return [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in files]


def run_folder(restart: Path, settings: Any, inputs: Iterable[Path]) -> Path:
    """The folder of a run's checkpoints; its name depends on settings, inputs and the libraries' versions."""
    return restart / key_of([settings, fingerprint(inputs), versions()])


def _complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Unfinished:
    """A checkpoint that a thread is writing: its folder, its log; fault and sums of this process's file."""

    part: Path
    log: list[dict[str, Any]]
    result: Future[tuple[str | None, dict[str, str]]]


class Checkpoints:
    """The checkpoints of one run. All processes save and load together; process 0 renames and removes.

    A thread writes and hashes each process's file from a copy of its state, so training need not wait.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unfinished: Unfinished | None = None
        self._thread: ThreadPoolExecutor | None = None

    def _steps(self) -> list[Path]:
        """Checkpoints, newest first."""
        return sorted(self.folder.glob("step*"), reverse=True)

    def _part(self, step: int) -> Path:
        """The folder of an unfinished checkpoint, the same for all processes; the next start removes it."""
        return self.folder / f".step{step:09d}{PART}"

    @property
    def written(self) -> bool:
        """Whether this process has written its file of the checkpoint that `finish` is to complete."""
        return self._unfinished is not None and self._unfinished.result.done()

    def save(self, engine: Engine, log: list[dict[str, Any]], wait: bool = True) -> None:
        """Write the checkpoint after the last step of the log; keep the last two.

        Args:
            engine: holds the state.
            log: of the steps that are done.
            wait: whether the checkpoint is complete when the call returns; otherwise `finish` completes it,
                or the next `save`.

        Raises:
            StudyError: in every process if one of them cannot write this checkpoint or the unfinished one
                before it; earlier checkpoints stay.
        """
        self.finish(engine)
        part = self._part(len(log))
        fault = _fault(lambda: _make(part)) if engine.process.rank == 0 else None
        self._refuse(engine, part, log, fault)
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"checkpoint-{engine.process.rank}")
        file = state_file(part, engine.process)
        self._unfinished = Unfinished(
            part, list(log), self._thread.submit(_write, engine.snapshot(copy=not wait), file)
        )
        if wait:
            self.finish(engine)

    def finish(self, engine: Engine) -> None:
        """Complete the checkpoint that is being written, if there is one. Raises StudyError as `save`."""
        if self._unfinished is None:
            return
        part, log = self._unfinished.part, self._unfinished.log
        fault, written = self._unfinished.result.result()
        self._unfinished = None
        self._refuse(engine, part, log, fault)
        sums = {name: digest for each in engine.gather(written) for name, digest in each.items()}
        fault = _fault(lambda: self._complete(part, log, sums)) if engine.process.rank == 0 else None
        self._refuse(engine, part, log, fault)

    def _refuse(self, engine: Engine, part: Path, log: list[dict[str, Any]], fault: str | None) -> None:
        """Raise StudyError in every process if one of them has a fault, and remove what was written."""
        faults = [each for each in engine.gather(fault) if each]
        if not faults:
            return
        if engine.process.rank == 0:
            shutil.rmtree(part, ignore_errors=True)
        raise StudyError(
            f"{self.folder}: the checkpoint of step {len(log)} cannot be written ({faults[0]}): "
            "make room, then run the job again; it continues from the checkpoint before"
        )

    def _complete(self, part: Path, log: list[dict[str, Any]], sums: Mapping[str, str]) -> None:
        """Add the log and the SHA-256 of every file (of the engine's files: `sums`), rename."""
        write_json(part / LOG_FILE, log)
        write_json(part / SUMS_FILE, {**sums, LOG_FILE: sha256_of(part / LOG_FILE)})
        give_usual_mode(part)
        target = self.folder / part.name.removeprefix(".").removesuffix(PART)
        shutil.rmtree(target, ignore_errors=True)
        part.replace(target)
        for old in self._steps()[KEPT_CHECKPOINTS:]:
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
            shutil.rmtree(part)  # left by a run that died while it wrote
        for folder in self._steps():
            if not (fault := damage(folder)):
                return folder
            _complain(f"checkpoint {folder} is damaged ({fault}): removed, continuing from the one before it")
            shutil.rmtree(folder)
        return None

    def remove(self) -> None:
        """Remove all checkpoints, once the outputs are written."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _make(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _write(tensors: dict[str, Tensor], file: Path) -> tuple[str | None, dict[str, str]]:
    """Write this process's file of a checkpoint. Returns the fault if there is one; its name and SHA-256.

    Every process hashes its own file, at the same time as the others: all files together have 12 bytes for
    each trained parameter.
    """
    sums: dict[str, str] = {}

    def write() -> None:
        save_file(tensors, file)
        sums[file.name] = sha256_of(file)

    return _fault(write), sums


def _fault(write: Callable[[], None]) -> str | None:
    """Run a function that writes; the error it raised, on one line, or None."""
    try:
        write()
    except (OSError, SafetensorError) as error:
        return " ".join(str(error).split())
    return None


def damage(folder: Path) -> str | None:
    """The fault of a checkpoint's files; None if they are intact."""
    try:
        sums = json.loads((folder / SUMS_FILE).read_text())
    except (OSError, ValueError) as error:
        return f"{SUMS_FILE}: {error}"
    present = {f.name for f in folder.iterdir()} - {SUMS_FILE}
    if not isinstance(sums, dict) or set(sums) != present:
        return f"files are {sorted(present)}"
    present_sums = digests([folder / name for name in sums])
    altered = [name for name, digest in sums.items() if present_sums[str(folder / name)] != digest]
    return f"{', '.join(altered)}: SHA-256 differs" if altered else None
