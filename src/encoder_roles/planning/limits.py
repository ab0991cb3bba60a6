"""No study on GPUs starts whose plan needs more than its user has agreed to, or than its cluster has."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from encoder_roles.cluster.site import SITE_FILE, Site, read_site
from encoder_roles.study.config import Study
from encoder_roles.study.names import StudyError

SPARE = 1.1  # programs and pictures take memory beside the weights

if TYPE_CHECKING:
    from encoder_roles.planning.plan import Needs


def check_limits(study: Study, site: Site | None) -> None:
    """Refuse to start a study whose plan passes a limit in slurm/site.yaml or the disk of results/.

    Args:
        study: the study; one whose jobs request no GPU is never refused.
        site: the site of a run through Slurm; None for a run on this machine, which reads the same file.

    Raises:
        StudyError: one line per limit, with the planned value and what to change.
    """
    if not any(job.gpus for job in study.jobs.values()):
        return
    from encoder_roles.planning import plan  # imports torch, which a run of small jobs need not wait for

    limits = site or read_site()
    needs = plan.needs_of(*plan.plan_rows(study))
    faults = [*_hours(study, needs, limits), *_disk(study, needs, limits)]
    if site is not None:  # only Slurm ends a job at a time limit
        faults += [*_warning(needs, limits), *_host(study, needs)]
    if faults:
        raise StudyError("\n".join(faults))


def _hours(study: Study, needs: Needs, site: Site) -> Iterator[str]:
    if needs.hours > site.gpu_hours:
        yield (
            f"study {study.study} needs about {needs.hours:,.0f} hours of {study.plan.device}, more than the "
            f"{site.gpu_hours:,.0f} in {SITE_FILE}: raise gpu_hours there to start it; see `snakemake plan`"
        )


def _disk(study: Study, needs: Needs, site: Site) -> Iterator[str]:
    """The results and the checkpoints of the trainings that may run at once."""
    at_once = min(needs.trainings, site.jobs)
    most = needs.kept_gb + at_once * needs.running_gb
    folder = Path("results") / study.study
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 10**9
    if free < most:
        yield (
            f"{folder}: {free:,.0f} GB free, but the study keeps {needs.kept_gb:,.0f} GB, and {at_once} "
            f"trainings at once hold {needs.running_gb:,.0f} GB of checkpoints each: link results/ to a "
            f"larger disk, or lower jobs in {SITE_FILE} (fewer run at once)"
        )


def _host(study: Study, needs: Needs) -> Iterator[str]:
    """Slurm ends a job that takes more memory than it requests."""
    for job, most in needs.host_gb.items():
        request = study.jobs.get(job)
        if request and request.gpus and request.memory_mb * 10**6 < most * 10**9:
            yield (
                f"jobs.{job}.memory_mb: {request.memory_mb:,}, but a node's processes hold {most:,.0f} GB "
                f"while they read the weights: set at least {1000 * most * SPARE:,.0f}, or more nodes"
            )


def _warning(needs: Needs, site: Site) -> Iterator[str]:
    """A training that is warned finishes its step and writes a checkpoint; shared disks have slow days."""
    seconds = needs.checkpoint_gb / site.write_gb_per_second
    if site.warning_seconds < 2 * seconds:
        yield (
            f"{SITE_FILE}: warning_seconds: {site.warning_seconds}, but a checkpoint of "
            f"{needs.checkpoint_gb:,.0f} GB takes {seconds:,.0f} s at {site.write_gb_per_second:g} GB/s "
            f"(write_gb_per_second): set at least {2 * seconds:,.0f}, twice the time"
        )
