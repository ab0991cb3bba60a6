"""One command of a rehearsal: it runs as the study's jobs run it, while every process records its peaks."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from encoder_roles import cli
from encoder_roles.encoders.compute import peak_memory_mb
from encoder_roles.provenance import write_json
from encoder_roles.training.distributed import ProcessRank, find_rank
from encoder_roles.training.marks import watched

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CLEAR_PEAK = "5"  # of Linux's clear_refs: reset the peak of resident memory


@dataclass(frozen=True)
class Step:
    """A command and what to do while it runs.

    Attributes:
        command, options: the words after `encoder-roles`.
        records: the folder in which each process writes its record.
        stop_after: the step of a training after which its last process gets SIGUSR1; None: it is not stopped.
    """

    command: str
    options: tuple[str, ...]
    records: Path
    stop_after: int | None = None

    def write(self, path: Path) -> Path:
        """Write it as JSON, for `rehearse_step`."""
        write_json(path, asdict(self) | {"records": str(self.records)})
        return path

    @classmethod
    def read(cls, path: Path) -> Step:
        """Read what `write` wrote."""
        row = json.loads(path.read_text(encoding="utf-8"))
        return cls(row["command"], tuple(row["options"]), Path(row["records"]), row["stop_after"])


def host_peak() -> int:
    """The most bytes of resident memory since `clear_host_peak`; since the start where Linux forbids that."""
    with suppress(OSError):
        for line in STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return peak_memory_mb() * 2**20


def clear_host_peak() -> None:
    """Begin a new peak of resident memory, where the system allows it."""
    with suppress(OSError):
        CLEAR.write_text(CLEAR_PEAK)


class Recorder:
    """Time and memory of this process between the points that it passes; the record is written at each.

    Args:
        step: what runs.
        process: this process.
    """

    def __init__(self, step: Step, process: ProcessRank) -> None:
        self.step, self.process = step, process
        self.phases: list[dict[str, Any]] = []
        self.steps, self.before = 0, time.time()
        clear_host_peak()

    def mark(self, name: str) -> None:
        """Record the phase that ends here; send the signal to stop if it is time."""
        now, device = time.time(), self.process.device
        on_gpu = device.type == "cuda"
        allocated = torch.cuda.max_memory_allocated(device) if on_gpu else 0
        phase = {"phase": name, "ended": now, "seconds": now - self.before}
        self.phases.append(phase | {"host_bytes": host_peak(), "device_bytes": allocated})
        self.write()
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(device)
        clear_host_peak()
        self.before = time.time()
        self.steps += name == "step"
        last = self.process.rank == self.process.world_size - 1
        if name == "step" and self.steps == self.step.stop_after and last:
            os.kill(os.getpid(), signal.SIGUSR1)

    def write(self) -> None:
        """Write the record of this process."""
        device = self.process.device
        total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
        node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        record = {"process": self.process.rank, "node": node, "device_total_bytes": total}
        write_json(self.step.records / f"{self.process.rank:05d}.json", record | {"phases": self.phases})


def rehearse_step(*, job: Path) -> None:
    """Run one command of a rehearsal, and record what each of its processes takes.

    Args:
        job: what `Step.write` wrote.
    """
    step = Step.read(job)
    recorder = Recorder(step, find_rank(os.environ) or ProcessRank())
    with watched(recorder.mark):
        cli.run(step.command, step.options)
    recorder.mark("end")
    sys.stderr.flush()
