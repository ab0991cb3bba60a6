"""The processes that share one training: which of them this is, and how they find each other.

A stage whose settings ask for one rank runs where it was called. With more, each process finds its place in
what torchrun or srun put into its environment; a process without such a place starts them all, through
torchrun, on this machine.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed

from encoder_roles.encoders.compute import choose_device
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import EngineSettings

GRACE = 600  # seconds in which torchrun's workers may write their checkpoint when they are asked to stop
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"  # that torchrun hands on to its workers
PORTS = range(20000, 30000)  # where the ranks of a Slurm step meet


@dataclass(frozen=True)
class Place:
    """This process's number among all, and among those on its machine."""

    rank: int = 0
    ranks: int = 1
    local: int = 0

    @property
    def device(self) -> torch.device:
        """Its GPU, if the machine has any, or the CPU."""
        return choose_device(local=self.local)


def find_place(environment: Mapping[str, str]) -> Place | None:
    """The place that torchrun or srun gave this process; None if neither did."""
    for rank, ranks, local in (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    ):
        if rank in environment and environment.get(ranks, "1") != "1":
            return Place(int(environment[rank]), int(environment[ranks]), int(environment[local]))
    return None


def join_ranks(settings: EngineSettings) -> Place:
    """This process's place; the processes are connected when it returns.

    Raises StudyError if there are more or fewer of them than the settings say. Does not return in a process
    that starts the ranks: it becomes torchrun.
    """
    place = find_place(os.environ)
    if place is None and settings.ranks > 1:
        start_ranks(settings.ranks)
    place = place or Place()
    if place.ranks != settings.ranks:
        raise StudyError(
            f"training.engine.ranks is {settings.ranks}, but {place.ranks} processes were started; "
            "start as many as the config says"
        )
    if settings.kind == "deepspeed" and not torch.distributed.is_initialized():
        for name, value in rendezvous(os.environ, place).items():
            os.environ.setdefault(name, value)
        backend = "cpu:gloo,cuda:nccl" if place.device.type == "cuda" else "gloo"
        if place.device.type == "cuda":
            torch.cuda.set_device(place.device)
        torch.distributed.init_process_group(backend)
    return place


def rendezvous(environment: Mapping[str, str], place: Place) -> dict[str, str]:
    """What torch reads of the environment to connect the ranks; torchrun sets it, under srun it follows from
    the step: the address by which Slurm knows its first node, and a port by the numbers of job and step.
    """
    address, port = "127.0.0.1", "0"
    if place.ranks > 1:
        step = int(environment.get("SLURM_JOB_ID", 0)) * 31 + int(environment.get("SLURM_STEP_ID", 0))
        port = str(PORTS[step % len(PORTS)])
        if environment.get("SLURM_STEP_NUM_NODES", "1") != "1" and "MASTER_ADDR" not in environment:
            address = node_address(environment["SLURM_STEP_NODELIST"])
    named = {"RANK": place.rank, "WORLD_SIZE": place.ranks, "LOCAL_RANK": place.local}
    return {"MASTER_ADDR": address, "MASTER_PORT": port} | {name: str(value) for name, value in named.items()}


def node_address(nodes: str) -> str:
    """The address of the first of some nodes, as Slurm writes them (`n[1-3]`); a name need not be one."""

    def ask(*question: str) -> str:
        command = ["scontrol", "show", *question]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    (address,) = re.findall(r"\bNodeAddr=(\S+)", ask("node", ask("hostnames", nodes).split()[0]))
    return str(address)


def start_ranks(ranks: int) -> None:
    """Become torchrun of this command with so many ranks; signals that ask to stop reach each of them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
    command += [f"--signals-to-handle={SIGNALS}", f"--shutdown-timeout={GRACE}"]
    sys.stderr.flush()
    os.execv(sys.executable, [*command, "-m", "encoder_roles.cli", *sys.argv[1:]])  # noqa: S606  # no shell
