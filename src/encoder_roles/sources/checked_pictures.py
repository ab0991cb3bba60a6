"""Every picture of a file of records is decoded once before any training, and remembered as whole.

A picture is known by its path, size and time of change, so a second run decodes only what is new or was bad.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from encoder_roles.data.pictures import PictureError, decode_picture

RULES = "1"  # raise it when the rules of decoding change: all pictures are decoded again then
DIGEST = 16  # bytes that a picture takes in the memory
WAITING = 16  # pictures per thread that are begun before the first is waited for


@dataclass(frozen=True)
class BadPicture:
    """A picture that cannot be used, and the first record about it, from 1."""

    record: int
    error: PictureError
    picture: Path


class PictureCheck:
    """Decodes pictures in threads, as many as this process may use cores. Use it as a context.

    Args:
        memory: the file of the pictures that were whole; it grows with every one, so that a run
            that is stopped loses little.
    """

    def __init__(self, memory: Path) -> None:
        memory.parent.mkdir(parents=True, exist_ok=True)
        held = memory.read_bytes() if memory.is_file() else b""
        held = held[: len(held) // DIGEST * DIGEST]  # the last may have been cut off
        self.known = {held[start : start + DIGEST] for start in range(0, len(held), DIGEST)}
        self.bad: list[BadPicture] = []
        self._file = memory.open("r+b" if memory.is_file() else "wb")
        self._file.seek(len(held))
        self._file.truncate()
        threads = len(os.sched_getaffinity(0))
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="pictures")
        self._most = WAITING * threads
        self._begun: deque[tuple[int, Path, bytes, Future[None]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._file.close()

    def add(self, picture: Path, record: int) -> None:
        """Begin to decode a picture unless it is known. Raises StudyError if the machine cannot read one."""
        key = _key(picture)
        if key in self.known:
            return
        self.known.add(key)
        self._begun.append((record, picture, key, self._pool.submit(_decode, picture)))
        while len(self._begun) > self._most:
            self._settle()

    def finish(self) -> list[BadPicture]:
        """Wait for the last; the bad pictures in the order of their records. Raises as `add`."""
        while self._begun:
            self._settle()
        return self.bad

    def _settle(self) -> None:
        record, picture, key, done = self._begun.popleft()
        try:
            done.result()
            self._file.write(key)
        except PictureError as error:
            self.bad.append(BadPicture(record, error, picture))


def _key(picture: Path) -> bytes:
    """What a picture is known by. What is no file has neither size nor time."""
    try:
        facts = picture.stat()
        held = f"{facts.st_size} {facts.st_mtime_ns}" if stat.S_ISREG(facts.st_mode) else ""
    except OSError:
        held = ""
    return hashlib.blake2b(os.fsencode(f"{RULES} {held} {picture}"), digest_size=DIGEST).digest()


def _decode(picture: Path) -> None:
    decode_picture(picture)
