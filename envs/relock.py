"""Compile every lock from the requirements beside it: `make relock`. A second run changes nothing.

laptop.in pins each direct requirement of the study; it is the only file in which to edit versions.
laptop.lock is compiled from it: every package, at an exact version, with hashes, for CPUs. The environments
that conda makes list their direct requirements in <name>.in, without versions: these come from laptop.lock,
so that a package has one version everywhere. The locks for CUDA have another build of torch and the packages
it needs. One lock serves every machine and Python in `MACHINES`: a package that only some of them need has a
marker. uv reads metadata and installs nothing.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

ENVS = Path(__file__).resolve().parent
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\;]+)", re.MULTILINE)
MARKER = re.compile(r"^(\S+==\S+)( ; [^\\\n]+)(?= \\)", re.MULTILINE)
PLATFORMS = ("cpu", "cuda")
LINUX, LINUX_ARM, MAC = (
    f"sys_platform == '{system}' and platform_machine == '{machine}' and python_version < '3.14'"
    " and platform_python_implementation == 'CPython'"
    for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"))
)
MACHINES = (LINUX, LINUX_ARM, MAC)
# torch's builds: the one for CPUs is on PyTorch's index alone, so its hash is known where a wheel was at hand
WITH_TORCH = {"cpu": (LINUX.replace("3.14", "3.12"), MAC), "cuda": (LINUX, LINUX_ARM)}
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
    laptop = ENVS / "laptop.in"
    compile_lock(laptop.read_text(), "", laptop, ENVS / "laptop.lock", WITH_TORCH["cpu"], wheels)
    pins: dict[str, str] = {}
    for name, version in PIN.findall((ENVS / "laptop.lock").read_text()):
        pins[name] = min(pins.get(name, version), version, key=len)  # 2.13.0 before 2.13.0+cpu
    derive(requirements_in(laptop), pins, ENVS / "laptop.cuda.lock", "cuda", ())
    for environment in sorted(path.stem for path in ENVS.glob("*.yaml")):
        wanted = requirements_in(ENVS / f"{environment}.in")
        locks = [ENVS / f"{environment}.{platform}.lock" for platform in PLATFORMS]
        for platform, lock in zip(PLATFORMS, locks, strict=True):
            derive(wanted, pins, lock, platform, wheels if platform == "cpu" else ())
        sums = "\n".join(f"# {hashlib.sha256(lock.read_bytes()).hexdigest()}  {lock.name}" for lock in locks)
        script = ENVS / f"{environment}.post-deploy.sh"
        script.write_text(POST_DEPLOY.format(sums=sums, name=environment))


def derive(
    wanted: dict[str, list[str]], pins: dict[str, str], lock: Path, platform: str, wheels: tuple[str, ...]
) -> None:
    """Compile a lock of the packages in `wanted` at laptop.lock's versions (`pins`), for one platform."""
    if missing := [name for name in wanted if name not in pins]:
        sys.exit(f"{lock.name}: {missing[0]} is not in laptop.lock; add it to laptop.in with its version")
    builds = requirements_in(ENVS / "laptop.in") if platform == "cpu" else {}  # torch's are named there
    requirements, constraints = (
        "".join(f"{line}\n" for name in names for line in builds.get(name, [f"{name}=={pins[name]}"]))
        for names in (wanted, pins)
    )
    machines = WITH_TORCH[platform] if "torch" in wanted else MACHINES
    compile_lock(requirements, constraints, Path("direct.in"), lock, machines, ("--no-annotate", *wheels))


def compile_lock(
    requirements: str,
    constraints: str,
    source: Path,
    lock: Path,
    machines: tuple[str, ...],
    options: tuple[str, ...],
) -> None:
    """Let uv resolve requirements to a lock with hashes; versions that are in the lock already stay.

    uv takes the machines from a project file only, so it works in a folder with one.
    """
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder)
        (project / "envs").mkdir()
        (project / "pyproject.toml").write_text(project_file(machines))
        (project / "limits.txt").write_text(constraints)
        (project / "envs" / source.name).write_text(requirements)
        output = project / "compiled.lock"
        if lock.exists():
            output.write_text(lock.read_text())
        command = [
            sys.executable,
            "-m",
            "uv",
            "pip",
            "compile",
            "--quiet",
            "--generate-hashes",
            "--universal",
        ]
        command += ["--python-version", "3.11", "--no-header", "--constraints", "limits.txt", *options]
        files = [f"envs/{source.name}", "--output-file", output.name]
        subprocess.run([*command, *files], cwd=project, check=True)
        lock.write_text(without_common_marker(output.read_text()))


def project_file(machines: tuple[str, ...]) -> str:
    """A project with these machines, and with what stands for lmms-eval's own list of dependencies."""
    project = tomllib.loads((ENVS.parent / "pyproject.toml").read_text())
    lines = ['[project]\nname = "locks"\nversion = "0"\nrequires-python = ">=3.11"\n[tool.uv]']
    lines.append(f"environments = {json.dumps(machines)}")
    for entry in project["tool"]["uv"]["dependency-metadata"]:
        lines.append("[[tool.uv.dependency-metadata]]")
        lines += [f"{key} = {json.dumps(value)}" for key, value in entry.items()]
    return "\n".join(lines)


def without_common_marker(text: str) -> str:
    """A lock in which a package that every machine needs has no marker: most of them."""
    markers = Counter(marker for _, marker in MARKER.findall(text))
    common = markers.most_common(1)[0][0]
    return MARKER.sub(lambda found: found[1] + ("" if found[2] == common else found[2]), text)


def requirements_in(file: Path) -> dict[str, list[str]]:
    """The lines of a requirements file by package, whose name is spelt as in a lock."""
    lines: dict[str, list[str]] = {}
    for line in file.read_text().splitlines():
        if requirement := line.partition("#")[0].strip():
            name = re.sub(r"[-_.]+", "-", re.split(r"[=; ]", requirement)[0]).lower()
            lines.setdefault(name, []).append(requirement)
    return lines


def find_links() -> tuple[str, ...]:
    """uv's options for the wheel folders of pip's configuration: torch's CPU wheel may be in one of them."""
    configured = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.find-links"], capture_output=True, text=True
    )
    return tuple(part for folder in configured.stdout.split() for part in ("--find-links", folder))


if __name__ == "__main__":
    main()
