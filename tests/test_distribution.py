"""The package as others install it: its declared dependencies, its sdist and wheel, and README's lines there.

`pytest -m index tests/test_distribution.py` also installs from the package index: the wheel with the lowest
and with the newest versions it allows, each into a bare environment, and twine's check.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from imported import libraries, normal

from encoder_roles.cli import COMMANDS
from encoder_roles.manifest.code import code_of

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TRAINING = ("train-align", "train-tune", "extract-features", "measure-ranks", "pretrain-encoder")
EVALUATING = ("make-world", "write-requests", "predict-masks", "score-predictions")
BUILD = "from setuptools import build_meta; print(build_meta.build_{}({!r}))"


def declared(*extras: str) -> set[str]:
    """The packages that the core and some extras ask for."""
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    return {normal(re.split(r"[<>=\[]", requirement)[0]) for entries in lists for requirement in entries}


def files_of(*commands: str) -> dict[str, str]:
    """The modules that some commands can import."""
    files: dict[str, str] = {}
    for command in commands:
        files |= code_of(COMMANDS[command].partition(":")[0])
    return {file: sha256 for file, sha256 in files.items() if file.endswith(".py")}


def build(kind: str, tree: Path, output: Path) -> Path:
    """An sdist or a wheel of a tree, by this environment's setuptools."""
    command = [sys.executable, "-c", BUILD.format(kind, str(output))]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True)
    return output / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files alone, as in an archive of it."""
    folder = tmp_path_factory.mktemp("tree")
    for name in own_files(ROOT):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def sdist(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of the tracked files and of those that will be."""
    return build("sdist", tree, tmp_path_factory.mktemp("dist"))


def own_files(root: Path) -> list[Path]:
    """The project's files, relative to its folder: those of git; without it all but what is made."""
    if (root / ".git").exists():
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True).stdout
        return [Path(name) for name in names.splitlines() if (root / name).is_file()]
    found = list[Path]()
    for folder, inner, files in os.walk(root):
        made = {"__pycache__", *(["build", "out", "results"] if Path(folder) == root else [])}
        made |= {name for name in inner if name.startswith(".") or name.endswith(".egg-info")}
        inner[:] = set(inner) - made
        found += [Path(folder, file).relative_to(root) for file in files]
    return found


def test_an_archive_without_git_has_the_same_files(tree: Path) -> None:
    shown = {name for name in own_files(ROOT) if not name.parts[0].startswith(".")}
    assert {name for name in shown if name.parts[0] != "results"} == {
        name for name in own_files(tree) if not name.parts[0].startswith(".")
    }


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist as pip would."""
    with tarfile.open(sdist) as archive:
        archive.extractall(sdist.parent, filter="data")
    tree = sdist.parent / sdist.name.removesuffix(".tar.gz")
    return build("wheel", tree, tmp_path_factory.mktemp("wheel"))


def test_the_core_declares_what_analysis_advisor_and_figures_import_and_no_torch() -> None:
    core = declared()
    files = files_of("analyse-scores", "advise", "assign-roles")
    for script in sorted((ROOT / "workflow/scripts").glob("draw_*.py")):
        files |= code_of(None, script.relative_to(ROOT))
    assert libraries(file for file in files if file.endswith(".py")) - {"ipython"} <= core
    assert not {"torch", "transformers", "snakemake"} & core


def test_the_extras_declare_what_training_and_evaluation_import() -> None:
    # a training reads requests and writes none
    lazy = {"lmms-eval", "datasets", "evaluate", "loguru", "tqdm"}
    assert libraries(files_of(*TRAINING)) - lazy <= declared("train")
    assert libraries(files_of(*EVALUATING)) - {"timm", "safetensors", "huggingface-hub"} <= declared(
        "evaluation"
    )
    assert libraries(files_of("build-paper")) <= declared("paper")


def test_the_extra_all_is_every_other_extra() -> None:
    extras = dict(PROJECT["optional-dependencies"])
    (everything,) = extras.pop("all")
    assert everything == f"{PROJECT['name']}[{','.join(extras)}]"


def test_every_dependency_has_a_lowest_version() -> None:
    lists = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    bare = [r for entries in lists for r in entries if not re.search(r"[>=]=", r) and "[" not in r]
    assert bare == []


def test_a_wheel_holds_the_package_its_tables_and_the_figures_and_nothing_beside_it(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.partition("/")[0] for name in names} == {
        "encoder_roles",
        f"encoder_roles-{PROJECT['version']}.dist-info",
    }, "Snakemake would load its plugins in every workflow of the user's"
    package = ROOT / "src"
    wanted = {
        path.relative_to(package).as_posix()
        for suffix in ("py", "pyi", "yaml", "typed")
        for path in (package / "encoder_roles").rglob(f"*.{suffix}")
    }
    drawn = {path.name for path in (ROOT / "workflow/scripts").glob("draw_*.py")}
    assert wanted | {f"encoder_roles/paper/scripts/{name}" for name in drawn} <= names


@pytest.mark.index
@pytest.mark.parametrize("resolution", ["lowest-direct", "highest"])
def test_a_wheel_in_a_bare_environment_runs_the_lines_of_the_readme(
    wheel: Path, resolution: str, tmp_path: Path
) -> None:
    python = tmp_path / "venv/bin/python"
    uv = [sys.executable, "-m", "uv"]
    subprocess.run([*uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")], check=True)
    install = [*uv, "pip", "install", "--quiet", "--python", str(python)]
    wanted = ["--resolution", resolution, "-r", str(ROOT / "pyproject.toml")]
    subprocess.run([*install, *wanted], cwd=tmp_path, check=True)
    subprocess.run([*install, "--no-deps", str(wheel)], cwd=tmp_path, check=True)
    shutil.copytree(ROOT / "docs/examples", tmp_path / "docs/examples")
    (lines,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    drawing = "analysis.figure('subset_lattice').savefig('lattice.png'); analysis.save('tables')"
    done = subprocess.run([str(python), "-c", f"{lines}\n{drawing}"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "lattice.png").stat().st_size > 1000 and (tmp_path / "tables/roles.csv").is_file()
    for command in ("chat", "status"):  # these need an extra, or a checkout
        options = ["--configs", "x.yaml"] if command == "status" else ["--picture", "p.png"]
        done = subprocess.run(
            [str(tmp_path / "venv/bin/encoder-roles"), command, *options], capture_output=True, text=True
        )
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.index
def test_twine_finds_no_fault_with_sdist_and_wheel(sdist: Path, wheel: Path) -> None:
    check = [sys.executable, "-m", "uv", "tool", "run", "--quiet", "twine", "check", "--strict"]
    done = subprocess.run([*check, str(sdist), str(wheel)], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("PASSED") == 2, done.stdout + done.stderr
