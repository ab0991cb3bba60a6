"""The paper's figures: drawn from any study, with the same bytes whenever the data are the same."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from paper_study import SCRIPTS, PaperStudy, make_paper_study
from PIL import Image

from encoder_roles.paper.catalogue import FIGURES, MASK_FIGURES, TABLES, VARIANT_FIGURES, VARIANT_TABLES
from encoder_roles.paper.style import COLUMN, encoder_colours, encoder_markers

REPORT = SCRIPTS.parent / "report"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PaperStudy:
    return make_paper_study(tmp_path_factory.mktemp("figures") / "three")


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_has_the_same_bytes_when_drawn_again(figure: str, study: PaperStudy, tmp_path: Path) -> None:
    once, again = (study.draw(figure, tmp_path / name) for name in ("once", "again"))
    for kind in once:
        assert _digest(once[kind]) == _digest(again[kind]), kind
    with Image.open(once["png"]) as picture:
        assert picture.width / picture.info["dpi"][0] <= COLUMN + 0.01
        assert np.unique(np.asarray(picture.convert("L"))).size > 4, "an empty picture"
    texts = [text for text in study.figures[figure].findobj(Text) if text.get_text().strip()]
    assert min(text.get_fontsize() for text in texts if text.get_visible()) >= 6


def test_every_figure_is_drawn_for_a_pool_of_two_with_a_missing_subset_and_two_seeds(tmp_path: Path) -> None:
    small = make_paper_study(tmp_path / "two", ("clip", "sam"), subsets=["clip", "clip+sam"], seeds=(0, 1))
    for figure in FIGURES:
        assert all(path.stat().st_size for path in small.draw(figure, tmp_path / "figures").values())


def test_an_encoder_keeps_its_colour_and_marker_when_the_pool_grows_at_its_end() -> None:
    pool = ("clip", "siglip", "dinov2", "convnext", "sam", "eva02")
    for looks in (encoder_colours, encoder_markers):
        assert looks(pool[:3]).items() <= looks(pool).items()
        assert len(set(looks(pool).values())) == len(pool)


def test_every_figure_and_table_has_a_script_and_a_caption() -> None:
    figures, tables = {*FIGURES, *VARIANT_FIGURES}, {*TABLES, *VARIANT_TABLES}
    expected = {f"draw_{name}.py" for name in {*figures, *MASK_FIGURES}} | {
        f"table_{name}.py" for name in tables
    }
    assert {path.name for path in SCRIPTS.glob("*_*.py")} == expected | {"collect_values.py"}
    assert {path.stem for path in (REPORT / "figures").iterdir()} == figures
    assert {path.stem for path in (REPORT / "tables").iterdir()} == tables


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
