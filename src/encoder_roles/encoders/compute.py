"""Where networks compute, and how exactly: one choice of device and one of precision for every stage."""

from __future__ import annotations

import resource
import sys

import torch

from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import Precision

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def choose_device(asked: str | None = None, local: int = 0) -> torch.device:
    """The device of this process's networks: the machine's GPU number `local`, if it has any, or the CPU.

    fp32 is fp32 there. Left alone, torch lets cuDNN round what convolutions read to TF32's ten bits, in which
    effective ranks would not be those that a CPU finds.

    Args:
        asked: `cpu`, `cuda` or `cuda:N`, where a person chooses.
        local: this process's number among those of its machine.

    Raises:
        StudyError: `asked` names no device of this machine.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{number}" for number in range(gpus))]
    if asked is not None and asked not in known:
        raise StudyError(f"device {asked!r}: not one of this machine's, {', '.join(known)}")
    number = local if gpus > 1 else 0  # who sees one GPU alone, of a machine's several, was given that one
    device = torch.device(asked or (f"cuda:{number}" if gpus else "cpu"))
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return device


def dtype_of(precision: str) -> torch.dtype:
    """The type of weights and features at a precision. Raises StudyError if it is none of DTYPES."""
    for name, dtype in DTYPES.items():
        if name == precision:
            return dtype
    raise StudyError(f"precision {precision!r}: not one of {', '.join(DTYPES)}")


def device_name(device: torch.device) -> str:
    """`cpu`, or the GPU's own name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def peak_memory_mb() -> int:
    """Most memory of this process so far: of its GPU if it has used one, else resident."""
    if torch.cuda.is_available() and (used := torch.cuda.max_memory_allocated()):
        return round(used / 2**20)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
