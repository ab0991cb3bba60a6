"""What is particular to a site (slurm/site.yaml), and what a rule's jobs ask of it."""

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

SITE_FILE = Path("slurm/site.yaml")  # from the repository's root, where `--profile slurm` is found too
MARK = (
    "ENCODER_ROLES_SITE"  # the environment variable by which a run through Slurm and its jobs know the site
)

SlurmName = Annotated[str, Field(pattern=r"^[\w.:-]+$")]
Positive = Annotated[int, Field(gt=0)]


class Partition(Settings):
    """What one job may ask of a partition."""

    gpus: int = Field(default=0, ge=0)
    gpu_type: SlurmName | None = None
    max_minutes: Positive | None = None
    max_memory_mb: Positive | None = None

    def takes(self, request: JobRequest) -> bool:
        """Whether a job may run here."""
        return (
            request.gpus <= self.gpus
            and request.minutes <= (self.max_minutes or request.minutes)
            and request.memory_mb <= (self.max_memory_mb or request.memory_mb)
        )


class Site(Settings):
    """slurm/site.yaml."""

    account: SlurmName | None = None
    partitions: dict[SlurmName, Partition] = Field(default_factory=dict)
    modules: tuple[Annotated[str, Field(pattern=r"^[\w./+-]+$")], ...] = ()
    jobs: Positive = 500
    jobs_a_minute: Positive = 60
    largest_array: Annotated[int, Field(gt=0, le=500)] = 100  # 500 fill the largest script that Slurm takes
    status_seconds: Positive = 20
    warning_seconds: Positive = 300
    free_gb: float = Field(default=20, ge=0)

    def partition(self, name: str, request: JobRequest) -> str | None:
        """The first partition that takes a rule's jobs; None, Slurm's default, where the site names none."""
        if not self.partitions:
            return None
        for partition, limits in self.partitions.items():
            if limits.takes(request):
                return partition
        raise StudyError(
            f"{SITE_FILE}: partitions: none takes the jobs of {name}, which ask for {request.gpus} GPUs, "
            f"{request.memory_mb} MB and {request.minutes} minutes: add one, or lower the study's jobs.{name}"
        )


def read_site(path: Path = SITE_FILE) -> Site:
    """The site's settings. Raises StudyError: one line that names every faulty key."""
    config, lines = read_config(path, may_be_empty=True)
    try:
        return Site.model_validate(config)
    except ValidationError as error:
        raise StudyError(f"{path}: {describe_faults(error, places=places_in(path, lines))}") from None


def active_site() -> Site | None:
    """The site of a run through Slurm, and None of any other run."""
    return read_site(Path(os.environ[MARK])) if MARK in os.environ else None


def scaled(amount: int, most: int | None) -> Callable[..., int]:
    """A resource that grows with the attempts, up to what the partition allows."""

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
    """What Snakemake is told of a rule's jobs: memory and time (more with every attempt), GPUs, and on a
    site the partition and account, how many processes share the job, and when it is warned of its end."""
    partition = site.partition(name, request) if site else None
    limits = site.partitions[partition] if site and partition else Partition()
    found: dict[str, Any] = {
        "mem_mb": scaled(request.memory_mb, limits.max_memory_mb),
        "runtime": scaled(request.minutes, limits.max_minutes),
        "cpus_per_task": request.cpus,
    }
    if request.gpus:
        found["gpu"] = request.gpus
        found |= {"gpu_model": limits.gpu_type} if limits.gpu_type else {}
    if partition:
        found["slurm_partition"] = partition
    if site and site.account:
        found["slurm_account"] = site.account
    if site and name in TRAINING_JOBS:
        found["slurm_extra"] = f"--signal=USR1@{site.warning_seconds}"
        if processes > 1:  # `mpi`: the plugin leaves it to the command to start its processes
            found |= {"mpi": "srun", "tasks": processes, "nodes": request.nodes, "tasks_per_gpu": 0}
            found["cpus_per_task"] = cpus_per_process(request, processes)
            found["slurm_extra"] += " " + " ".join(divide_evenly(request, processes, limits))
    return found


def cpus_per_process(request: JobRequest, processes: int) -> int:
    """Of a job's cores, each process's; one where the job asks for one in all."""
    return max(1, request.cpus // processes)


def divide_evenly(request: JobRequest, processes: int, limits: Partition) -> list[str]:
    """The options of sbatch that give every node of a job as many of its processes, and a GPU to each."""
    options = [f"--ntasks-per-node={processes // request.nodes}"]
    if request.gpus:
        type = f"{limits.gpu_type}:" if limits.gpu_type else ""
        options.append(f"--gpus-per-node={type}{request.gpus // request.nodes}")
    return options
