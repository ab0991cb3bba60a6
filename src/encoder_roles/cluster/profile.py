"""What slurm/config.yaml asks of Python when Snakemake reads it (its `?` values)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from encoder_roles.cluster.site import MARK, SITE_FILE, Site, read_site
from encoder_roles.cluster.slurm import StatusCommand, fitting_status_command, run_prefix

SHIMS = Path("slurm/bin")  # a sacct whose words Snakemake's plugin understands


@dataclass(frozen=True)
class Profile:
    """The site, and what follows from it and from the cluster."""

    site: Site
    prefix: str
    status_command: StatusCommand

    @property
    def rate(self) -> str:
        """How many jobs are submitted in a minute at most."""
        return f"{self.site.jobs_a_minute}/1m"

    @property
    def precommand(self) -> str:
        """What runs in a job before Snakemake does."""
        return " && ".join(f"module load {module}" for module in self.site.modules) or "true"


def open_profile() -> Profile:
    """The profile for this checkout on this cluster; marks this process, and so its jobs, as on the site.

    Raises:
        StudyError: slurm/site.yaml is faulty, Slurm does not answer, or no status command can work.
    """
    site = read_site(SITE_FILE)
    os.environ[MARK] = str(SITE_FILE)
    status_command = fitting_status_command(site.status_seconds)
    if status_command == "sacct":
        os.environ["PATH"] = f"{SHIMS.resolve()}:{os.environ['PATH']}"
    return Profile(site, run_prefix(Path.cwd()), status_command)
