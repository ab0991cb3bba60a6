"""The short way in: `import encoder_roles as er`, then `er.analyse_table` and `er.advise`."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import encoder_roles as er
from encoder_roles.manifest.code import code_of

ROOT = Path(__file__).resolve().parent.parent
STUB = ast.parse((ROOT / "src/encoder_roles/__init__.pyi").read_text(encoding="utf-8"))
TYPED = {alias.asname: node.module for node in STUB.body for alias in node.names}  # type: ignore[attr-defined]


def loaded_after(code: str) -> set[str]:
    """The modules of a fresh Python that has run `code`."""
    command = [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))"]
    return set(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def test_the_import_loads_no_library_until_a_name_is_used() -> None:
    heavy = {"torch", "transformers", "pandas", "numpy", "scipy", "pydantic"}
    assert not heavy & loaded_after("import encoder_roles as er; dir(er)")
    used = heavy & loaded_after("import encoder_roles as er; er.analyse_table; er.advise")
    assert {"pandas", "numpy"} <= used and not {"torch", "transformers"} & used


def test_dir_lists_every_public_name_and_each_can_be_imported() -> None:
    assert set(er.__all__) <= set(dir(er))
    assert all(getattr(er, name).__name__ == name for name in er.__all__)


@pytest.mark.parametrize("name", er.__all__)
def test_a_type_checker_sees_the_object_that_python_imports(name: str) -> None:
    assert getattr(er, name).__module__ == TYPED[name]


def test_every_name_with_a_type_is_public() -> None:
    assert set(TYPED) == set(er.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'analyze_table'"):
        er.analyze_table  # type: ignore[attr-defined]  # noqa: B018


def test_the_public_names_do_not_make_every_command_depend_on_the_analysis() -> None:
    files = code_of("encoder_roles.provenance")
    assert "encoder_roles/__init__.py" in files
    assert not [file for file in files if "/analysis/" in file]
