"""No study of many GPU-hours starts unless its user has agreed to them."""

from __future__ import annotations

from encoder_roles.cluster.site import SITE_FILE, Site, read_site
from encoder_roles.study.config import Study
from encoder_roles.study.names import StudyError


def check_hours(study: Study, site: Site | None) -> None:
    """Refuse to start a study that its plan puts above the hours of `gpu_hours` in slurm/site.yaml.

    Args:
        study: the study; one whose jobs request no GPU is never refused.
        site: the site of a run through Slurm; None for a run on this machine, which reads the same file.

    Raises:
        StudyError: one line with the planned hours and the key to raise.
    """
    if not any(job.gpus for job in study.jobs.values()):
        return
    from encoder_roles.planning import plan  # imports torch, which a run of small jobs need not wait for

    agreed = (site or read_site()).gpu_hours
    planned = sum(float(row["device_hours"]) for row in plan.plan_rows(study)[0])
    if planned > agreed:
        raise StudyError(
            f"study {study.study} needs about {planned:,.0f} hours of {study.plan.device}, more than the "
            f"{agreed:,.0f} in {SITE_FILE}: raise gpu_hours there to start it; see `snakemake plan`"
        )
