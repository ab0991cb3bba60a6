"""The environment of a job: the lock that made it, and whether the installed packages are those it pins."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from encoder_roles.provenance import sha256_of
from encoder_roles.study.names import StudyError

PLATFORM_VARIABLE = "ENCODER_ROLES_PLATFORM"  # cpu or cuda: the lock of an environment; unset: either
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)(?: *; *([^\\\n]+))?", re.MULTILINE)
UNPINNED = {
    "encoder-roles",
    "pip",
    "setuptools",
    "wheel",
}  # installed in every environment, but not in its lock
SHOWN = 3  # differences in one line


@dataclass(frozen=True)
class Environment:
    """The lock of the running Python, and how the installed packages differ from it."""

    lock: str  # file name under envs/
    sha256: str
    differences: tuple[str, ...]  # from the pins: these stop a run
    unlisted: tuple[str, ...]  # installed, but not in the lock: these are recorded


def check_environment(*, locks: Path = Path("envs")) -> None:
    """Stop with one line if this Python's environment differs from its lock.

    Args:
        locks: the folder of the locks.

    Raises:
        StudyError: the environment was made without a lock or from another one, or a package is missing or
            has another version than its pin.
    """
    pinned_environment(locks)


def pinned_environment(locks: Path) -> Environment:
    """As `used_environment`. Raises StudyError if the environment differs from its lock."""
    environment = used_environment(locks)
    if environment.differences:
        named = ", ".join(environment.differences[:SHOWN])
        more = len(environment.differences) - SHOWN
        raise StudyError(
            f"{sys.prefix} is not what {locks / environment.lock} pins: {named}"
            f"{f' and {more} more' if more > 0 else ''}; {how_to_remake(environment.lock)}"
        )
    return environment


def used_environment(locks: Path) -> Environment:
    """The environment of this Python. Raises StudyError if none of the `locks` made it."""
    prefix = Path(sys.prefix)
    copies = sorted(prefix.glob("[!.]*.lock"))  # .lock is the file that uv holds while it installs
    if len(copies) != 1:
        raise StudyError(
            f"{prefix}: this environment has {len(copies) or 'no'} copies of a lock of {locks}, so its lock "
            "is unknown; make it with `make environment`, or `snakemake --sdm conda`"
        )
    (copy,) = copies
    lock = locks / copy.name
    if not lock.is_file():
        raise StudyError(f"{prefix} was made from {copy.name}, which is not in {locks}; make it again")
    if lock.read_bytes() != copy.read_bytes():
        raise StudyError(f"{prefix} was made from another {lock} than this one; {how_to_remake(copy.name)}")
    pins, versions = read_pins(lock.read_text(encoding="utf-8")), installed(sys.path)
    return Environment(
        lock=copy.name,
        sha256=sha256_of(lock),
        differences=tuple(
            f"{name} {versions.get(name, 'is missing')} (pinned {version})"
            for name, version in pins.items()
            if versions.get(name) != version
        ),
        unlisted=tuple(sorted(set(versions) - set(pins) - UNPINNED)),
    )


def check_platform(lock: str) -> None:
    """Raise StudyError if a lock is not for the requested platform; without a request, each will do."""
    platform = os.environ.get(PLATFORM_VARIABLE, platform_of(lock))
    if platform not in ("cpu", "cuda"):
        raise StudyError(f"{PLATFORM_VARIABLE}={platform}: must be cpu or cuda")
    if platform != platform_of(lock):
        raise StudyError(
            f"{sys.prefix} was made from {lock}, for {platform_of(lock)}, but {PLATFORM_VARIABLE} "
            f"requests {platform}; {how_to_remake(lock)}"
        )


def platform_of(lock: str) -> str:
    """cpu or cuda."""
    return "cuda" if lock.endswith(".cuda.lock") else "cpu"


def how_to_remake(lock: str) -> str:
    """How to repair an environment that differs from its lock."""
    if lock.startswith("laptop."):
        return "remove that folder, then `make environment`"
    return "remove that folder: `snakemake --sdm conda` makes it again"


def normal(name: str) -> str:
    """A package's name in the form in which indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(text: str) -> dict[str, str]:
    """Package -> version, of a requirements file or a lock, without those that other machines need."""
    return {
        normal(name): version for name, version, marker in PIN.findall(text) if not marker or holds(marker)
    }


def holds(marker: str) -> bool:
    """Whether the marker of a requirement holds for this machine and Python."""
    from packaging.markers import Marker  # only few packages of a lock have one

    return Marker(marker).evaluate()


def installed(paths: Iterable[str]) -> dict[str, str]:
    """Package -> version of every package under these paths; the first path wins, as in imports.

    They are read from the names of the .dist-info folders, ten times faster than importlib.metadata, which
    opens a file per package.
    """
    versions = dict[str, str]()
    for path in paths:
        for folder in sorted(Path(path).glob("*.dist-info")):
            name, _, version = folder.name.removesuffix(".dist-info").partition("-")
            versions.setdefault(normal(name), version)
    return versions
