"""Which environment a job runs in: the lock that made it, and whether what is installed is what it pins."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from encoder_roles.provenance import sha256_of
from encoder_roles.study.names import StudyError

PLATFORM_VARIABLE = "ENCODER_ROLES_PLATFORM"  # cpu (also where unset) or cuda: which lock of an environment
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", re.MULTILINE)
OWN = {"encoder-roles", "pip", "setuptools", "wheel"}  # in an environment without being of its lock
SHOWN = 3  # differences named in one line


@dataclass(frozen=True)
class Environment:
    """The lock of the Python that runs, and how what is installed differs from it."""

    lock: str  # file name under envs/
    sha256: str
    differences: tuple[str, ...]  # from the lock's pins: these stop a run
    unlisted: tuple[str, ...]  # installed beside the lock, which pins nothing of theirs: these are recorded


def check_environment(*, locks: Path = Path("envs")) -> None:
    """Stop with one line if this Python's environment is not what its lock says.

    Args:
        locks: the folder of the locks.

    Raises:
        StudyError: the environment was not made from a lock, or was made from an older one, or a package is
            missing or has another version than its pin.
    """
    pinned_environment(locks)


def pinned_environment(locks: Path) -> Environment:
    """`used_environment`, which must not differ from its lock. Raises StudyError if it does."""
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
    """The environment of this Python. Raises StudyError if none of the present `locks` made it."""
    prefix = Path(sys.prefix)
    copies = sorted(prefix.glob("*.lock"))
    if len(copies) != 1:
        raise StudyError(
            f"{prefix}: this environment holds {len(copies) or 'no'} copies of a lock of {locks}, so nothing "
            "says what it was made from; make it with `make environment`, or `snakemake --sdm conda`"
        )
    (copy,) = copies
    lock = locks / copy.name
    if not lock.is_file():
        raise StudyError(f"{prefix} was made from {copy.name}, which is not in {locks}; make it again")
    if lock.read_bytes() != copy.read_bytes():
        raise StudyError(f"{prefix} was made from another {lock} than this one; {how_to_remake(copy.name)}")
    pins, found = read_pins(lock.read_text(encoding="utf-8")), installed(sys.path)
    return Environment(
        lock=copy.name,
        sha256=sha256_of(lock),
        differences=tuple(
            f"{name} {found.get(name, 'is missing')} (pinned {version})"
            for name, version in pins.items()
            if found.get(name) != version
        ),
        unlisted=tuple(sorted(set(found) - set(pins) - OWN)),
    )


def check_platform(lock: str) -> None:
    """Raise StudyError if a lock is not for the platform that was asked for."""
    asked = os.environ.get(PLATFORM_VARIABLE, "cpu")
    if asked not in ("cpu", "cuda"):
        raise StudyError(f"{PLATFORM_VARIABLE}={asked}: must be cpu or cuda")
    if asked != platform_of(lock):
        raise StudyError(
            f"{sys.prefix} was made from {lock}, for {platform_of(lock)}, and {PLATFORM_VARIABLE} "
            f"asks for {asked} (cpu where it is unset); {how_to_remake(lock)}"
        )


def platform_of(lock: str) -> str:
    """cpu or cuda."""
    return "cuda" if lock.endswith(".cuda.lock") else "cpu"


def how_to_remake(lock: str) -> str:
    """What to do about an environment that is not its lock's."""
    if lock.startswith("laptop."):
        return "remove that folder, then `make environment`"
    return "remove that folder: `snakemake --sdm conda` makes it again"


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(text: str) -> dict[str, str]:
    """Package -> version, of a requirements file or a lock."""
    return {normal(name): version for name, version in PIN.findall(text)}


def installed(paths: Iterable[str]) -> dict[str, str]:
    """Package -> version of everything that an import finds under these paths, the first one found.

    Read from the names of the .dist-info folders: importlib.metadata opens a file for each, which takes
    ten times as long.
    """
    found = dict[str, str]()
    for path in paths:
        for folder in sorted(Path(path).glob("*.dist-info")):
            name, _, version = folder.name.removesuffix(".dist-info").partition("-")
            found.setdefault(normal(name), version)
    return found
