"""`build-paper`: make a PDF of main.tex, its macros, tables and figures with pandoc and Typst, without TeX.

pandoc reads the LaTeX (expanding the macros) and writes Typst; Typst sets the page. Both come as Python
packages and bring all they need, fonts included, so the PDF's bytes depend on its sources alone.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from encoder_roles.paper.manuscript import check_manuscript, macro_definitions
from encoder_roles.provenance import atomic_folder, write_text
from encoder_roles.study.names import StudyError

MANUSCRIPT = ("main.tex", "refs.bib", "template.typ", "filter.lua")
RULE = "MIDRULE"  # stands in a table for a rule between its rows, which pandoc would drop


def build_paper(*, source: Path, tables: Path, figures: Path, values: Path, output: Path) -> None:
    """Make the folder `output`: the manuscript's sources as LaTeX would read them, and paper.pdf.

    `source` holds main.tex, refs.bib, template.typ and filter.lua. Raises StudyError when the manuscript
    states a number by hand, uses an undefined macro, or needs a figure or table that no rule made.
    """
    macros = _read_values(values)
    with atomic_folder(output) as folder:
        for name in MANUSCRIPT:
            if not (source / name).is_file():
                raise StudyError(f"{source / name}: missing; --source names the folder of the manuscript")
            shutil.copyfile(source / name, folder / name)
        _copy(sorted(tables.glob("*.tex")), folder / "tables")
        manuscript = (folder / "main.tex").read_text(encoding="utf-8")
        shown = [figures / name for name in sorted(set(re.findall(r"figures/(\w+\.pdf)", manuscript)))]
        _copy([figure for figure in shown if figure.is_file()], folder / "figures")
        write_text(folder / "generated" / "macros.tex", macro_definitions(macros))
        check_manuscript(manuscript, macros, folder)
        write_text(folder / "main.typ", typst_source(manuscript, folder))
        set_pdf(folder / "main.typ", folder / "paper.pdf")


def typst_source(manuscript: str, folder: Path) -> str:
    """The manuscript as Typst. Its tables are read from `folder` and its template and filter used."""
    import pypandoc  # type: ignore[import-untyped]

    text = re.sub(r"\\input\{([^}]*)\}", lambda match: _include(folder / f"{match[1]}.tex"), manuscript)
    text = re.sub(r"\\begin\{(figure|table)(\*?)\}(.*?)\\end\{\1\2\}", _float, text, flags=re.DOTALL)
    text = text.replace(r"\appendix", "\\begin{appendices}\n\\end{appendices}")
    text = re.sub(r"\\bibliography\{[^}]*\}", r"\\begin{references}\n\\end{references}", text)
    written = pypandoc.convert_text(
        text,
        "typst",
        format="latex",
        extra_args=[f"--template={folder / 'template.typ'}", f"--lua-filter={folder / 'filter.lua'}"],
    )
    # a row that holds the mark and nothing else
    rule = re.compile(rf"^ *table\.cell\([^)]*\)\[{RULE}\],$", re.MULTILINE)
    return rule.sub("    table.hline(),", written)


def set_pdf(source: Path, output: Path) -> None:
    """Set a Typst file as PDF with the fonts that Typst brings. Raises StudyError with Typst's message."""
    import typst

    try:
        typst.compile(str(source), str(output), ignore_system_fonts=True, timestamp=0)
    except typst.TypstError as error:
        raise StudyError(f"{source}: Typst cannot set it: {' '.join(str(error).split())}") from None


def _float(match: re.Match[str]) -> str:
    """A float as pandoc keeps it: starred (both columns) and small become environments."""
    kind, star, content = match.groups()
    text = f"\\begin{{{kind}}}{content}\\end{{{kind}}}"
    for name, wanted in (("dense", r"\scriptsize" in content), ("wide", star)):
        text = f"\\begin{{{name}}}\n{text}\n\\end{{{name}}}" if wanted else text
    return text


def _include(path: Path) -> str:
    """A file's text; rules between the rows of a table become marked rows, the one under its head stays.

    Columns of a fixed width become plain ones: Typst breaks the text of a column that is too long by itself.
    """
    text = path.read_text(encoding="utf-8")
    if r"\midrule" not in text:
        return text
    text = re.sub(r"p\{[\d.]+in\}", "l", text, count=1)
    head, *rest = text.split(r"\midrule")
    columns = _columns(text)
    return rf"\multicolumn{{{columns}}}{{l}}{{{RULE}}} \\".join([head + r"\midrule" + rest[0], *rest[1:]])


def _columns(table: str) -> int:
    """The number of columns of a tabular whose column letters are l, c and r."""
    match = re.search(r"\\begin\{tabular\}\{([^}]*)\}", table)
    return sum(match[1].count(letter) for letter in "lcr") if match else 0


def _copy(files: Iterable[Path], target: Path) -> None:
    target.mkdir()
    for path in files:
        shutil.copyfile(path, target / path.name)


def _read_values(path: Path) -> Mapping[str, str]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise StudyError(f"{path}: cannot be read as JSON: {error}; run collect_values") from None
    if not isinstance(values, dict) or not all(isinstance(text, str) for text in values.values()):
        raise StudyError(f"{path}: not a flat object of macro names and texts")
    return values
