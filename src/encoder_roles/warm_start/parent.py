"""The parent's side: it waits for a job, imports what such jobs import, and then forks a child per job.

`python -m encoder_roles.warm_start.parent <folder>`, with a pipe to the run's process as stdin. The first job
only brings its environment: the waiting process executes Python anew with it, so that all which is read when
a process starts is as in that job, and that job starts cold. When the pipe closes, the run has ended: no job
is taken any more, and the parent leaves when its children have ended.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import shutil
import signal
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from encoder_roles.manifest.code import PACKAGE
from encoder_roles.manifest.environment import installed
from encoder_roles.manifest.job import used_line
from encoder_roles.warm_start import WARM_VARIABLE
from encoder_roles.warm_start.messages import receive, send
from encoder_roles.warm_start.setting import MODULES, current_setting, first_difference

SOCKET = "socket"  # in the parent's folder
RUN = 0  # stdin: ends when the run's process does, however that died
PATIENCE = 1.0  # seconds in which a job must have said what it wants
PR_SET_PDEATHSIG = 1  # of prctl(2)
# What model jobs import only when they need it. DeepSpeed is not among them: it changes what other code does.
LATER = (
    "tyro",
    "encoder_roles.manifest.job",
    "encoder_roles.encoders.vision_transformers",
    "encoder_roles.encoders.timm_trunks",
    "open_clip",
    "torchvision.transforms.v2",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.clip.modeling_clip",
    "transformers.models.siglip.modeling_siglip",
    "transformers.models.dinov2.modeling_dinov2",
    "transformers.models.sam.modeling_sam",
    "transformers.convert_slow_tokenizer",
    "transformers.tokenization_utils_tokenizers",
    "PIL.PngImagePlugin",
)


@dataclass(frozen=True)
class Child:
    """A job that was forked: its connection, and its process as a number and as a descriptor."""

    connection: socket.socket
    pid: int
    handle: int


def listen(folder: Path) -> socket.socket:
    """A socket in a folder that only this user can enter."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(folder / SOCKET))
    listener.listen(64)
    return listener


def take(listener: socket.socket) -> tuple[socket.socket, dict[str, Any] | None, list[int]]:
    """The next connection, its request (None if it made none in time) and its file descriptors."""
    connection, _ = listener.accept()
    connection.settimeout(PATIENCE)
    try:
        request, descriptors = receive(connection)
    except (OSError, ValueError):
        request, descriptors = None, []
    return connection, request, descriptors


def wait_for_first(folder: Path) -> None:
    """Wait for a job; become the parent of jobs with its environment. Returns if the run ends before."""
    with selectors.DefaultSelector() as selector, listen(folder) as listener:
        selector.register(RUN, selectors.EVENT_READ)
        selector.register(listener, selectors.EVENT_READ)
        while True:
            if any(key.fd == RUN for key, _ in selector.select()):
                return
            connection, request, descriptors = take(listener)
            for descriptor in descriptors:
                os.close(descriptor)
            connection.close()  # that job starts cold
            if request is not None:
                break
    (folder / SOCKET).unlink()  # those that come while the parent imports start cold as well
    executable, setting = request["setting"]["python"][0], request["setting"]
    command = [executable, "-m", __spec__.name, str(folder), json.dumps(setting["path"])]
    os.execve(executable, command, setting["environment"])  # noqa: S606  # no shell


def package_files() -> dict[str, tuple[int, int, int]]:
    """The package's files, by path: what changes when one is edited."""
    stats = {str(path): path.stat() for path in PACKAGE.rglob("*") if path.suffix in {".py", ".yaml"}}
    return {path: (stat.st_mtime_ns, stat.st_size, stat.st_ino) for path, stat in stats.items()}


class Parent:
    """Everything that jobs import is imported; jobs become children of this process."""

    def __init__(self, folder: Path) -> None:
        """Import. Raises RuntimeError where a fork would not be safe."""
        self.folder, self.setting = folder, current_setting()
        self.files, self.packages = package_files(), installed(sys.path)
        for module in (*MODULES, *LATER):
            importlib.import_module(module)
        if (threads := len(list(Path("/proc/self/task").iterdir()))) > 1:
            raise RuntimeError(f"{threads} threads run after the imports")
        if sys.modules["torch"].cuda.is_initialized():
            raise RuntimeError("CUDA is in use after the imports")
        gc.collect()
        gc.freeze()  # a child that looks for garbage would copy all of it
        self.selector = selectors.DefaultSelector()
        self.children: dict[int, Child] = {}
        self.offers: dict[socket.socket, list[int]] = {}  # jobs that may start, and their streams
        self.listener = listen(folder)
        self.open = True
        self.forked: tuple[dict[str, Any], list[int]] | None = None  # the request, in a child
        self.selector.register(RUN, selectors.EVENT_READ, self.stop)
        self.selector.register(self.listener, selectors.EVENT_READ, self.answer)

    def serve(self) -> tuple[dict[str, Any], list[int]] | None:
        """Fork children until the run ends; returns None then, and in each child its request."""
        while self.open or self.offers or self.children:
            for key, _ in self.selector.select():
                if key.fd in self.selector.get_map():  # no event before it has ended this one
                    key.data()
                if self.forked is not None:
                    return self.forked
        return None

    def stop(self) -> None:
        """Take no more jobs."""
        self.selector.unregister(RUN)
        self.selector.unregister(self.listener)
        self.listener.close()
        self.open = False
        shutil.rmtree(self.folder, ignore_errors=True)

    def answer(self) -> None:
        """Tell a job whether this process can stand in for it; it may still turn away."""
        connection, request, descriptors = take(self.listener)
        reason = "no request" if request is None else self.refusal(request)
        try:
            send(connection, {"ready": reason is None, "reason": reason})
        except OSError:
            reason = "it has gone"
        if request is None or reason is not None:
            close(connection, descriptors)
        else:
            self.offers[connection] = descriptors
            start = partial(self.start, connection, request)
            self.selector.register(connection, selectors.EVENT_READ, start)

    def refusal(self, request: dict[str, Any]) -> str | None:
        """Why a job has to start cold; None if it need not."""
        if package_files() != self.files:
            return "the package's files have changed"
        if installed(sys.path) != self.packages:
            return "the installed packages have changed"
        return first_difference(self.setting, request["setting"])

    def start(self, connection: socket.socket, request: dict[str, Any]) -> None:
        """Fork the child of a job that has agreed; one that has gone needs none."""
        self.selector.unregister(connection)
        descriptors = self.offers.pop(connection)
        if not received(connection, 1):  # what follows are signals
            close(connection, descriptors)
            return
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            end_with(parent)
            self.release(connection)
            self.forked = request, descriptors
            return
        for descriptor in descriptors:
            os.close(descriptor)
        child = Child(connection, pid, os.pidfd_open(pid))
        self.children[pid] = child
        self.selector.register(connection, selectors.EVENT_READ, partial(self.pass_signals, child))
        self.selector.register(child.handle, selectors.EVENT_READ, partial(self.report, child))

    def release(self, connection: socket.socket) -> None:
        """In a child: close what belongs to the parent."""
        self.selector.close()
        self.listener.close()
        connection.close()
        for child in self.children.values():
            close(child.connection, [child.handle])
        for offer, descriptors in self.offers.items():
            close(offer, descriptors)

    def pass_signals(self, child: Child) -> None:
        """Send a child the signals that its job got; a job that has gone was killed, and so is its child."""
        if numbers := received(child.connection):
            for number in numbers:
                signal.pidfd_send_signal(child.handle, number)
            return
        self.selector.unregister(child.connection)
        signal.pidfd_send_signal(child.handle, signal.SIGKILL)
        with suppress(ProcessLookupError):  # it had not yet made a group of its own
            os.killpg(child.pid, signal.SIGKILL)

    def report(self, child: Child) -> None:
        """Tell a job how its child ended, and what it used."""
        _, status, usage = os.wait4(child.pid, 0)
        self.selector.unregister(child.handle)
        if child.connection.fileno() in self.selector.get_map():
            self.selector.unregister(child.connection)
        seconds, memory = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
        with suppress(OSError):  # the job has gone
            send(child.connection, {"status": status, "used": used_line(seconds, memory)})
        close(child.connection, [child.handle])
        del self.children[child.pid]


def received(connection: socket.socket, most: int = 512) -> bytes:
    """The bytes that have come; none if the connection has ended."""
    try:
        return connection.recv(most)
    except OSError:
        return b""


def close(connection: socket.socket, descriptors: list[int]) -> None:
    """Close a connection and descriptors."""
    connection.close()
    for descriptor in descriptors:
        os.close(descriptor)


def end_with(parent: int) -> None:
    """In a child: die when the parent does, for then nobody would see that the job was killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """In a child: be the job, with its streams, folder and environment, and random numbers of its own."""
    os.setsid()
    for stream, descriptor in enumerate(descriptors):
        os.dup2(descriptor, stream)
        os.close(descriptor)
    sys.stdout.reconfigure(line_buffering=sys.stdout.isatty())  # type: ignore[union-attr]
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    del os.environ[WARM_VARIABLE]  # what it starts is no job of the run
    sys.argv[:] = request["argv"]
    random.seed()
    sys.modules["numpy"].random.seed()
    sys.modules["torch"].default_generator.seed()


def main() -> None:
    """Wait, or with the path of imports that a job had, import and serve; a child runs its command."""
    folder = Path(sys.argv[1])
    if not sys.argv[2:]:
        try:
            wait_for_first(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    sys.path[:] = json.loads(sys.argv[2])
    try:
        parent = Parent(folder)
    except (ImportError, OSError, RuntimeError) as error:
        sys.exit(f"encoder-roles: every job imports torch itself: {error}")
    job = parent.serve()
    if job is not None:
        become(*job)
        runpy.run_module("encoder_roles.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
