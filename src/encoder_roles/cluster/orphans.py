"""Jobs whose Snakemake has ended: found by the prefix of their names, and cancelled or awaited."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from encoder_roles.cluster.slurm import QueuedJob, ask, final_states, queued_jobs, run_prefix
from encoder_roles.study.names import StudyError

MARKERS = Path(".snakemake/incomplete")  # a file per unfinished output: its path in base64, its job inside
LOOK_EVERY = 2.0  # seconds
ENDS_WITHIN = 300.0  # seconds within which a cancelled job must end


def cancel_orphans(*, prefix: str | None = None) -> None:
    """Cancel the jobs that a killed Snakemake left in the queue, and return when the last has ended.

    Run it from the repository's root, and only when no Snakemake runs there.

    Args:
        prefix: the prefix of the jobs' names; default: that of this checkout.

    Raises:
        StudyError: a job still runs five minutes after it was cancelled.
    """
    prefix = prefix or run_prefix(Path.cwd())
    jobs = queued_jobs(prefix)
    if jobs:
        ask("scancel", *sorted({job.id for job in jobs}))
    until = time.monotonic() + ENDS_WITHIN
    while left := queued_jobs(prefix):
        if time.monotonic() > until:
            raise StudyError(f"jobs {', '.join(job.id for job in left)}: cancelled, but still running")
        time.sleep(LOOK_EVERY)
    print(f"{len(jobs)} jobs cancelled; the next run makes their outputs again", file=sys.stderr)


def await_orphans(*, prefix: str | None = None) -> None:
    """Wait for the jobs that a killed Snakemake left in the queue; outputs of successful jobs are kept.

    Run it from the repository's root, and only when no Snakemake runs there. A job marks its own outputs as
    complete. The next run makes the outputs of failed or interrupted jobs again.

    Args:
        prefix: the prefix of the jobs' names; default: that of this checkout.
    """
    prefix = prefix or run_prefix(Path.cwd())
    seen: dict[str, QueuedJob] = {}
    ended: dict[str, str] = {}
    waiting = -1
    while running := {job.id: job for job in queued_jobs(prefix)}:
        seen |= running
        if len(running) != waiting:
            waiting = len(running)
            print(f"{waiting} jobs are waiting or running", file=sys.stderr)
        time.sleep(LOOK_EVERY)
        ended |= final_states([job for id, job in seen.items() if id not in ended])
    ended |= final_states([job for id, job in seen.items() if id not in ended])
    completed = sum(state == "COMPLETED" for state in ended.values())
    print(
        f"{completed} of {len(seen)} jobs completed; the next run makes the outputs of the others",
        file=sys.stderr,
    )
