"""The settings of a site (slurm/site.yaml), and the resources that the jobs of a rule request there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from encoder_roles.study.config_files import places_in, read_config
from encoder_roles.study.faults import describe_faults
from encoder_roles.study.names import TRAINING_JOBS, StudyError
from encoder_roles.study.sections import JobRequest, Settings

SITE_FILE = Path("slurm/site.yaml")  # relative to the repository's root
MARK = "ENCODER_ROLES_SITE"  # environment variable of a run through Slurm and of its jobs: the site's file

SlurmName = Annotated[str, Field(pattern=r"^[\w.:-]+$")]
Positive = Annotated[int, Field(gt=0)]


class Partition(Settings):
    """The most that one job may request in a partition."""

    gpus: int = Field(default=0, ge=0)
    gpu_type: SlurmName | None = None
    max_minutes: Positive | None = None
    max_memory_mb: Positive | None = None

    def takes(self, request: JobRequest) -> bool:
        """Whether a job with this request may run here."""
        return (
            request.gpus <= self.gpus
            and request.minutes <= (self.max_minutes or request.minutes)
            and request.memory_mb <= (self.max_memory_mb or request.memory_mb)
        )


class Site(Settings):
    """The settings of slurm/site.yaml, which describes each key."""

    account: SlurmName | None = None
    partitions: dict[SlurmName, Partition] = Field(default_factory=dict)
    modules: tuple[Annotated[str, Field(pattern=r"^[\w./+-]+$")], ...] = ()
    jobs: Positive = 500
    jobs_a_minute: Positive = 60
    largest_array: Annotated[int, Field(gt=0, le=500)] = (
        100  # 500 tasks fill the largest script that Slurm accepts
    )
    status_seconds: Positive = 20
    warning_seconds: Positive = 300
    free_gb: float = Field(default=20, ge=0)
    gpu_hours: float = Field(default=100, gt=0)
    write_gb_per_second: float = Field(default=1, gt=0)

    def partition(self, name: str, request: JobRequest) -> str | None:
        """The first partition that accepts a rule's jobs; None (Slurm's default) if the site lists none."""
        if not self.partitions:
            return None
        for partition, limits in self.partitions.items():
            if limits.takes(request):
                return partition
        raise StudyError(
            f"{SITE_FILE}: partitions: none accepts jobs of {name} with {request.gpus} GPUs, "
            f"{request.memory_mb} MB and {request.minutes} minutes; add one, or lower the study's jobs.{name}"
        )


def read_site(path: Path = SITE_FILE) -> Site:
    """The site's settings. Raises StudyError: one line that names every faulty key."""
    config, lines = read_config(path, may_be_empty=True)
    try:
        return Site.model_validate(config)
    except ValidationError as error:
        raise StudyError(f"{path}: {describe_faults(error, places=places_in(path, lines))}") from None


def active_site() -> Site | None:
    """The site of a run through Slurm; None for any other run."""
    return read_site(Path(os.environ[MARK])) if MARK in os.environ else None


def scaled(amount: int, most: int | None) -> Callable[..., int]:
    """A resource that grows with each attempt, up to the limit of the partition."""

    def resource(wildcards: object, attempt: int) -> int:  # noqa: ARG001 - Snakemake gives both
        return min(amount * attempt, most or amount * attempt)

    return resource


def launcher(request: JobRequest, processes: int, site: Site | None) -> list[str]:
    """The words before a training's command: on a cluster srun, which starts all processes on every node.

    On a laptop, and for one process, there are none: a command that needs more runs torchrun itself.
    """
    if site is None or processes == 1:
        return []
    nodes, cpus = request.nodes, cpus_per_process(request, processes)
    return [
        "srun",
        "--kill-on-bad-exit=1",
        f"--nodes={nodes}",
        f"--ntasks={processes}",
        f"--ntasks-per-node={processes // nodes}",
        f"--cpus-per-task={cpus}",
    ]


def job_resources(name: str, request: JobRequest, site: Site | None, processes: int = 1) -> dict[str, Any]:
    """Snakemake's resources for a rule's jobs.

    They are memory and time, which grow with each attempt, cores and GPUs. On a site they also name the
    partition, the account, the processes of the job, and when Slurm warns it before its time limit.
    """
    partition = site.partition(name, request) if site else None
    limits = site.partitions[partition] if site and partition else Partition()
    resources: dict[str, Any] = {
        "mem_mb": scaled(request.memory_mb, limits.max_memory_mb),
        "runtime": scaled(request.minutes, limits.max_minutes),
        "cpus_per_task": request.cpus,
    }
    if request.gpus:
        resources["gpu"] = request.gpus
        resources |= {"gpu_model": limits.gpu_type} if limits.gpu_type else {}
    if partition:
        resources["slurm_partition"] = partition
    if site and site.account:
        resources["slurm_account"] = site.account
    if site and name in TRAINING_JOBS:
        resources["slurm_extra"] = f"--signal=USR1@{site.warning_seconds}"
        if processes > 1:  # `mpi`: the command itself starts its processes
            resources |= {"mpi": "srun", "tasks": processes, "nodes": request.nodes, "tasks_per_gpu": 0}
            resources["cpus_per_task"] = cpus_per_process(request, processes)
            resources["slurm_extra"] += " " + " ".join(divide_evenly(request, processes, limits))
    return resources


def cpus_per_process(request: JobRequest, processes: int) -> int:
    """Cores per process; one if the job requests only one."""
    return max(1, request.cpus // processes)


def divide_evenly(request: JobRequest, processes: int, limits: Partition) -> list[str]:
    """The options of sbatch that divide a job's processes evenly over its nodes, with a GPU for each."""
    options = [f"--ntasks-per-node={processes // request.nodes}"]
    if request.gpus:
        type = f"{limits.gpu_type}:" if limits.gpu_type else ""
        options.append(f"--gpus-per-node={type}{request.gpus // request.nodes}")
    return options
