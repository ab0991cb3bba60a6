"""The values that slurm/config.yaml takes from Python when Snakemake reads it (its `?` values)."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from encoder_roles.cluster.site import MARK, SITE_FILE, Site, read_site
from encoder_roles.cluster.slurm import StatusCommand, fitting_status_command, run_prefix
from encoder_roles.study.names import StudyError

PROFILE = Path("slurm/config.yaml")
SHIMS = Path("slurm/bin")  # a sacct whose output Snakemake's plugin understands


@dataclass(frozen=True)
class Profile:
    """The site's settings, and the values that depend on them and on the cluster."""

    site: Site
    prefix: str
    status_command: StatusCommand

    @property
    def rate(self) -> str:
        """The most jobs to submit per minute, as Snakemake writes it."""
        return f"{self.site.jobs_a_minute}/1m"

    @property
    def precommand(self) -> str:
        """The shell command that runs in a job before Snakemake."""
        return " && ".join(f"module load {module}" for module in self.site.modules) or "true"


def open_profile() -> Profile:
    """The profile of this checkout on this cluster; marks this process and its jobs as running on the site.

    Raises:
        StudyError: slurm/site.yaml is not valid, Slurm does not answer, or no status command works.
    """
    site = read_site(SITE_FILE)
    os.environ[MARK] = str(SITE_FILE)
    status_command = fitting_status_command(site.status_seconds)
    if status_command == "sacct":
        os.environ["PATH"] = f"{SHIMS.resolve()}:{os.environ['PATH']}"
    return Profile(site, run_prefix(Path.cwd()), status_command)


def profile_or_exit() -> Profile:
    """As `open_profile`, for Snakemake: a fault ends it with one line instead of its usage."""
    try:
        return open_profile()
    except StudyError as error:
        sys.exit(f"error: --profile slurm: {error}; `make paper` runs a study without Slurm")


def started_configs(path: Path = PROFILE) -> tuple[Path, ...]:
    """The config files of the study that `snakemake --profile slurm` starts, relative to the repository.

    Raises:
        StudyError: the profile cannot be read, or names no config file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise StudyError(
            f"{path}: cannot be read: {error.strerror}; run this from the repository's root"
        ) from None
    named = re.search(
        r"^configfile:\s*([^\s#]+)", text, re.MULTILINE
    )  # a template, which YAML cannot read yet
    if named is None:
        raise StudyError(f"{path}: has no line `configfile: <study>`; add one")
    override = Path(os.path.normpath(path.parent / named[1]))
    main = Path("config.yaml")
    return (main,) if override == main else (main, override)
