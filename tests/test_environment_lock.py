"""The environments: one source of versions, a lock for each and for each platform, and everything agrees."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import platform
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from imported import libraries, normal
from packaging.requirements import Requirement

from encoder_roles.cli import COMMANDS
from encoder_roles.manifest.code import code_of

ROOT = Path(__file__).resolve().parent.parent
ENVS = ROOT / "envs"
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s\\]+)", re.MULTILINE)
CONDA = sorted(path.stem for path in ENVS.glob("*.yaml"))
LOCKS = sorted(path.name for path in ENVS.glob("*.lock"))


WRITING_REQUESTS = (
    "encoder_roles/evaluation/harness.py",
    "encoder_roles/evaluation/_evaluate.py",
    "encoder_roles/benchmarks/rows.py",
)


def pins(text: str) -> dict[str, str]:
    """The pinned version of every package in a requirements file; for torch the one for CPUs on Linux."""
    matches = [(normal(name), version) for name, version in PIN.findall(text)]
    return dict(sorted(matches, key=lambda pin: "+" in pin[1]))


LOCK = pins((ENVS / "laptop.lock").read_text())


def names(file: str) -> set[str]:
    """The packages that a file of requirements names."""
    lines = [line.partition("#")[0].partition("==")[0] for line in (ENVS / file).read_text().splitlines()]
    return {normal(line.strip()) for line in lines if line.strip()}


def script(name: str) -> ModuleType:
    """A script of envs/, which is not of the package."""
    spec = importlib.util.spec_from_file_location(name, ENVS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_environment_has_a_lock_for_each_platform() -> None:
    assert len(CONDA) == 3
    expected = {f"{name}.{kind}.lock" for name in CONDA for kind in ("cpu", "cuda")}
    assert set(LOCKS) == expected | {"laptop.lock", "laptop.cuda.lock"}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_of_a_lock_is_exact_and_has_a_hash(lock: str) -> None:
    entries = re.split(r"\n(?=[a-zA-Z0-9])", (ENVS / lock).read_text().strip())
    builds = sum(entry.startswith("torch==") for entry in entries)
    assert len(entries) - max(builds - 1, 0) == len(pins((ENVS / lock).read_text())) > 50
    assert all(PIN.match(entry) and "--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_package_has_one_version_in_all_locks(lock: str) -> None:
    result = pins((ENVS / lock).read_text())
    cuda = lock.endswith("cuda.lock")
    expected = {name: version.partition("+")[0] if cuda else version for name, version in LOCK.items()}
    assert {name: version for name, version in result.items() if name in LOCK} == {
        name: expected[name] for name in result if name in LOCK
    }
    beside = result.keys() - LOCK.keys()
    assert bool(beside) == (cuda and "torch" in result), (
        "only torch's build for CUDA brings packages of its own"
    )
    assert all(re.match(r"(nvidia|cuda|triton)\b", name) for name in beside)


def test_the_lock_holds_every_direct_requirement_at_its_pin() -> None:
    wanted = pins((ENVS / "laptop.in").read_text())
    lines = [line for line in (ENVS / "laptop.in").read_text().splitlines() if line and line[0] != "#"]
    assert len(wanted) == len(lines) - 1, "a direct requirement is not pinned, or torch has not two builds"
    assert {name: LOCK[name] for name in wanted} == wanted


def test_the_lock_holds_what_stands_for_the_dependencies_of_lmms_eval() -> None:
    (replaced,) = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]["dependency-metadata"]
    assert (replaced["name"], replaced["version"]) == ("lmms-eval", LOCK["lmms-eval"])
    assert {normal(name) for name in replaced["requires-dist"]} <= set(LOCK)


@pytest.mark.parametrize("name", CONDA)
def test_conda_provides_an_exact_python_and_pip_and_nothing_that_has_no_hash(name: str) -> None:
    environment = yaml.safe_load((ENVS / f"{name}.yaml").read_text())
    python, pip = environment["dependencies"]
    assert re.fullmatch(r"python=3\.11\.\d+", python) and re.fullmatch(r"pip=[\d.]+", pip)
    assert python.startswith("python={}.{}.".format(*script("install").PYTHONS[0]))
    assert environment == yaml.safe_load((ENVS / f"{CONDA[0]}.yaml").read_text()), "all have the same"


@pytest.mark.parametrize("name", CONDA)
def test_a_lock_of_an_environment_was_compiled_from_its_requirements(name: str) -> None:
    requirements = names(f"{name}.in")
    assert requirements <= names("laptop.in") | set(LOCK)
    cpu, cuda = (pins((ENVS / f"{name}.{kind}.lock").read_text()) for kind in ("cpu", "cuda"))
    assert requirements <= set(cpu) <= set(cuda)


@pytest.mark.parametrize("name", CONDA)
def test_an_environment_is_made_anew_when_its_lock_changes(name: str) -> None:
    text = (ENVS / f"{name}.post-deploy.sh").read_text()  # Snakemake keys the environment by it
    assert f"python envs/install.py --into {name}\n" in text
    named = dict(re.findall(r"^# ([0-9a-f]{64})  (\S+)$", text, re.MULTILINE))
    locks = [f"{name}.{kind}.lock" for kind in ("cpu", "cuda")]
    assert named == {hashlib.sha256((ENVS / lock).read_bytes()).hexdigest(): lock for lock in locks}, (
        "make relock"
    )


@pytest.mark.parametrize("name", CONDA)
def test_the_code_of_an_environment_imports_what_its_lock_has(name: str) -> None:
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    blocks = [block for block in re.split(r"\n\n\n", rules) if f"envs/{name}.yaml" in block]
    files: dict[str, str] = {}
    for block in blocks:
        for command in re.findall(r"encoder-roles ([\w-]+)", block):
            files |= code_of(COMMANDS[command].partition(":")[0])
        for stem in re.findall(r'"../scripts/(\w+)', block):
            for path in (ROOT / "workflow/scripts").glob(f"{stem}*.py"):
                files |= code_of(None, path.relative_to(ROOT))
    files = {file: sha256 for file, sha256 in files.items() if file.endswith(".py")}  # tables import nothing
    assert files
    if (
        name == "model"
    ):  # it reads requests; what writes them is imported where they are written, in a function
        files = {file: sha256 for file, sha256 in files.items() if file not in WRITING_REQUESTS}
    lock = pins((ENVS / f"{name}.cpu.lock").read_text())
    assert libraries(files) - {"snakemake", "ipython"} <= set(lock), "add it to the .in, then `make relock`"


def test_every_rule_has_an_environment_that_exists() -> None:
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    used = set(re.findall(r"envs/(\w+)\.yaml", rules))
    assert used == {path.stem for path in ENVS.glob("*.yaml")}
    runs = len(re.findall(r"^ +(?:shell|script|run):", rules, re.MULTILINE))
    asking = len(
        re.findall(r"^rule (?:write_manifest|verify):", rules, re.MULTILINE)
    )  # they ask Snakemake itself
    assert runs - asking == len(re.findall(r"^ +conda:", rules, re.MULTILINE)) > 10


def test_no_file_of_the_environment_names_an_index_or_a_path_of_a_machine() -> None:
    for path in [*ENVS.iterdir(), ROOT / "Makefile", ROOT / "pyproject.toml"]:
        if path.is_file():
            assert not re.search(
                r"https?://|file://|(?<![\w./$)])/(?:home|root|opt|work|tmp)/", path.read_text()
            )


def test_the_environment_that_conda_made_must_have_the_python_it_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install = script("install")
    monkeypatch.setattr(platform, "python_version", lambda: "3.11.99")
    monkeypatch.setattr(install, "run", lambda command: pytest.fail(f"ran {command}"))
    with pytest.raises(SystemExit, match=r"pins Python 3\.11\.\d+, .* has 3\.11\.99: conda did not make"):
        install.fill("paper")


def test_the_platform_is_chosen_by_name_and_an_unknown_one_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install = script("install")

    def names(name: str) -> list[str]:
        return [lock.name for lock in install.locks_of(name)]

    monkeypatch.delenv(install.PLATFORM, raising=False)
    assert names("laptop") == ["laptop.lock", "laptop.cuda.lock"], "the small build where it can be had"
    monkeypatch.setenv(install.PLATFORM, "cpu")
    assert (names("laptop"), names("paper")) == (["laptop.lock"], ["paper.cpu.lock"])
    monkeypatch.setenv(install.PLATFORM, "cuda")
    assert (names("laptop"), names("paper")) == (["laptop.cuda.lock"], ["paper.cuda.lock"])
    monkeypatch.setenv(install.PLATFORM, "rocm")
    with pytest.raises(SystemExit, match="ENCODER_ROLES_PLATFORM=rocm: must be cpu or cuda"):
        names("paper")


@pytest.mark.parametrize(
    ("platform", "torch", "listed", "lock", "message"),
    [
        (None, "torch==2.13.0+cpu", True, "laptop.lock", ""),
        (None, "torch==2.13.0", False, "laptop.lock", ""),  # macOS: the public build is small
        (None, "torch==2.13.0+cpu", False, "laptop.cuda.lock", "is on none of pip's indexes"),
        (None, "", True, "laptop.cuda.lock", "is locked for Python 3.11"),
        (
            "cpu",
            "torch==2.13.0+cpu",
            False,
            None,
            "ENCODER_ROLES_PLATFORM=cpu: its build of torch is on none",
        ),
        ("cuda", "torch==2.13.0", False, "laptop.cuda.lock", ""),
    ],
)
def test_the_small_build_of_torch_is_taken_where_pip_finds_it_and_else_the_public_one_is_told(
    platform: str | None,
    torch: str,
    listed: bool,
    lock: str | None,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    install = script("install")
    monkeypatch.delenv(install.PLATFORM, raising=False)
    if platform:
        monkeypatch.setenv(install.PLATFORM, platform)
    monkeypatch.setattr(install, "entries_for", lambda python, lock: ["numpy==2.0", torch or "x==1"])
    monkeypatch.setattr(install, "pip_finds", lambda python, requirement: listed)
    if lock is None:
        with pytest.raises(SystemExit, match=message):
            install.choose_lock("laptop", Path(sys.executable))
        return
    assert install.choose_lock("laptop", Path(sys.executable)).name == lock
    output = capsys.readouterr().err
    assert (message in output and output.count("\n") == 1) if message else output == ""


def test_an_environment_without_torch_needs_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    install = script("install")
    monkeypatch.delenv(install.PLATFORM, raising=False)
    monkeypatch.setattr(install, "pip_finds", lambda python, requirement: pytest.fail("asked pip"))
    assert install.choose_lock("paper", Path(sys.executable)).name == "paper.cpu.lock"


MACHINES = {  # machine -> how its markers read; Python
    "Linux on x86_64": {"sys_platform": "linux", "platform_machine": "x86_64", "platform_system": "Linux"},
    "Linux on aarch64": {"sys_platform": "linux", "platform_machine": "aarch64", "platform_system": "Linux"},
    "Darwin on arm64": {"sys_platform": "darwin", "platform_machine": "arm64", "platform_system": "Darwin"},
}


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("machine", MACHINES)
def test_every_machine_and_python_has_a_lock_with_one_build_of_torch(machine: str, version: str) -> None:
    assert set(MACHINES) == set(script("install").MACHINES)
    here = MACHINES[machine] | {"python_version": version, "python_full_version": f"{version}.2"}
    builds: dict[str, list[str]] = {}
    for lock in ("laptop.lock", "laptop.cuda.lock"):
        lines = re.findall(r"^(torch==.*?) \\", (ENVS / lock).read_text(), re.MULTILINE)
        requirements = [Requirement(line) for line in lines]
        builds[lock] = [str(r.specifier) for r in requirements if r.marker is None or r.marker.evaluate(here)]
    version_of_all = {build.partition("+")[0] for result in builds.values() for build in result}
    assert version_of_all == {"==2.13.0"}, "the same version whichever build"
    small = machine != "Linux on aarch64" and (machine, version[-1]) not in {
        ("Linux on x86_64", "2"),
        ("Linux on x86_64", "3"),
    }
    assert len(builds["laptop.lock"]) == small and len(builds["laptop.cuda.lock"]) == 1


def test_another_python_is_told_with_three_ways_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 1, "final", 0))
    with pytest.raises(SystemExit, match=r"^Python 3\.11, 3\.12 or 3\.13 is needed, .* make ") as stopped:
        script("install").check_machine()
    message = str(stopped.value)
    assert all(f"`{tool}" in message for tool in ("uv python", "conda create", "sudo apt-get"))
    assert "\n" not in message


def test_make_tells_a_missing_python_with_the_same_three_ways() -> None:
    made = subprocess.run(
        ["make", "-C", str(ROOT), "environment", "PYTHON=python3.absent"], capture_output=True, text=True
    )
    assert made.returncode != 0
    line = made.stderr.splitlines()[0]
    assert line.startswith("python3.absent is not here. ") and line.endswith(script("install").GET_PYTHON)


def test_the_readme_has_the_size_and_the_time_that_the_installer_prints() -> None:
    readme = re.sub(r"\s+", " ", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert all(f"({size})" in readme for size in script("install").SIZES.values())


def test_an_old_python_can_read_the_installer() -> None:
    ast.parse((ENVS / "install.py").read_text(), feature_version=(3, 7))


def test_a_python_that_can_make_no_environment_is_told_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = script("install")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="sudo apt-get install python3-venv"):
        install.main(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_progress_counts_the_packages_of_the_lock_and_names_the_call_that_failed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    install = script("install")
    entries = install.entries_for(Path(sys.executable), ENVS / "paper.cpu.lock")
    assert len(entries) == len(pins((ENVS / "paper.cpu.lock").read_text())), "every machine needs all of it"
    run = [sys.executable, "-c", "import sys; sys.exit('idna==' in open(sys.argv[-1]).read() and 'no')"]
    failed = install.install_entries(run, entries, {})
    assert failed.returncode == 1 and failed.stdout == "no\n"
    lines = capsys.readouterr().err.splitlines()
    assert [f" of {len(entries)}: " in line for line in lines] == [True] * len(lines) and len(lines) < 6


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(SystemExit, match="is not a virtual environment"):
        script("install").main(tmp_path)
    assert (tmp_path / "precious").read_text() == "mine"


def test_an_environment_of_this_lock_is_not_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install = script("install")
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
