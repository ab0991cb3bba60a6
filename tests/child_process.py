"""Processes that begin with all that is imported here: an import of torch and transformers takes seconds."""

from __future__ import annotations

import multiprocessing
import os
import random
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from encoder_roles.training.distributed import PORTS

# Where torch may use CUDA, a process cannot be forked.
CONTEXT = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")


def start_process(output: Path, function: Callable[..., object], *arguments: Any) -> BaseProcess:
    """Call a function in a process of its own, which prints into a file."""
    process = CONTEXT.Process(target=_print_into, args=(output, function, *arguments), daemon=True)
    process.start()
    return process


def _print_into(output: Path, function: Callable[..., object], *arguments: Any) -> None:
    with output.open("w", buffering=1) as stream:
        sys.stdout = sys.stderr = stream
        function(*arguments)


def start_ranks(processes: int, function: Callable[..., object], *arguments: Any) -> list[BaseProcess]:
    """Call a function in processes that train together, as torchrun would start them."""
    port = free_port()
    ranks = []
    for rank in range(processes):
        place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes}
        place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ranks.append(CONTEXT.Process(target=_be_rank, args=(place, function, *arguments), daemon=True))
        ranks[-1].start()
    return ranks


def free_port() -> int:
    """A port that is free, of those that no system gives to an outgoing connection meanwhile."""
    for port in random.sample(PORTS, len(PORTS)):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port is free")


def _be_rank(place: dict[str, object], function: Callable[..., object], *arguments: Any) -> None:
    os.environ |= {name: str(value) for name, value in place.items()}
    function(*arguments)


def end_well(ranks: list[BaseProcess], seconds: float) -> bool:
    """Whether all processes end within a time, and well; none is left."""
    for rank in ranks:
        rank.join(seconds)
    codes = [rank.exitcode for rank in ranks]
    for rank in ranks:
        rank.kill()
    return codes == [0] * len(ranks)
