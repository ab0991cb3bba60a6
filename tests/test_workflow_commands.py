"""The rules and the package speak of the same commands, options and files."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from encoder_roles.cli import COMMANDS
from encoder_roles.paper.catalogue import (
    FIGURES,
    FILES,
    MASK_FIGURES,
    TABLES,
    VARIANT_FIGURES,
    VARIANT_TABLES,
)
from encoder_roles.study.names import JOBS

ROOT = Path(__file__).resolve().parent.parent
RULES = "\n".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
SHELL = re.compile(r"^    shell:\n((?:^        .*\n?)+)", re.MULTILINE)
SHELLS = ["".join(ast.literal_eval(f"({shell})")) for shell in SHELL.findall(RULES)]
# command -> its shell, without srun's words (`launch`), which may stand before a training
CALLS = {call.split()[1]: call for call in (s.removeprefix("{params.launch:q} ") for s in SHELLS)}


def options_of(command: str) -> tuple[set[str], set[str]]:
    """The options a command needs, and all it has; from its source, because importing it is slow."""
    module, function = COMMANDS[command].split(":")
    source = ROOT / "src" / (module.replace(".", "/") + ".py")
    (result,) = [
        node
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name == function
    ]
    assert not result.args.args, f"{command}: parameters must be keyword-only"
    names = [f"--{argument.arg.replace('_', '-')}" for argument in result.args.kwonlyargs]
    needed = [name for name, default in zip(names, result.args.kw_defaults, strict=True) if default is None]
    return set(needed), set(names)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_is_one_documented_function_with_keywords_only(command: str) -> None:
    needed, every = options_of(command)
    assert needed <= every


@pytest.mark.parametrize("command", sorted(CALLS))
def test_a_rule_gives_its_command_the_options_that_it_has_and_all_that_it_needs(command: str) -> None:
    needed, every = options_of(command)
    given = set(re.findall(r"(--[a-z-]+)", CALLS[command])) | (
        {"--align"} if "{params.align:q}" in CALLS[command] else set()
    )
    assert given <= every
    assert needed <= given


def test_every_rule_with_a_shell_calls_one_command_and_keeps_what_it_says() -> None:
    assert len(CALLS) == len(SHELLS) > 15
    for call in CALLS.values():
        assert call.startswith("encoder-roles ")
        assert "{log:q}" in call


def test_every_rule_that_runs_something_asks_for_what_the_config_says() -> None:
    rules = re.findall(r'^ +resources:\n +\*\*resources_of\("(\w+)"\),$', RULES, re.MULTILINE)
    assert set(rules) == set(JOBS)
    local = {"lock_sources", "plan"}
    assert len(rules) == len(re.findall(r"^ +conda:", RULES, re.MULTILINE)) - len(local)


def test_every_figure_and_table_has_its_script_and_its_caption() -> None:
    figures, tables = {*FIGURES, *VARIANT_FIGURES}, {*TABLES, *VARIANT_TABLES}
    wanted = (
        {f"draw_{name}" for name in {*figures, *MASK_FIGURES}}
        | {f"table_{name}" for name in tables}
        | {"collect_values"}
    )
    assert {path.stem for path in (ROOT / "workflow/scripts").glob("*.py")} == wanted
    for folder, names in (("figures", figures), ("tables", tables)):
        assert {path.stem for path in (ROOT / "workflow/report" / folder).glob("*.rst")} == names


def test_every_file_that_a_figure_reads_is_in_the_contracts() -> None:
    contracts = (ROOT / "docs/contracts.md").read_text()
    for file in FILES.values():
        assert f"`{file}`" in contracts or file.startswith("settings/"), file
