"""docs/architecture.md names only what exists, and its picture and floors are those of the code."""

from __future__ import annotations

import ast
import importlib.util
import re
import tomllib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src/encoder_roles"
TEXT = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`([^`\n]+)`", TEXT)))
RULES = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "workflow/rules").glob("*.smk"))
CONTRACTS = (ROOT / "docs/contracts.md").read_text(encoding="utf-8")
SVG = "{http://www.w3.org/2000/svg}"


def module_exists(dotted: str) -> bool:
    """Whether `module` or `module.name`, below the package, is there; read from the source, not imported."""
    place = PACKAGE.joinpath(*dotted.split("."))
    if place.with_suffix(".py").is_file() or (place / "__init__.py").is_file():
        return True
    module, _, name = dotted.rpartition(".")
    file = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    return file.is_file() and name in defined_in(file)


def defined_in(file: Path) -> set[str]:
    """The names at the top of a module: functions, classes, constants."""
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return names


def path_exists(name: str) -> bool:
    """Whether a path of the repository is there; `<figure>` stands for any name."""
    pattern = re.sub(r"<\w+>", "*", name.rstrip("/"))
    return bool(list(ROOT.glob(pattern)))


def result_exists(name: str) -> bool:
    """Whether docs/contracts.md describes a file of results/<study>/."""
    general = re.sub(r"<(\w+)>", r"{\1}", name.replace("mme", "{benchmark}").replace("seed0", "seed{seed}"))
    general = general.replace("/test.parquet", "/{split}.parquet").replace("paper/paper.pdf", "paper.pdf")
    return f"`{general}`" in CONTRACTS


def named_by(name: str) -> bool:
    """Whether a name of the page is one of a path, a module, a result, a rule, a command or a setting."""
    if command := re.fullmatch(r"make ([\w-]+)", name):
        return f"\n{command[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")
    if name.startswith("er."):
        return name.removeprefix("er.") in defined_in_stub()
    if re.fullmatch(r"\w+", name) and f"rule {name}:" in RULES + (ROOT / "Snakefile").read_text("utf-8"):
        return True
    return module_exists(name) or path_exists(name) or result_exists(name) or name in OTHER


def defined_in_stub() -> set[str]:
    stub = (PACKAGE / "__init__.pyi").read_text(encoding="utf-8")
    return set(re.findall(r"import \w+ as (\w+)", stub))


# what the page quotes and no file defines by this name
OTHER = {
    "apt-get install graphviz",
    "encoder-roles <command>",
    "encoders:",
    "evaluation.data: hub",
    "import encoder_roles as er",
    "lint-imports",
    "mme",
    "results/laptop/",
    "[tool.importlinter]",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_on_the_page_exists(name: str) -> None:
    assert named_by(name), f"docs/architecture.md names `{name}`, which is not there"


@pytest.mark.parametrize(
    "name", ["paper.values.gather", "docs/none.md", "draw_nothing", "make nothing", "er.x"]
)
def test_a_name_that_does_not_exist_is_noticed(name: str) -> None:
    assert not named_by(name)


def test_the_floors_of_the_page_are_those_that_lint_imports_checks() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(c for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    layers = [set(re.findall(r"\w+", layer)) for layer in contract["layers"]]
    section = TEXT.split("## Floors")[1].split("\n`analysis` has")[0]
    floors: dict[int, set[str]] = {}
    current = 0
    for floor, package in re.findall(r"^\| (\d?) ?\| `(\w+)` \|", section, re.MULTILINE):
        current = int(floor or current)  # a row without a number is on the floor of the row above
        floors.setdefault(current, set()).add(package)
    assert [floors[floor] for floor in sorted(floors, reverse=True)] == layers


def test_every_room_and_module_says_what_it_holds() -> None:
    files = sorted((ROOT / "src").rglob("*.py"))
    silent = [file for file in files if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))]
    assert len(files) > 200 and not silent, silent


def rulegraph() -> ModuleType:
    """The script that draws the picture."""
    spec = importlib.util.spec_from_file_location("rulegraph", ROOT / "docs/rulegraph.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_picture_is_the_rule_graph_of_the_laptop_study() -> None:
    script = rulegraph()
    titles = [title.text or "" for title in ElementTree.parse(script.PICTURE).iter(f"{SVG}title")]  # noqa: S314
    drawn = {tuple(title.split("->")) for title in titles if "->" in title}
    assert drawn == set(script.fold(script.rule_graph())), "make rulegraph"


def test_a_machine_without_graphviz_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"^make rulegraph: no `dot` on PATH; install graphviz[^\n]*$"):
        rulegraph().main()
