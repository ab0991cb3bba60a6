"""A source in a lock: its commit, and the size and hash of each file."""

from __future__ import annotations

from typing import Literal

from encoder_roles.study.sections import HubSource, Settings


class LockedFile(Settings):
    """A file of a commit: its size in bytes, and the hub's hash (for small files, that of git)."""

    size: int
    algorithm: Literal["sha256", "git-sha1"]
    digest: str


class LockedSource(Settings):
    """A source as the config requested it, the commit of its revision when it was locked, and its files."""

    asked: HubSource
    commit: str
    files: dict[str, LockedFile]
