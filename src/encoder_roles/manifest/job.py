"""The record of what made a file: a job writes it as the first line of its log."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from encoder_roles.manifest.code import code_key, code_of
from encoder_roles.manifest.environment import check_platform, pinned_environment
from encoder_roles.provenance import WRITTEN, digests

LOCKS_VARIABLE = "ENCODER_ROLES_LOCKS"  # the folder of locks; the Snakefile sets it in every job
MARK = "made by "  # the start of the line
WROTE = "wrote "  # the start of the line with the hashes of a job's files
HASHED_FROM = 2**20  # bytes: a smaller file is hashed again by whoever needs it, which takes no time
USED = "used "  # the start of the last line of a job that a warm parent forked (encoder_roles.warm_start)
LINES = 200  # lines of a log to search: a launcher may write before the job


def announce(
    name: str, module: str | None = None, script: Path | None = None, stream: TextIO | None = None
) -> None:
    """In a job of the workflow, print what runs: code, environment, machine, time. Elsewhere print nothing.

    Args:
        name: the command, or the script.
        module: the command's module.
        script: the script's file.
        stream: the output; None: stderr, which a rule writes to its log.

    Raises:
        StudyError: the environment differs from its lock, or is for another platform than requested.
    """
    locks = os.environ.get(LOCKS_VARIABLE)
    if locks is None:
        return
    environment = pinned_environment(Path(locks))
    check_platform(environment.lock)
    record = {
        "command": name,
        "module": module,
        "script": None if script is None else script.as_posix(),
        "code": code_key(code_of(module, script)),
        "environment": environment.lock,
        "lock_sha256": environment.sha256,
        "unlisted": list(environment.unlisted),
        "python": platform.python_version(),
        "start": datetime.now(UTC).isoformat(timespec="seconds"),
        **machine(),
    }
    print(MARK + json.dumps(record, sort_keys=True), file=stream or sys.stderr, flush=True)


def announce_files(stream: TextIO | None = None) -> None:
    """In a job of the workflow, print the hashes of the large files that it wrote. Elsewhere print nothing.

    The job hashes them on its own node while they are in the node's memory. `write-manifest` would read all
    of a study's files again, on the node where Snakemake runs.
    """
    if LOCKS_VARIABLE not in os.environ:
        return
    paths = dict.fromkeys(file for output in WRITTEN for file in _files_below(output))
    large = [file for file in paths if file.stat().st_size >= HASHED_FROM]
    if not large:
        return
    facts = {str(file): file.stat() for file in large}
    record = {
        name: {"sha256": sha256, "size": facts[name].st_size, "mtime_ns": facts[name].st_mtime_ns}
        for name, sha256 in digests(large).items()
    }
    print(WROTE + json.dumps(record, sort_keys=True), file=stream or sys.stderr, flush=True)


def _files_below(output: Path) -> list[Path]:
    """A file, or the files of a folder; none if it was written into another output and renamed with it."""
    if output.is_dir():
        return [Path(folder, name) for folder, _, names in os.walk(output) for name in names]
    return [output] if output.is_file() else []


def read_hashes(log: Path) -> dict[Path, str]:
    """The SHA-256 of the files that a job's log records, if they have the same size and time as then."""
    hashes: dict[Path, str] = {}
    for name, written in _written(log).items():
        file = Path(name)
        try:
            facts = file.stat()
        except FileNotFoundError:
            continue
        if (facts.st_size, facts.st_mtime_ns) == (written["size"], written["mtime_ns"]):
            hashes[file] = written["sha256"]
    return hashes


def _written(log: Path) -> dict[str, dict[str, Any]]:
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            record = next((line for line in lines if line.startswith(WROTE)), None)
        value: dict[str, dict[str, Any]] = {} if record is None else json.loads(record.removeprefix(WROTE))
        return value
    except (FileNotFoundError, ValueError):  # no log, or a full disk cut the line off
        return {}


def machine() -> dict[str, Any]:
    """`cpu` (model), `cores` this process may use, `threads` (OpenMP's, if set) and `gpus` (models)."""
    return {
        "cpu": cpu_model(Path("/proc/cpuinfo")),
        "cores": len(os.sched_getaffinity(0)),
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "gpus": gpu_models(Path("/proc/driver/nvidia/gpus")),
    }


def cpu_model(info: Path) -> str:
    """The processor's name from Linux, or its architecture if there is no name."""
    try:
        with info.open(encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def gpu_models(folder: Path) -> list[str]:
    """The names of the machine's NVIDIA GPUs, from the driver's files: no library, no process."""
    models = []
    for information in sorted(folder.glob("*/information")):
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("Model:"):
                models.append(line.partition(":")[2].strip())
    return models


def read_record(log: Path) -> dict[str, Any] | None:
    """The record in a job's log; None if there is no log or no record."""
    try:
        with log.open(encoding="utf-8", errors="replace") as lines:
            for line, _ in zip(lines, range(LINES), strict=False):
                if line.startswith(MARK):
                    record: dict[str, Any] = json.loads(line.removeprefix(MARK))
                    return record
    except FileNotFoundError:
        pass
    except ValueError:  # a kill or a full disk cut the line off
        return None
    return None


def used_line(cpu_seconds: float, peak_memory_mb: float) -> str:
    """What a job used that Snakemake could not measure, because it is no child of the job's shell."""
    used = {"cpu_seconds": round(cpu_seconds, 3), "peak_memory_mb": round(peak_memory_mb, 1)}
    return USED + json.dumps(used, sort_keys=True)


def read_used(log: Path) -> dict[str, float]:
    """What the last line of a log says that the job used; empty if it does not."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    if not lines or not lines[-1].startswith(USED):
        return {}
    used: dict[str, float] = json.loads(lines[-1].removeprefix(USED))
    return used
