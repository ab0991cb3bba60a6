"""The manuscript and its PDF: made from the study's tables alone, or not made at all."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paper_study import ROOT, PaperStudy, make_paper_study

from encoder_roles.paper.build import build_paper
from encoder_roles.paper.catalogue import FIGURES, MEASURED_FIGURES, TABLES
from encoder_roles.paper.manuscript import check_manuscript, latex_text, macro_definitions
from encoder_roles.study.names import StudyError

SOURCE = ROOT / "paper"
BLANK = b"""%PDF-1.4
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 90 60]>>endobj
trailer<</Root 1 0 R>>
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PaperStudy:
    """A study whose tables and values are made; its figures are blank pages, drawn by other tests."""
    made = make_paper_study(tmp_path_factory.mktemp("paper") / "study")
    for table in TABLES:
        made.table(table, made.folder / "tables")
    made.values(made.folder / "values.json")
    (made.folder / "figures").mkdir()
    for figure in FIGURES:
        (made.folder / "figures" / f"{figure}.pdf").write_bytes(BLANK)
    return made


def build(study: PaperStudy, output: Path, source: Path = SOURCE) -> Path:
    build_paper(
        source=source,
        tables=study.folder / "tables",
        figures=study.folder / "figures",
        values=study.folder / "values.json",
        output=output,
    )
    return output


def test_the_pdf_has_pages_and_its_text_holds_the_values(study: PaperStudy, tmp_path: Path) -> None:
    import typst

    output = build(study, tmp_path / "paper")
    assert (output / "paper.pdf").read_bytes().startswith(b"%PDF-")
    pages = typst.compile(str(output / "main.typ"), format="png", ppi=20, ignore_system_fonts=True)
    assert len(pages) >= 6
    text = re.sub(r"\s+", " ", (output / "main.typ").read_text().replace("\\", ""))
    values = json.loads((study.folder / "values.json").read_text())
    for name in ("FullGain", "SubsetsSentence", "ClaimOneSentence", "VerdictTwoB", "MaskingSentence"):
        assert re.sub(r"[\s~\u00a0]+", " ", values[name]) in text.replace("~", " ").replace("\u00a0", " "), (
            name
        )
    # every figure and table of the catalogue is in the paper but those of measured time, and every reference
    # finds its number
    assert {name for name in FIGURES if f"figures/{name}." in text} == set(FIGURES) - set(MEASURED_FIGURES)
    assert text.count("kind: table )") == len(TABLES)
    assert json.loads(typst.query(str(output / "main.typ"), "bibliography")) != []


def test_the_pdf_has_the_same_bytes_when_built_again(study: PaperStudy, tmp_path: Path) -> None:
    once, again = (build(study, tmp_path / name) / "paper.pdf" for name in ("once", "again"))
    assert once.read_bytes() == again.read_bytes()


def changed(tmp_path: Path, old: str, new: str) -> Path:
    """A copy of the manuscript's folder with one piece of main.tex replaced."""
    folder = tmp_path / "source"
    shutil.copytree(SOURCE, folder)
    text = (folder / "main.tex").read_text()
    assert old in text
    (folder / "main.tex").write_text(text.replace(old, new, 1))
    return folder


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (r"scores \FullScore", "scores 61.3", r"'61\.3.*' is a number typed by hand"),
        (r"\FullGain\ points", r"\FullGane\ points", r"\\FullGane is not in values\.json"),
        ("figures/subset_bars.pdf", "figures/subset_bars_new.pdf", "no rule made this figure"),
        (r"\input{tables/claims}", r"\input{tables/clams}", "no rule made this table"),
        (r"Figure~\ref{fig:ranks}", r"Figure~\ref{fig:rank}", "no such label"),
        (r"\citep{roy2007effective}", r"\citep{roy2008effective}", "not in refs.bib"),
    ],
)
def test_a_fault_in_the_manuscript_stops_the_build_and_leaves_nothing(
    old: str, new: str, fault: str, study: PaperStudy, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=fault):
        build(study, tmp_path / "paper", changed(tmp_path, old, new))
    assert not (tmp_path / "paper").exists()


def test_digits_are_found_wherever_text_can_hold_them_and_only_there() -> None:
    innocent = r"""\documentclass[10pt]{article}
\includegraphics[width=0.48\textwidth]{figures/a1.pdf} % 3 of them
\citep{tong2024cambrian,
  roy2007effective} DINOv2 \label{sec:a1}"""
    folder = SOURCE
    with pytest.raises(StudyError) as caught:
        check_manuscript(innocent.replace("figures/a1.pdf", "refs.bib") + "\n$x_1$ and 17\\% \n", {}, folder)
    assert re.findall(r"line (\d+): '(\S+)'", str(caught.value)) == [("5", "$x_1$")]
    check_manuscript(innocent.replace("figures/a1.pdf", "refs.bib"), {}, folder)


def test_values_become_latex_that_prints_what_they_say() -> None:
    assert latex_text("−3.2 [−4, 1] 95% of R&D, R² ≥ τ") == (
        r"$-$3.2 [$-$4, 1] 95\% of R\&D, $R^2$ $\geq$ $\tau$"
    )
    with pytest.raises(StudyError, match="LaTeX form"):
        latex_text("a snowman ☃")
    with pytest.raises(StudyError, match="no macro name"):
        macro_definitions({"Score2": "1"})


def test_the_paper_room_loads_no_torch_and_starts_quickly() -> None:
    code = (
        "import sys, encoder_roles.paper.build, encoder_roles.paper.values, encoder_roles.paper.style; "
        "print(sorted({'torch', 'transformers', 'lmms_eval', 'shapiq'} & set(sys.modules)))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "[]"
