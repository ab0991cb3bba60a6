"""The command line: what it lists, and what it says of a command that it does not have."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from typing import get_type_hints

import pytest

from encoder_roles.cli import COMMANDS, GROUPS, main, options_of


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], []])
def test_the_help_lists_every_command_in_its_group_with_a_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    main(arguments)
    lines = capsys.readouterr().out.splitlines()
    position = 0
    for group, names in GROUPS.items():
        position = lines.index(f"{group}:", position)
        for line, name in zip(lines[position + 1 :], names, strict=False):
            listed, _, summary = line.strip().partition(" ")
            assert listed == name
            assert 10 < len(summary.strip()) < 130
    assert sorted(name for names in GROUPS.values() for name in names) == sorted(COMMANDS)


def test_the_help_imports_no_library_that_takes_long() -> None:
    code = (
        "import sys; from encoder_roles.cli import main; main(['--help']);"
        "print({'torch', 'transformers', 'pandas', 'numpy', 'tyro', 'pydantic'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("set()\n")


def test_the_help_of_a_command_imports_no_library_that_takes_long() -> None:
    code = (
        "import contextlib, io, sys; from encoder_roles.cli import COMMANDS, main\n"
        "for name in COMMANDS:\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        main([name, '--help'])\n"
        "    assert f'usage: encoder-roles {name}' in out.getvalue(), name\n"
        "    assert not {'torch', 'transformers', 'pandas', 'numpy'} & set(sys.modules), name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("target", COMMANDS.values())
def test_the_options_read_from_the_source_are_those_of_the_function(target: str) -> None:
    module, name = target.split(":")
    function = getattr(importlib.import_module(module), name)
    read, true = options_of(target), function
    assert inspect.getdoc(read) == inspect.getdoc(true)
    parameters = [(p.name, p.kind, p.default) for p in inspect.signature(read).parameters.values()]
    assert parameters == [(p.name, p.kind, p.default) for p in inspect.signature(true).parameters.values()]
    assert {**get_type_hints(read), "return": None} == {**get_type_hints(true), "return": None}


def test_a_faulty_option_is_told_before_anything_is_imported() -> None:
    code = (
        "import contextlib, sys; from encoder_roles.cli import main\n"
        "with contextlib.suppress(SystemExit):\n    main(['train-tune', '--seeed', '0'])\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--seeed" in done.stderr


def test_the_old_name_of_an_option_is_one_line_with_the_new_one() -> None:
    with pytest.raises(SystemExit) as error:
        main(["chat", "--model", "tune", "--picture", "a.png", "--masks", "clip"])
    assert error.value.code == (
        "encoder-roles chat: --masks is now --keep, because it names the encoders that stay"
    )


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--version"])
    name, version = capsys.readouterr().out.split()
    assert name == "encoder-roles"
    assert version[0].isdigit()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("trian-tune", "unknown command 'trian-tune'; did you mean train-tune"),
        ("analyze-scores", "did you mean analyse-scores"),
        ("nothing-like-it", "unknown command 'nothing-like-it'; `encoder-roles --help` lists the commands"),
    ],
)
def test_an_unknown_command_is_one_line_that_names_those_like_it(name: str, message: str) -> None:
    with pytest.raises(SystemExit) as error:
        main([name])
    assert message in str(error.value.code)
    assert "\n" not in str(error.value.code)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("torch", "the package torch is not installed: pip install 'encoder-roles\\[all]'"),
        ("snakemake_logger_plugin_study", "run this in a checkout of the project"),
    ],
)
def test_a_command_whose_library_is_missing_is_one_line_with_what_brings_it(
    module: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMMANDS, "verify", f"{module}_absent:verify")
    monkeypatch.setattr("encoder_roles.cli.options_of", lambda target: lambda: {})
    real = importlib.import_module

    def missing(name: str) -> object:
        if name == f"{module}_absent":
            raise ModuleNotFoundError(f"No module named {module!r}", name=module)
        return real(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(SystemExit, match=f"^encoder-roles verify: .*{message}"):
        main(["verify"])


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["chat", "--help"], 0), (["status", "--configs", "no.yaml"], 1)]
)
def test_a_reader_that_has_left_is_no_fault_and_changes_no_exit_code(arguments: list[str], code: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "encoder_roles.cli", *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.returncode == code
    assert not re.search("Traceback|Exception ignored|Broken pipe", done.stderr)
