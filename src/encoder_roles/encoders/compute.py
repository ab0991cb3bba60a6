"""The device and the precision of computation, chosen in one place for every stage."""

from __future__ import annotations

import resource
import sys

import torch

from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import Precision

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def choose_device(request: str | None = None, local: int = 0) -> torch.device:
    """The device of this process: GPU number `local` of the machine, or the CPU if there is no GPU.

    fp32 is computed in fp32 there. By default torch lets cuDNN round the inputs of convolutions to TF32 (ten
    bits), and effective ranks would differ from those of a CPU.

    Args:
        request: `cpu`, `cuda` or `cuda:N`, if a user chooses.
        local: this process's number among those of its machine.

    Raises:
        StudyError: `request` is not a device of this machine.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    known = ["cpu", *(["cuda"] if gpus else []), *(f"cuda:{number}" for number in range(gpus))]
    if request is not None and request not in known:
        raise StudyError(f"device {request!r}: not one of this machine's, {', '.join(known)}")
    number = local if gpus > 1 else 0  # a process that sees a single GPU was given that one
    device = torch.device(request or (f"cuda:{number}" if gpus else "cpu"))
    if device.type == "cuda":
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return device


def dtype_of(precision: str) -> torch.dtype:
    """The type of weights and features at a precision. Raises StudyError if it is not one of DTYPES."""
    for name, dtype in DTYPES.items():
        if name == precision:
            return dtype
    raise StudyError(f"precision {precision!r}: not one of {', '.join(DTYPES)}")


def device_name(device: torch.device) -> str:
    """`cpu`, or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def peak_memory_mb() -> int:
    """Peak memory of this process in MiB: of its GPU if it has used one, otherwise resident memory."""
    if torch.cuda.is_available() and (used := torch.cuda.max_memory_allocated()):
        return round(used / 2**20)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes on macOS, in KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
