"""Compile every lock from the requirements beside it: `make relock`. Run again, it changes nothing.

laptop.in pins each direct requirement of the whole study; it is the only file with versions to edit.
laptop.lock is compiled from it: every package, exact, with hashes, for CPUs. Environments that conda makes
name their direct requirements in <name>.in, without versions; theirs are laptop.lock's, so that all of them
hold the same. The locks for CUDA differ in torch's build and in what it brings. uv reads metadata and
installs nothing.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ENVS = Path(__file__).resolve().parent
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", re.MULTILINE)
PLATFORMS = ("cpu", "cuda")
TARGET = ("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28")
POST_DEPLOY = """#!/usr/bin/env bash
# Written by `make relock`. Snakemake runs this in the repository's root when it has made the environment, and
# makes the environment anew when this text changes; so it holds the SHA-256 of its locks:
{sums}
set -euo pipefail
python envs/install.py --into {name}
"""


def main() -> None:
    """Write all locks and the scripts that install them."""
    wheels = find_links()
    compile_lock(ENVS / "laptop.in", ENVS / "laptop.lock", "--no-header", *wheels)
    pins = dict(PIN.findall((ENVS / "laptop.lock").read_text()))
    direct = {name: pins[name] for name in names_in(ENVS / "laptop.in", pins)}
    derive(direct, pins, ENVS / "laptop.cuda.lock", "cuda", ())
    for environment in sorted(path.stem for path in ENVS.glob("*.yaml")):
        wanted = {name: pins[name] for name in names_in(ENVS / f"{environment}.in", pins)}
        locks = [ENVS / f"{environment}.{platform}.lock" for platform in PLATFORMS]
        for platform, lock in zip(PLATFORMS, locks, strict=True):
            derive(wanted, pins, lock, platform, wheels if platform == "cpu" else ())
        sums = "\n".join(f"# {hashlib.sha256(lock.read_bytes()).hexdigest()}  {lock.name}" for lock in locks)
        script = ENVS / f"{environment}.post-deploy.sh"
        script.write_text(POST_DEPLOY.format(sums=sums, name=environment))


def derive(
    wanted: dict[str, str], pins: dict[str, str], lock: Path, platform: str, wheels: tuple[str, ...]
) -> None:
    """Compile a lock whose packages have laptop.lock's versions; for CUDA without the builds for CPUs."""
    requirements, constraints = (
        "".join(f"{name}=={built_for(platform, version)}\n" for name, version in some.items())
        for some in (wanted, pins)
    )
    with tempfile.TemporaryDirectory() as folder:
        asked, limits = Path(folder, "asked.in"), Path(folder, "limits.txt")
        asked.write_text(requirements)
        limits.write_text(constraints)
        compile_lock(asked, lock, "--no-header", "--no-annotate", "--constraints", str(limits), *wheels)


def built_for(platform: str, version: str) -> str:
    """A version of laptop.lock, less the mark of a build for CPUs where that is not wanted."""
    return version if platform == "cpu" else version.partition("+")[0]


def compile_lock(requirements: Path, lock: Path, *options: str) -> None:
    """Have uv resolve requirements to a lock with hashes; versions that are in the lock already stay."""
    asked = requirements.relative_to(ENVS.parent) if requirements.is_relative_to(ENVS) else requirements
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--generate-hashes",
        *TARGET,
        *options,
    ]
    subprocess.run([*command, str(asked), "--output-file", str(lock)], cwd=ENVS.parent, check=True)


def names_in(requirements: Path, pins: dict[str, str]) -> list[str]:
    """The packages that a file of requirements names, as the lock spells them; ends if the lock lacks one."""
    lines = [
        line.partition("#")[0].partition("==")[0].strip() for line in requirements.read_text().splitlines()
    ]
    names = [re.sub(r"[-_.]+", "-", line).lower() for line in lines if line]
    if missing := [name for name in names if name not in pins]:
        sys.exit(
            f"{requirements.name}: {missing[0]} is not in laptop.lock; add it to laptop.in with its version"
        )
    return names


def find_links() -> tuple[str, ...]:
    """The folders of wheels that pip is configured with, for uv: torch's CPU wheel may be in one."""
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"], capture_output=True, text=True
    )
    return tuple(part for folder in asked.stdout.split() for part in ("--find-links", folder))


if __name__ == "__main__":
    main()
