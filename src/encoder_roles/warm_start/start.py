"""The run's side: a process that waits for the first job that loads a model, for as long as the run lasts."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from encoder_roles.warm_start import OFF, WARM_VARIABLE

# of CUDA and ROCm
GPUS = (
    "/proc/driver/nvidia",
    "/dev/nvidiactl",
    "/dev/dxg",
    "/dev/kfd",
)
_waiting: list[subprocess.Popen[bytes]] = []  # their stdin is this process's sign of life


def start_waiting() -> None:
    """Start the process that will become the parent of this run's model jobs; jobs learn of it by a variable.

    Does nothing where ENCODER_ROLES_WARM is `off`, on a system without what it needs, and on a machine with
    a GPU: a process that has used CUDA cannot be forked.
    """
    if os.environ.get(WARM_VARIABLE) == OFF:
        return
    if sys.platform != "linux" or any(Path(path).exists() for path in GPUS):
        os.environ[WARM_VARIABLE] = OFF
        return
    folder = tempfile.mkdtemp(prefix="encoder-roles-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = [sys.executable, "-m", "encoder_roles.warm_start.parent", folder]
    # a session of its own: Ctrl-C is for the run and its jobs
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True
    )
    _waiting.append(process)
    os.environ[WARM_VARIABLE] = f"{folder}/socket"
