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

LOCKS_VARIABLE = "ENCODER_ROLES_LOCKS"  # the folder of locks; the Snakefile sets it in every job
MARK = "made by "  # the start of the line
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
