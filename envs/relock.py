"""Compile every lock from the requirements beside it: `make relock`. A second run changes nothing.

laptop.in pins each direct requirement of the study; it is the only file in which to edit versions.
laptop.lock is compiled from it: every package, at an exact version, with hashes, for CPUs. The environments
that conda makes list their direct requirements in <name>.in, without versions: these come from laptop.lock,
so that a package has one version everywhere. The locks for CUDA have another build of torch and the packages
it needs. uv reads metadata and installs nothing.
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
    """Compile a lock of the packages in `wanted` at laptop.lock's versions (`pins`), for one platform."""
    requirements, constraints = (
        "".join(f"{name}=={built_for(platform, version)}\n" for name, version in versions.items())
        for versions in (wanted, pins)
    )
    with tempfile.TemporaryDirectory() as folder:
        direct, limits = Path(folder, "direct.in"), Path(folder, "limits.txt")
        direct.write_text(requirements)
        limits.write_text(constraints)
        compile_lock(direct, lock, "--no-header", "--no-annotate", "--constraints", str(limits), *wheels)


def built_for(platform: str, version: str) -> str:
    """A version of laptop.lock for a platform; for CUDA without the mark of a CPU build (`+cpu`)."""
    return version if platform == "cpu" else version.partition("+")[0]


def compile_lock(requirements: Path, lock: Path, *options: str) -> None:
    """Let uv resolve requirements to a lock with hashes; versions that are in the lock already stay."""
    source = requirements.relative_to(ENVS.parent) if requirements.is_relative_to(ENVS) else requirements
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
    subprocess.run([*command, str(source), "--output-file", str(lock)], cwd=ENVS.parent, check=True)


def names_in(requirements: Path, pins: dict[str, str]) -> list[str]:
    """The packages in a requirements file, spelt as in the lock; ends with one line if the lock lacks one."""
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
    """uv's options for the wheel folders of pip's configuration: torch's CPU wheel may be in one of them."""
    configured = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"], capture_output=True, text=True
    )
    return tuple(part for folder in configured.stdout.split() for part in ("--find-links", folder))


if __name__ == "__main__":
    main()
