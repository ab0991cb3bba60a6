"""The code that makes a result: the files of this package that its command can import, and their hash.

It is a hash of files, not a commit: a release without its repository must be checkable, and most commits do
not change a result. An edit of a figure's style does not affect a trained model.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from encoder_roles.provenance import key_of, sha256_of

PACKAGE = Path(__file__).resolve().parent.parent
# a regular expression is faster than a parser, and every job runs it; it also finds imports in functions
IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(encoder_roles[\w.]*)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)"
    r"|import[ \t]+(encoder_roles[\w.]*))",
    re.MULTILINE,
)
BY_NAME = "import_module("  # a module that imports computed names can import everything in its folder

Code = dict[str, str]  # file, relative to the folder of the package -> SHA-256


def code_of(module: str | None, script: Path | None = None) -> Code:
    """The package's files that `module` (dotted) or a script can import, and the module or script itself."""
    files, todo = dict[str, str](), list[str]()
    if module is not None:
        todo.append(module)
    if script is not None:
        files[script.as_posix()] = sha256_of(script)
        todo += imports(script.read_text(encoding="utf-8"))
    seen = set[str]()
    while todo:
        if (name := todo.pop()) in seen:
            continue
        seen.add(name)
        if (path := file_of(name)) is None:
            continue  # a name that a module defines, not a module
        text = path.read_text(encoding="utf-8")
        files |= {
            file.relative_to(PACKAGE.parent).as_posix(): sha256_of(file)
            for file in (path, path.with_suffix(".yaml"))  # a module's table has the module's name
            if file.is_file()
        }
        todo += [*imports(text), name.rpartition(".")[0]]
        if BY_NAME in text:
            folder = name.rpartition(".")[0]
            todo += [f"{folder}.{beside.stem}" for beside in path.parent.glob("*.py")]
    return dict(sorted(files.items()))


def code_key(code: Code) -> str:
    """The short hash of a set of files."""
    return key_of(code)


def imports(text: str) -> Iterable[str]:
    """The names of this package that a module's text imports: modules, or names that may be modules."""
    for origin, names, module in IMPORT.findall(text):
        yield origin or module
        for name in re.findall(r"\w+", re.sub(r"#.*| as \w+", "", names)):
            yield f"{origin}.{name}"


def file_of(name: str) -> Path | None:
    """The file of a module of this package; None if there is no such module."""
    if name.split(".")[0] != PACKAGE.name:
        return None
    place = PACKAGE.joinpath(*name.split(".")[1:])
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.is_file():
            return path
    return None
