"""The results of `er.analyse_table` and `er.advise` as text, HTML, files and figures; and the example."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.figure import Figure

import encoder_roles as er

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs/examples/own_scores.py"


@pytest.fixture(scope="module")
def example() -> dict[str, object]:
    """The names of the example notebook, executed cell by cell; its last expressions are shown as HTML."""
    scope: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        for cell in NOTEBOOK.read_text(encoding="utf-8").split("\n# %%")[1:]:
            if not cell.startswith(" [markdown]"):
                exec(compile(cell, str(NOTEBOOK), "exec"), scope)  # noqa: S102 - our own example
    return scope


@pytest.fixture(scope="module")
def analysis(example: dict[str, object]) -> er.Analysis:
    analysis = example["analysis"]
    assert isinstance(analysis, er.Analysis)
    return analysis


@pytest.fixture(scope="module")
def advice(example: dict[str, object]) -> er.Advice:
    advice = example["advice"]
    assert isinstance(advice, er.Advice)
    return advice


def test_the_example_is_a_notebook_of_markdown_and_code() -> None:
    import jupytext

    kinds = [cell.cell_type for cell in jupytext.read(NOTEBOOK).cells]
    assert kinds.count("code") >= 6 and kinds.count("markdown") >= 4


def test_an_analysis_reads_as_its_summary_and_shows_as_a_table(analysis: er.Analysis) -> None:
    assert repr(analysis) == str(analysis) == analysis.summary()
    shown = analysis._repr_html_()
    assert "<table" in shown and all(f"<td>{encoder}</td>" in shown for encoder in analysis.pool)


def test_an_advice_reads_as_a_table_and_shows_as_one(advice: er.Advice) -> None:
    assert repr(advice) == str(advice)
    assert advice.pool == ("clip", "dinov2", "sam")
    for text in (str(advice), advice._repr_html_()):
        assert all(subset in text for subset in advice.predictions["subset"])
        assert "Next to train:" in text and advice.statements[0].split(":")[0] in text
    assert "<table" in advice._repr_html_()


def test_html_of_a_name_with_markup_is_text() -> None:
    analysis = er.analyse_table(
        pd.DataFrame({"encoders": ["a<b>", "c", "a<b> + c"], "gqa": [50.0, 40.0, 60.0]})
    )
    assert "<b>" not in analysis._repr_html_()


def test_a_figure_leaves_matplotlib_as_it_was(analysis: er.Analysis, advice: er.Advice) -> None:
    from matplotlib import pyplot as plt

    before = dict(mpl.rcParams)
    for result in (analysis, advice):
        figure = result.figure("subset_lattice")
        assert isinstance(figure, Figure) and figure.get_axes()
        texts = [text.get_text() for axes in figure.get_axes() for text in axes.texts]
        assert sum("±" in text for text in texts) > 0, "scores with intervals"
        assert figure.number not in plt.get_fignums()  # type: ignore[attr-defined]
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("subset_latice", "did you mean 'subset_lattice'"),
        ("score_cost", "needs all subsets and their costs"),
    ],
)
def test_a_figure_that_cannot_be_drawn_is_one_line(analysis: er.Analysis, name: str, message: str) -> None:
    with pytest.raises(er.StudyError, match=f"^figure '{name}': .*{message}"):
        analysis.figure(name)


def test_results_are_saved_as_tables_and_figures(
    analysis: er.Analysis, advice: er.Advice, tmp_path: Path
) -> None:
    analysis.save(tmp_path / "plain", figures=False)
    assert (tmp_path / "plain/report.html").is_file() and not (tmp_path / "plain/figures").exists()
    assert set(analysis.tables) <= {path.stem for path in (tmp_path / "plain").glob("*.csv")}
    advice.save(str(tmp_path / "advice"))
    saved = pd.read_csv(tmp_path / "advice/predictions.csv")
    assert saved["subset"].tolist() == advice.predictions["subset"].tolist()
    assert (tmp_path / "advice/advice.txt").read_text(encoding="utf-8") == f"{advice}\n"
    assert (tmp_path / "advice/figures/subset_lattice.png").stat().st_size > 10_000
