"""The paper's figures: drawn from any study, each with a script and a caption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from paper_study import SCRIPTS, make_paper_study
from PIL import Image

from encoder_roles.paper.catalogue import FIGURES, MASK_FIGURES, TABLES, VARIANT_FIGURES, VARIANT_TABLES
from encoder_roles.paper.style import encoder_colours, encoder_markers

REPORT = SCRIPTS.parent / "report"


def test_every_figure_is_drawn_for_a_pool_of_two_with_a_missing_subset_and_two_seeds(tmp_path: Path) -> None:
    small = make_paper_study(tmp_path / "two", ("clip", "sam"), subsets=["clip", "clip+sam"], seeds=(0, 1))
    for figure in FIGURES:
        with Image.open(small.draw(figure, tmp_path, ["png"])["png"]) as picture:
            assert np.unique(np.asarray(picture.convert("L"))).size > 4, "an empty picture"


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
