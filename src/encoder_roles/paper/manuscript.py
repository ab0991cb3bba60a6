"""The manuscript's source and its rule: every number in it is a generated macro.

`main.tex` is plain LaTeX (article, booktabs, graphicx, natbib, hyperref). Commands that begin with a capital
letter are macros of values.json; digits may stand only where they are no result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from encoder_roles.study.names import StudyError

# Names and notation with a digit in them; a number that was measured or chosen is never among these.
ALLOWED_TEXT = ("DINOv2", "Cambrian-1", "EVA-02", "Qwen2")
LATEX_OWN = ("Bigl", "Bigr")  # LaTeX's commands with a capital letter, as far as the manuscript uses them
# Commands whose arguments hold keys, file names or lengths. (pattern of the complete command)
_TECHNICAL = re.compile(
    r"\\(?:documentclass|usepackage|includegraphics)(?:\[[^]]*\])?\{[^}]*\}"
    r"|\\(?:cite[a-z]*|label|ref|eqref|input|bibliography|bibliographystyle)\*?(?:\[[^]]*\])*\{[^}]*\}"
    r"|\\(?:setlength|hypersetup|newenvironment)\{[^}]*\}(?:\{[^}]*\})*"
)
_COMMENT = re.compile(r"(?<!\\)%.*")
_VALUE = re.compile(r"\\([A-Z][A-Za-z]*)")
_MACRO_NAME = re.compile(r"[A-Z][A-Za-z]*")
# What a value may hold beyond ASCII, and how LaTeX writes it.
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "<": "$<$",
    ">": "$>$",
    "τ": r"$\tau$",
    "ρ": r"$\rho$",
    "²": "$^2$",
    "R²": "$R^2$",  # as one formula it does not break between its letters
    "•": r"\textbullet{}",
    "’": "'",
    "“": "``",
    "”": "''",
    "\u00a0": "~",
    "∅": r"$\emptyset$",
    "∖": r"$\setminus$",
}


def latex_text(text: str) -> str:
    """Plain text as LaTeX source. Raises StudyError on a character LaTeX would not print."""
    escaped = "".join(_LATEX.get(part, part) for part in re.findall("R²|.", text, re.DOTALL))
    if foreign := sorted(set(re.findall(r"[^\x20-\x7e]", escaped))):
        raise StudyError(f"values.json: {text!r} holds {foreign}: no LaTeX form is known, add it to _LATEX")
    return escaped


def macro_definitions(values: Mapping[str, str]) -> str:
    """generated/macros.tex: a \\newcommand per value. Raises StudyError on a name LaTeX refuses."""
    if wrong := [name for name in values if not _MACRO_NAME.fullmatch(name)]:
        raise StudyError(f"values.json: {wrong[0]!r} is no macro name; use letters only, the first a capital")
    head = "% Made by the workflow from values.json; do not edit.\n"
    return head + "".join(
        f"\\newcommand{{\\{name}}}{{{latex_text(values[name])}}}\n" for name in sorted(values)
    )


def check_manuscript(source: str, values: Mapping[str, str], folder: Path) -> None:
    """Refuse a typed number, an undefined macro, or a missing figure, table, label or source.

    `folder` is where main.tex stands with its figures/, tables/ and refs.bib. All faults are reported in one
    StudyError, each with its line.
    """
    faults = [*_typed_numbers(source), *_undefined(source, values), *_missing(source, folder)]
    if faults:
        raise StudyError(f"main.tex: {'; '.join(faults)}")


def _lines(source: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(source.splitlines(), start=1):
        yield number, _COMMENT.sub("", line)


def _typed_numbers(source: str) -> Iterator[str]:
    text = "\n".join(line for _, line in _lines(source))
    # keys, names and lengths go; their line breaks stay, so that lines keep their numbers
    text = _TECHNICAL.sub(lambda match: "\n" * match[0].count("\n"), text)
    for allowed in ALLOWED_TEXT:
        text = text.replace(allowed, "")
    for number, line in _lines(text):
        if digits := re.findall(r"\S*\d\S*", line):
            yield f"line {number}: {digits[0]!r} is a number typed by hand; state it by a macro"


def _undefined(source: str, values: Mapping[str, str]) -> Iterator[str]:
    for number, line in _lines(source):
        for name in _VALUE.findall(line):
            if name not in values and name not in LATEX_OWN:
                yield f"line {number}: \\{name} is not in values.json; add it to collect_values or correct it"


def _missing(source: str, folder: Path) -> Iterator[str]:
    text = "\n".join(line for _, line in _lines(source))
    for name in re.findall(r"\\includegraphics(?:\[[^]]*\])?\{([^}]*)\}", text):
        if not (folder / name).is_file():
            yield f"\\includegraphics{{{name}}}: no such file; no rule made this figure"
    for name in re.findall(r"\\input\{([^}]*)\}", text):
        if not (folder / f"{name}.tex").is_file():
            yield f"\\input{{{name}}}: no such file; no rule made this table"
    labels = re.findall(r"\\label\{([^}]*)\}", text)
    if repeated := sorted({label for label in labels if labels.count(label) > 1}):
        yield f"\\label{{{repeated[0]}}} stands twice"
    for name in re.findall(r"\\ref\{([^}]*)\}", text):
        if name not in labels:
            yield f"\\ref{{{name}}}: no such label"
    known = set(re.findall(r"@\w+\{([^,\s]+),", (folder / "refs.bib").read_text(encoding="utf-8")))
    for keys in re.findall(r"\\cite[a-z]*(?:\[[^]]*\])*\{([^}]*)\}", text):
        for key in keys.split(","):
            if key.strip() not in known:
                yield f"\\cite{{{key.strip()}}}: not in refs.bib"
