"""README's commands, as a stranger runs them on a bare Debian 13: no pip configuration, Python 3.13.

    python -m pytest -m bare -s tests/test_bare_debian.py

needs root, debootstrap (`apt-get install debootstrap`), the network, 10 GB in the folder for temporary files
and fifteen minutes on two cores. It makes a root folder with nothing but Debian's base system, copies the
project's files into it, and runs the commands in it. The study is the reduced one, and the tests are all but
those of Slurm. There is no git, as where an archive of the project was unpacked.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
HOME = "home/stranger/encoder-roles"
# Certificates say whom the machine trusts; they choose no index.
TRUST = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
ENTER = (
    "mount --rbind /dev {root}/dev && mount -t proc proc {root}/proc && mount -t sysfs sys {root}/sys && "
    "exec chroot {root} /usr/bin/env -i {variables} sh -c {command}"
)


def commands_of_readme() -> list[str]:
    """The commands of README's first code block, without their comments."""
    block = re.search(r"```sh long\n(.*?)```", README, re.DOTALL)
    assert block is not None
    return [line.partition("#")[0].strip() for line in block[1].splitlines()]


def packages_of_readme() -> str:
    """README's line for Debian's packages."""
    match = re.search(r"`(?:sudo )?(apt-get install [^`]+)`", README)
    assert match is not None
    return match[1]


class Machine:
    """A root folder, entered in a mount namespace of its own, so that no mount outlives a command."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, command: str) -> str:
        """Run a command in the project's folder as a user would type it, and print how long it took."""
        variables = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}
        variables |= {name: os.environ[name] for name in TRUST if name in os.environ}
        words = " ".join(shlex.quote(f"{name}={value}") for name, value in variables.items())
        inner = shlex.quote(f"cd /{HOME} && {command}")
        start = time.monotonic()
        script = ENTER.format(root=shlex.quote(str(self.root)), variables=words, command=inner)
        done = subprocess.run(
            ["unshare", "--mount", "--fork", "sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        seconds = time.monotonic() - start
        print(f"\n$ {command}  [{seconds:.0f} s]\n{done.stdout[:2000]}...\n{done.stdout[-2000:]}")
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """Debian 13 with its base system alone, and the project's files."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.fail("this needs root and debootstrap: apt-get install debootstrap")
    with tempfile.TemporaryDirectory(prefix="bare-") as folder:
        root = Path(folder, "root")
        base = ["debootstrap", "--variant=minbase", "--include=ca-certificates", "trixie", str(root)]
        subprocess.run(base, check=True, stdout=subprocess.DEVNULL)
        for name in ("etc/resolv.conf", "etc/hosts", *(os.environ.get(name, "") for name in TRUST)):
            source = Path("/", name.lstrip("/"))
            if source.is_file():
                shutil.copy(source, root / name.lstrip("/"))
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for file in filter(None, files.splitlines()):
            if (ROOT / file).is_file():
                (root / HOME / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / file, root / HOME / file)
        yield Machine(root)


@pytest.mark.bare
def test_a_stranger_with_a_bare_debian_follows_the_readme(machine: Machine) -> None:
    paper, test = commands_of_readme()
    assert (paper, test) == ("make paper", "make test")
    machine.run(f"apt-get update -qq && {packages_of_readme()} -y -qq")
    shown = machine.run(f"{paper} STUDY=studies/ci.yaml")
    assert "results/ci/paper/paper.pdf" in shown and "package 12 of " in shown
    assert (machine.root / HOME / "results/ci/paper/paper.pdf").read_bytes().startswith(b"%PDF-")
    machine.run("make dry-run STUDY=studies/ci.yaml | grep 'Nothing to be done'")
    machine.run("make verify STUDY=studies/ci.yaml")
    without_slurm = f"{test} TESTS='-m \"not slurm\"'"
    assert without_slurm in README
    machine.run(without_slurm)
