"""Jobs whose Snakemake is gone: found by the prefix of their names, and cancelled or awaited."""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path

from encoder_roles.cluster.slurm import QueuedJob, ask, final_states, queued_jobs, run_prefix
from encoder_roles.study import StudyError

MARKERS = Path(
    ".snakemake/incomplete"
)  # a file for every output under way: its path in base64, its job inside
LOOK_EVERY = 2.0  # seconds
ENDS_WITHIN = 300.0  # seconds that a cancelled job may take to end


def cancel_orphans(*, prefix: str | None = None) -> None:
    """Cancel the jobs that a killed Snakemake left in the queue, and return when the last has ended.

    Run it from the repository's root, and only when no Snakemake runs there.

    Args:
        prefix: of the jobs' names; by default that of this checkout.

    Raises:
        StudyError: a job has not ended five minutes after it was cancelled.
    """
    prefix = prefix or run_prefix(Path.cwd())
    jobs = queued_jobs(prefix)
    if jobs:
        ask("scancel", *sorted({job.id for job in jobs}))
    until = time.monotonic() + ENDS_WITHIN
    while left := queued_jobs(prefix):
        if time.monotonic() > until:
            raise StudyError(f"jobs {', '.join(job.id for job in left)}: cancelled, and still not ended")
        time.sleep(LOOK_EVERY)
    print(f"{len(jobs)} jobs cancelled; their outputs will be made again", file=sys.stderr)


def await_orphans(*, prefix: str | None = None) -> None:
    """Wait for the jobs that a killed Snakemake left in the queue, and keep what those that end well make.

    Run it from the repository's root, and only when no Snakemake runs there. What failed or was cut short
    stays marked as incomplete, and the next run makes it again.

    Args:
        prefix: of the jobs' names; by default that of this checkout.
    """
    prefix = prefix or run_prefix(Path.cwd())
    seen: dict[str, QueuedJob] = {}
    ended: dict[str, str] = {}
    while running := {job.id: job for job in queued_jobs(prefix)}:
        seen |= running
        print(f"{len(running)} jobs wait or run", file=sys.stderr)
        time.sleep(LOOK_EVERY)
        ended |= final_states([job for id, job in seen.items() if id not in ended])
    ended |= final_states([job for id, job in seen.items() if id not in ended])
    well = {id for id, state in ended.items() if state == "COMPLETED"}
    kept = keep_outputs(well)
    print(f"{len(well)} of {len(seen)} jobs ended well: {kept} outputs kept", file=sys.stderr)


def keep_outputs(ended_well: set[str]) -> int:
    """Take the mark of incompleteness off every output whose job ended well; how many.

    Such an output is whole: a command writes under another name and renames when it is done.
    """
    kept = 0
    for marker in sorted(path for path in MARKERS.rglob("*") if path.is_file()):
        job = json.loads(marker.read_text() or "{}").get("external_jobid")
        if job in ended_well and output_of(marker).exists():
            marker.unlink()
            kept += 1
    return kept


def output_of(marker: Path) -> Path:
    """The output of a marker; a long name goes over several folders, each but the last with an `@`."""
    parts = [part.removeprefix("@") for part in marker.relative_to(MARKERS).parts]
    return Path(base64.urlsafe_b64decode("".join(parts)).decode())
