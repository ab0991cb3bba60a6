"""The job's side: it hands itself over to the parent, passes signals on, and ends as its child ends."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from encoder_roles.warm_start import OFF, WARM_VARIABLE
from encoder_roles.warm_start.messages import STREAMS, receive, send
from encoder_roles.warm_start.setting import MODULES, current_setting

PATIENCE = 5.0  # seconds to wait for a parent; a job that got no answer starts cold
PASSED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def hand_over(module: str) -> None:
    """Have a warm parent run this process's command; return if there is none, or it does not fit.

    Args:
        module: of the command.
    """
    address = os.environ.get(WARM_VARIABLE, OFF)
    if address == OFF or module not in MODULES:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        request = {
            "setting": current_setting(),
            "environment": dict(os.environ),
            "argv": sys.argv,
            "folder": str(Path.cwd()),
        }
        try:
            connection.connect(address)
            send(connection, request, range(STREAMS))
            answer, _ = receive(connection)
        except OSError:  # no parent, or one that imports, ends or hangs; or a stream that is closed
            return
        if answer is None or not answer.get("ready"):
            return
        follow(connection)


def follow(connection: socket.socket) -> NoReturn:
    """Let the child start, and be its stand-in: signals go to it, and its end is this process's end."""
    connection.settimeout(None)
    wake, waker = os.pipe()
    os.set_blocking(waker, False)
    signal.set_wakeup_fd(waker)  # Python writes the number of each signal that has a handler
    for number in PASSED:
        signal.signal(number, _no_action)
    try:
        connection.sendall(b"\0")
        while True:
            ready, _, _ = select.select([connection.fileno(), wake], [], [])
            if connection.fileno() in ready:
                break
            connection.sendall(os.read(wake, 512))
        end, _ = receive(connection)
    except OSError:
        end = None
    finish(end)


def _no_action(_signal: int, _frame: FrameType | None) -> None:
    """The wake-up pipe holds the signal."""


def finish(end: dict[str, Any] | None) -> NoReturn:
    """End as the child ended: with its exit code, or of the same signal."""
    if end is None:
        command = " ".join(sys.argv[1:2])
        sys.exit(f"encoder-roles {command}: the process that ran it was killed; run the job again")
    code = os.waitstatus_to_exitcode(end["status"])
    if code == 0:
        print(end["used"], file=sys.stderr, flush=True)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)
