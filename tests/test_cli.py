"""The command line: what it lists, and what it says of a command that it does not have."""

from __future__ import annotations

import subprocess
import sys

import pytest

from encoder_roles.cli import COMMANDS, GROUPS, main


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
