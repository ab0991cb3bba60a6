"""Which failed jobs of Slurm are not run again: those whose data are at fault, as they say in their logs.

Snakemake repeats every failed job as often as its profile says and hands no exit status on. So a job that
meets a DataError writes a last line to its log, with its number, and the executor looks for that line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from encoder_roles.study.names import DataError

MARK = "a retry meets the same data: not run again, Slurm job "
TAIL = 1 << 16  # bytes at a log's end in which the line is looked for


def renounce(error: BaseException, environment: Mapping[str, str] = os.environ) -> str | None:
    """The line that ends the log of a Slurm job which met this error; None where a retry may help."""
    chain: BaseException | None = error
    while chain is not None and not isinstance(chain, DataError):
        chain = chain.__cause__
    job = environment.get("SLURM_JOB_ID")
    if chain is None or job is None:
        return None
    if "SLURM_ARRAY_TASK_ID" in environment:
        job = f"{environment['SLURM_ARRAY_JOB_ID']}_{environment['SLURM_ARRAY_TASK_ID']}"
    return MARK + job


def renounced(job: str, logs: Iterable[Path]) -> bool:
    """Whether the Slurm job of this number wrote that line into one of its logs."""
    return any(f"{MARK}{job}".encode() in _tail(log).splitlines() for log in logs)


def _tail(log: Path) -> bytes:
    if not log.is_file():
        return b""
    with log.open("rb") as file:
        file.seek(max(log.stat().st_size - TAIL, 0))
        return file.read()
