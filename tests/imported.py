"""Which distributions the code of this project imports."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from encoder_roles.manifest.code import PACKAGE

ROOT = Path(__file__).resolve().parent.parent


def normal(name: str) -> str:
    """A package's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def libraries(files: Iterable[str]) -> set[str]:
    """The distributions that modules of this package, or scripts of the workflow, import."""
    collected = set()
    for file in files:
        path = ROOT / file if (ROOT / file).is_file() else PACKAGE.parent / file
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                collected |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                collected.add(node.module.partition(".")[0])
    owners = importlib.metadata.packages_distributions()
    known = collected - sys.stdlib_module_names - {PACKAGE.name}
    return {normal(owner) for module in known for owner in owners.get(module, [f"({module})"])}
