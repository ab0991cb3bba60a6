"""`snakemake --sdm conda` with a stand-in that makes venvs: what conda is asked for, then the lock."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import stand_in_conda
import yaml

ROOT = Path(__file__).resolve().parent.parent
PYTHON = f"python={platform.python_version()}"
SNAKEFILE = """
rule use:
    output: "out.txt"
    conda: "envs/tiny.yaml"
    shell: "python -c 'import pinned, ours; print(pinned.VERSION, ours.NAME)' > {output}"
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "ours"
version = "0.1"
"""
# no setuptools is at hand without an index: an editable wheel is a file that names the project's folder
BACKEND = """
import zipfile
from pathlib import Path

INFO = "ours-0.1.dist-info"

def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(Path(folder, "ours-0.1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr("ours.pth", str(Path.cwd()))
        wheel.writestr(f"{INFO}/METADATA", "Metadata-Version: 2.1\\nName: ours\\nVersion: 0.1\\n")
        wheel.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{INFO}/RECORD", "")
    return "ours-0.1-py3-none-any.whl"
"""


def write_wheel(folder: Path, version: str) -> str:
    """A wheel of a package `pinned`; returns its SHA-256."""
    path, info = folder / f"pinned-{version}-py3-none-any.whl", f"pinned-{version}.dist-info"
    files = {
        "pinned.py": f"VERSION = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: pinned\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(text)}\n"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def post_deploy(name: str) -> str:
    """The script that `make relock` writes."""
    spec = importlib.util.spec_from_file_location("relock", ROOT / "envs/relock.py")
    assert spec is not None and spec.loader is not None
    relock = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(relock)
    return relock.POST_DEPLOY.format(sums="# 00  tiny.cpu.lock", name=name)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A workflow of one rule, with the real installer, in an environment of one package."""
    for folder in ("project/envs", "wheels"):
        (tmp_path / folder).mkdir(parents=True)
    folder = tmp_path / "project"
    (folder / "Snakefile").write_text(SNAKEFILE)
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "backend.py").write_text(BACKEND)
    (folder / "ours.py").write_text("NAME = 'ours'\n")
    environment = yaml.safe_load((ROOT / "envs/paper.yaml").read_text())
    environment["dependencies"][0] = PYTHON
    (folder / "envs/tiny.yaml").write_text(yaml.safe_dump(environment))
    (folder / "envs/tiny.post-deploy.sh").write_text(post_deploy("tiny"))
    shutil.copy(ROOT / "envs/install.py", folder / "envs")
    for kind, version in (("cpu", "1.0"), ("cuda", "2.0")):
        sha256 = write_wheel(tmp_path / "wheels", version)
        lock = f"pinned=={version} \\\n    --hash=sha256:{sha256}\n"
        (folder / f"envs/tiny.{kind}.lock").write_text(lock)
    stand_in_conda.install(tmp_path / "conda")
    return folder


def run(project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """`snakemake --sdm conda` in a project, with no index to fall back to."""
    path = f"{project.parent / 'conda/bin'}:{os.environ['PATH']}"
    links = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(project.parent / "wheels"),
        "PIP_CONFIG_FILE": os.devnull,
    }
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--sdm", "conda", "--", "use"]
    environment = {**os.environ, "PATH": path, **links, **variables}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


def test_conda_makes_python_and_the_lock_brings_every_package(project: Path) -> None:
    done = run(project, ENCODER_ROLES_PLATFORM="cuda")
    assert done.returncode == 0, done.stderr
    assert (project / "out.txt").read_text() == "2.0 ours\n", "the lock for CUDA was asked for"
    calls = [json.loads(line) for line in (project.parent / "conda/calls.jsonl").read_text().splitlines()]
    (create,) = [arguments for arguments in calls if arguments[:2] == ["env", "create"]]
    given = yaml.safe_load(Path(create[create.index("--file") + 1]).read_text())
    assert given["dependencies"] == [PYTHON, "pip=24.3.1"], "conda installs nothing that has no hash"
    copy = Path(create[create.index("--prefix") + 1]) / "tiny.cuda.lock"
    assert copy.read_bytes() == (project / "envs/tiny.cuda.lock").read_bytes()


def test_a_package_with_another_hash_or_another_python_stops_the_run(project: Path) -> None:
    write_wheel(project.parent / "wheels", "1.0")  # the same again
    with zipfile.ZipFile(project.parent / "wheels/pinned-1.0-py3-none-any.whl", "a") as wheel:
        wheel.writestr("malice.py", "")
    failed = run(project)
    assert failed.returncode != 0 and not (project / "out.txt").exists()
    assert "DO NOT MATCH THE HASHES" in failed.stdout + failed.stderr
    text = (project / "envs/tiny.yaml").read_text()
    (project / "envs/tiny.yaml").write_text(text.replace(PYTHON, "python=3.11.99"))
    failed = run(project)
    assert failed.returncode != 0 and not (project / "out.txt").exists()
    assert "pins Python 3.11.99" in failed.stdout + failed.stderr
