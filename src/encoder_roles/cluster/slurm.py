"""Slurm's commands, called with lists of arguments and a time limit."""

from __future__ import annotations

import getpass
import hashlib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from encoder_roles.study.names import StudyError

ANSWERS_WITHIN = 60  # seconds
CHECKS_REMEMBERED = 3  # squeue must remember a finished job for this many status checks,
LONGEST_PAUSE = 240  # and for this many seconds: the pause between checks grows to 180
ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
ONE_WORD = r"[^\s|]+"
LIMIT = r"(?:\d+-)?\d+(?::\d+){0,2}|infinite|unlimited|n/a"  # a time limit, as sinfo prints it
StatusCommand = Literal["sacct", "squeue"]


@dataclass(frozen=True)
class QueuedJob:
    """A job as squeue shows it, or one task of an array."""

    id: str
    name: str
    state: str
    comment: str  # rule and wildcards, as Snakemake's plugin writes them


def ask(*command: str) -> str:
    """The output of a Slurm command. Raises StudyError with the command's message if it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=ANSWERS_WITHIN
        )
    except FileNotFoundError:
        raise StudyError(f"{command[0]}: no such program: Slurm's commands must be on PATH") from None
    except OSError as error:
        raise StudyError(f"{command[0]}: cannot be run: {error.strerror}; correct PATH") from None
    except subprocess.TimeoutExpired:
        raise StudyError(
            f"{command[0]}: no answer in {ANSWERS_WITHIN} s; check that Slurm's controller runs"
        ) from None
    if done.returncode:
        message = reason(done.stderr or done.stdout)
        raise StudyError(f"{command[0]}: {message or f'ended with {done.returncode}'}")
    return done.stdout


def reason(printed: str) -> str:
    """Why a command failed, in one line: the fatal one if there is one, which the errors before it led to.

    >>> reason("scontrol: error: DNS SRV lookup failed\\nscontrol: fatal: no configuration source\\n")
    'no configuration source'
    """
    fatal = re.findall(r"\bfatal: (.+)", printed)
    return " ".join((fatal[-1] if fatal else printed).split())


def table_rows(printed: str, columns: int) -> list[list[str]]:
    """The rows of a table that a command of Slurm's prints, columns separated by `|`.

    A federation (`CLUSTER: name`), a site's banner or an empty line is no row and is passed over: it has too
    few columns, or its first is not one word. The last column may contain `|`.
    """
    rows = ([cell.strip() for cell in line.split("|", columns - 1)] for line in printed.splitlines())
    return [row for row in rows if len(row) == columns and re.fullmatch(ONE_WORD, row[0])]


def configuration() -> dict[str, str]:
    """The cluster's configuration: `scontrol show config`."""
    pairs = (line.split("=", 1) for line in ask("scontrol", "show", "config").splitlines() if "=" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def has_accounting() -> bool:
    """Whether the cluster keeps finished jobs in a database, without which sacct never answers."""
    return configuration().get("AccountingStorageType", "").endswith("slurmdbd")


def fitting_status_command(status_seconds: int) -> StatusCommand:
    """The command that reports how a job ended: sacct if the cluster has accounting, else squeue.

    Raises:
        StudyError: there is no accounting, and squeue forgets finished jobs before the first check.
    """
    settings = configuration()
    if settings.get("AccountingStorageType", "").endswith("slurmdbd"):
        return "sacct"
    age = re.match(r"\d+", settings.get("MinJobAge", ""))
    remembered = int(age[0]) if age else 0
    lost = f"the cluster has no accounting database, and squeue forgets a finished job after {remembered} s"
    if remembered < LONGEST_PAUSE:
        raise StudyError(f"{lost}: {LONGEST_PAUSE} are needed; ask the administrators for MinJobAge=300")
    if remembered < CHECKS_REMEMBERED * status_seconds:
        most = remembered // CHECKS_REMEMBERED
        raise StudyError(f"{lost} (MinJobAge); lower status_seconds in slurm/site.yaml to {most}")
    return "squeue"


def partition_minutes() -> dict[str, float]:
    """The longest job of every partition, in minutes; the default partition also under the name "" ."""
    longest: dict[str, float] = {}
    for name, limit in table_rows(ask("sinfo", "--noheader", "--format", "%P|%l"), columns=2):
        if not re.fullmatch(LIMIT, limit, re.IGNORECASE):
            continue
        longest[name.removesuffix("*")] = in_minutes(limit)
        if name.endswith("*"):
            longest[""] = in_minutes(limit)
    return longest


def in_minutes(limit: str) -> float:
    """A time limit as Slurm prints it, `[days-][[hours:]minutes:]seconds` or `infinite`, in minutes."""
    if not limit[:1].isdigit():
        return float("inf")
    days, _, clock = limit.rpartition("-")
    minutes = int(days or 0) * 24 * 60.0
    for power, part in enumerate(reversed(clock.split(":")), start=-1):
        minutes += float(part) * 60.0**power
    return minutes


def run_prefix(folder: Path) -> str:
    """The prefix of the names of all jobs of a checkout."""
    return f"encoder-roles-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:10]}"


def queued_jobs(prefix: str) -> list[QueuedJob]:
    """This user's waiting and running jobs with that prefix; each array task is a job."""
    states = "PENDING,CONFIGURING,RUNNING,COMPLETING,SUSPENDED,REQUEUED"
    command = ("squeue", "--noheader", "--array", "--user", getpass.getuser(), "--states", states)
    jobs = [QueuedJob(*row) for row in table_rows(ask(*command, "--format", "%i|%j|%T|%k"), columns=4)]
    return [job for job in jobs if job.name.startswith(f"{prefix}_")]


def final_states(jobs: list[QueuedJob]) -> dict[str, str]:
    """Job id -> final state, for jobs that have ended and that Slurm still remembers."""
    if not jobs:
        return {}
    names = ",".join(sorted({job.name for job in jobs}))
    if has_accounting():
        printed = ask("sacct", "-X", "-n", "-P", "--name", names, "--format", "JobID,State")
    else:
        command = ("squeue", "--noheader", "--array", "--states", "all", "--name", names)
        printed = ask(*command, "--format", "%i|%T")
    wanted = {job.id for job in jobs}
    states = {id: state.split(" ", 1)[0] for id, state in table_rows(printed, columns=2)}
    return {id: state for id, state in states.items() if id in wanted and state in ENDED}
