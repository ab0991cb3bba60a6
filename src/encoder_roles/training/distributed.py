"""The processes that share one training: the rank of this process, and how the processes connect.

A stage whose settings ask for one process runs in the calling process. With more processes, each one reads
its rank from the environment that torchrun or srun sets. A process without a rank starts all of them on this
machine with torchrun.
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

GRACE = 600  # seconds that torchrun's workers have to write a checkpoint after a signal to stop
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"  # torchrun forwards them to its workers
PORTS = range(20000, 30000)  # one of them connects the processes of a Slurm step


@dataclass(frozen=True)
class ProcessRank:
    """The number of this process among all processes of the training, and among those of its machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def device(self) -> torch.device:
        """The GPU of this process, or the CPU if the machine has no GPU."""
        return choose_device(local=self.local_rank)


def find_rank(environment: Mapping[str, str]) -> ProcessRank | None:
    """The rank that torchrun or srun gave this process; None if neither did."""
    for rank, world_size, local_rank in (
        ("RANK", "WORLD_SIZE", "LOCAL_RANK"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    ):
        if rank in environment and environment.get(world_size, "1") != "1":
            return ProcessRank(*(int(environment[name]) for name in (rank, world_size, local_rank)))
    return None


def join_processes(settings: EngineSettings) -> ProcessRank:
    """Connect the processes, and return the rank of this one.

    Raises StudyError if their number is not that of the settings. Does not return in a process that starts
    the others: it becomes torchrun.
    """
    process = find_rank(os.environ)
    if process is None and settings.processes > 1:
        start_processes(settings.processes)
    process = process or ProcessRank()
    if process.world_size != settings.processes:
        raise StudyError(
            f"training.engine.processes is {settings.processes}, but {process.world_size} were started; "
            "start as many processes as the config says"
        )
    if settings.kind == "deepspeed" and not torch.distributed.is_initialized():
        for name, value in rendezvous(os.environ, process).items():
            os.environ.setdefault(name, value)
        backend = "cpu:gloo,cuda:nccl" if process.device.type == "cuda" else "gloo"
        if process.device.type == "cuda":
            torch.cuda.set_device(process.device)
        torch.distributed.init_process_group(backend)
    return process


def rendezvous(environment: Mapping[str, str], process: ProcessRank) -> dict[str, str]:
    """The environment variables that torch needs to connect the processes.

    torchrun sets them. Under srun they follow from the job step: the address is that of its first node, and
    the port is derived from the numbers of job and step.
    """
    address, port = "127.0.0.1", "0"
    if process.world_size > 1:
        step = int(environment.get("SLURM_JOB_ID", 0)) * 31 + int(environment.get("SLURM_STEP_ID", 0))
        port = str(PORTS[step % len(PORTS)])
        if environment.get("SLURM_STEP_NUM_NODES", "1") != "1" and "MASTER_ADDR" not in environment:
            address = node_address(environment["SLURM_STEP_NODELIST"])
    named = {"RANK": process.rank, "WORLD_SIZE": process.world_size, "LOCAL_RANK": process.local_rank}
    return {"MASTER_ADDR": address, "MASTER_PORT": port} | {name: str(value) for name, value in named.items()}


def node_address(nodes: str) -> str:
    """The address of the first node of a Slurm node list (`n[1-3]`); a node's name may not be an address."""

    def show(*arguments: str) -> str:
        command = ["scontrol", "show", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    (address,) = re.findall(r"\bNodeAddr=(\S+)", show("node", show("hostnames", nodes).split()[0]))
    return str(address)


def start_processes(processes: int) -> None:
    """Replace this process by torchrun of its command; torchrun forwards signals to all processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [f"--signals-to-handle={SIGNALS}", f"--shutdown-timeout={GRACE}"]
    sys.stderr.flush()
    os.execv(sys.executable, [*command, "-m", "encoder_roles.cli", *sys.argv[1:]])  # noqa: S606  # no shell
