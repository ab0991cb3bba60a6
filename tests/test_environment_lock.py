"""The environment: one lock, and everything else agrees with it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
ENVS = ROOT / "envs"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", re.MULTILINE)


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """The pinned version of every package in a requirements file."""
    return {normal(name): version for name, version in PIN.findall(text)}


LOCK = pins((ENVS / "laptop.lock").read_text())


def installer() -> ModuleType:
    """envs/install.py, which is a script and not of the package."""
    spec = importlib.util.spec_from_file_location("install", ENVS / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_package_of_the_lock_is_exact_and_has_a_hash() -> None:
    entries = re.split(r"\n(?=[a-zA-Z0-9])", (ENVS / "laptop.lock").read_text().strip())
    assert len(entries) == len(LOCK) > 100
    assert all(PIN.match(entry) and "--hash=sha256:" in entry for entry in entries)


def test_the_lock_holds_every_direct_requirement_at_its_pin() -> None:
    wanted = pins((ENVS / "laptop.in").read_text())
    lines = [line for line in (ENVS / "laptop.in").read_text().splitlines() if line and line[0] != "#"]
    assert len(wanted) == len(lines), "a direct requirement is not pinned"
    assert {name: LOCK[name] for name in wanted} == wanted


def test_the_lock_holds_what_stands_for_the_dependencies_of_lmms_eval() -> None:
    (replaced,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["dependency-metadata"]
    assert (replaced["name"], replaced["version"]) == ("lmms-eval", LOCK["lmms-eval"])
    assert {normal(name) for name in replaced["requires-dist"]} <= set(LOCK)


@pytest.mark.parametrize("name", ["model", "evaluation", "paper"])
def test_a_conda_environment_has_the_versions_of_the_lock(name: str) -> None:
    environment = yaml.safe_load((ENVS / f"{name}.yaml").read_text())
    python, pip, packages = environment["dependencies"]
    assert re.fullmatch(r"python=3\.11\.\d+", python) and re.fullmatch(r"pip=[\d.]+", pip)
    pinned = pins("\n".join(packages["pip"]))
    assert len(pinned) == len(packages["pip"])
    assert pinned == {name: LOCK[name].split("+")[0] for name in pinned}


def test_every_rule_has_an_environment_that_exists() -> None:
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    used = set(re.findall(r"envs/(\w+)\.yaml", rules))
    assert used == {path.stem for path in ENVS.glob("*.yaml")}
    runs = len(re.findall(r"^    (?:shell|script|run):", rules, re.MULTILINE))
    assert runs == len(re.findall(r"^    conda:", rules, re.MULTILINE)) > 10


def test_no_file_of_the_environment_names_an_index_or_a_path_of_a_machine() -> None:
    for path in [*ENVS.iterdir(), ROOT / "Makefile", ROOT / "pyproject.toml"]:
        if path.is_file():
            assert not re.search(
                r"https?://|file://|(?<![\w./$)])/(?:home|root|opt|work|tmp)/", path.read_text()
            )


def test_another_python_is_told_with_the_one_that_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 13, 1, "final", 0))
    with pytest.raises(SystemExit, match=r"^Python 3\.11 is needed, .* make PYTHON="):
        installer().check_machine()


def test_a_missing_wheel_of_torch_is_told_with_what_to_do() -> None:
    said = "ERROR: No matching distribution found for torch==2.13.0+cpu"
    with pytest.raises(SystemExit, match="index of CPU wheels"):
        installer().run([sys.executable, "-c", f"import sys; sys.exit({said!r})"])


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(SystemExit, match="is not a virtual environment"):
        installer().main(tmp_path)
    assert (tmp_path / "precious").read_text() == "mine"


def test_an_environment_of_this_lock_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = installer()
    (tmp_path / "laptop.lock").write_bytes((ENVS / "laptop.lock").read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    monkeypatch.setattr(install, "run", lambda command: pytest.fail(f"ran {command}"))
    install.main(tmp_path)
    assert (tmp_path / "laptop.lock").exists()


def test_make_names_a_study_that_is_not_there() -> None:
    made = subprocess.run(
        ["make", "-C", str(ROOT), "dry-run", "STUDY=studies/absent.yaml"], capture_output=True, text=True
    )
    assert made.returncode != 0
    assert "STUDY=studies/absent.yaml: no such file" in made.stderr
