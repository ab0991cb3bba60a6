"""What a lock says of a source: its commit, and each file's size and hash."""

from __future__ import annotations

from typing import Literal

from encoder_roles.study.sections import HubSource, Settings


class LockedFile(Settings):
    """A file of a commit: size in bytes and the hash that the hub states (git's own for small files)."""

    size: int
    algorithm: Literal["sha256", "git-sha1"]
    digest: str


class LockedSource(Settings):
    """A source as it was asked for, the commit its revision meant when it was locked, and its files."""

    asked: HubSource
    commit: str
    files: dict[str, LockedFile]
