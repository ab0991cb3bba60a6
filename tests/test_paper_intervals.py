"""There is one interval of a score, that of lattice.csv: texts and tables print it and compute none."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from paper_study import ROOT, SCRIPTS, PaperStudy, make_paper_study

from encoder_roles.paper.manuscript import latex_text
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.readings import masked_scores
from encoder_roles.paper.wording import fixed, percent, with_interval
from encoder_roles.study.names import BENCHMARKS, GROUPS, StudyError

POOL = ("clip", "siglip", "sam")
FULL = "clip+siglip+sam"
STUDIES = {
    "one seed": {"seeds": (0,)},
    "three seeds": {"seeds": (0, 1, 2)},
    "a stated seed deviation": {"seed_deviation": 3.0},
}


@pytest.fixture(scope="module", params=STUDIES)
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> PaperStudy:
    return make_paper_study(tmp_path_factory.mktemp("intervals") / "study", POOL, **STUDIES[request.param])


def test_every_score_of_the_text_has_the_interval_of_the_lattice(study: PaperStudy, tmp_path: Path) -> None:
    values, scores = study.values(tmp_path / "values.json"), study.scores()
    printed = {
        subset: with_interval(*row) for subset, row in zip(scores.index, scores.to_numpy(), strict=True)
    }
    assert values["BlindScore"] == printed["blind"]
    assert values["FullScore"] == printed[FULL]
    with_bounds = re.findall(r"\d+\.\d\u00a0\[[^]]+\]", values["SubsetsSentence"])
    assert len(with_bounds) >= 4 and set(with_bounds) <= set(printed.values())
    point = scores["score"]
    assert values["FullGain"] == fixed(point[FULL] - point["blind"])
    for group in GROUPS:
        of_group = study.scores(level="group", name=group)["score"]
        assert f"{fixed(of_group[FULL] - of_group['blind'])} points in {group}" in values["GroupsSentence"]
    for operator in ("zero", "mean"):
        gap = (point - study.scores(operator)["score"]).drop(["blind", FULL]).mean()
        assert (
            f"{operator} mask the same encoders score {fixed(abs(gap))} points" in values["MaskingSentence"]
        )


def test_every_cell_of_the_score_table_is_a_row_of_the_lattice(study: PaperStudy, tmp_path: Path) -> None:
    columns = [study.scores(level="group", name=group) for group in GROUPS] + [study.scores()]
    for subset, cells in by_subset(study.table("scores", tmp_path)).items():
        expected = [halved(*column.loc[subset]) for column in columns]
        assert cells == expected, subset


def test_every_cell_of_the_benchmark_table_is_a_score_of_the_lattice(
    study: PaperStudy, tmp_path: Path
) -> None:
    columns = [study.scores(level="benchmark", name=benchmark) for benchmark in BENCHMARKS]
    for subset, cells in by_subset(study.table("benchmark_scores", tmp_path)).items():
        expected = [fixed(column.loc[subset, "score"]) for column in (*columns, study.scores())]
        assert cells == expected, subset


def test_pairs_roles_and_costs_print_the_scores_of_the_lattice(study: PaperStudy, tmp_path: Path) -> None:
    scores = study.scores()
    pairs = {row[0]: row for row in cells_of(study.table("pairs", tmp_path))}
    for first, second in (("clip", "siglip"), ("clip", "sam"), ("siglip", "sam")):
        row = pairs[f"{encoder_name(first)} + {encoder_name(second)}"]
        assert row[1] == latex_text(with_interval(*scores.loc[f"{first}+{second}"]))
        assert row[2] == latex_text(percent(scores["score"][f"{first}+{second}"] / scores["score"][FULL]))
    by_operator = iter(cells_of(study.table("roles", tmp_path)))
    for operator in ("retrained", "zero", "mean"):
        for encoder in POOL:
            row = next(by_operator)
            assert row[1] == encoder_name(encoder)
            assert row[2] == latex_text(with_interval(*study.scores(operator).loc[encoder])), operator
    for row in cells_of(study.table("costs", tmp_path)):
        of_size = [name for name in scores.index if name != "blind" and name.count("+") + 1 == int(row[0])]
        assert row[2] == fixed(scores.loc[of_size, "score"].mean())


def test_the_tables_that_figures_read_repeat_the_scores_of_the_lattice(study: PaperStudy) -> None:
    scores = study.scores()
    pairs = study.rows("pairs")
    for table, subsets in (("pareto", None), ("pairs", pairs["first"] + "+" + pairs["second"])):
        rows = study.rows(table)
        same(rows[["score", "low", "high"]], scores.loc[rows["subset"] if subsets is None else subsets])
    roles = study.rows("roles").query("measure == 'capacity'")
    keys = ["operator", "level", "benchmark", "encoder"]
    lattice = study.rows("lattice").rename(columns={"subset": "encoder"}).set_index(keys)
    expected = lattice.loc[pd.MultiIndex.from_frame(roles[keys])]
    same(roles[["value", "low", "high"]], expected[["score", "low", "high"]])


def test_no_script_and_no_module_of_the_paper_computes_an_interval() -> None:
    sources = [*SCRIPTS.glob("*.py"), *(ROOT / "src/encoder_roles/paper").glob("*.py")]
    formula = re.compile(r"1\.96|1\.645|2\.57|\bppf\b|quantile|percentile|\bstd\(|\bsem\(|bootstrap\(")
    assert [path.name for path in sources if formula.search(path.read_text())] == []


def halved(score: float, low: float, high: float) -> str:
    return latex_text(f"{fixed(score)} ± {fixed((high - low) / 2)}")


def same(rows: pd.DataFrame, expected: pd.DataFrame) -> None:
    np.testing.assert_allclose(rows.to_numpy(float), expected.to_numpy(float), rtol=1e-6)


def cells_of(path: Path) -> list[list[str]]:
    """The cells of a tabular below its head, as LaTeX, bold or not."""
    lines = [line.removesuffix(r" \\") for line in path.read_text().splitlines() if line.endswith(r"\\")]
    return [
        [re.sub(r"^\\textbf\{(.*)\}$", r"\1", cell) for cell in re.split(r"(?<!\\) & ", line)]
        for line in lines[1:]
    ]


def by_subset(path: Path) -> dict[str, list[str]]:
    """The cells of a table whose first columns mark the encoders of a subset; all eight rows."""
    rows = {}
    for cells in cells_of(path):
        marks = cells[: len(POOL)]
        members = [encoder for encoder, mark in zip(POOL, marks, strict=True) if mark == r"\textbullet{}"]
        rows["+".join(members) or "blind"] = cells[len(POOL) :]
    assert len(rows) == 2 ** len(POOL)
    return rows


def test_an_operator_that_was_not_evaluated_is_an_error_that_names_it(study: PaperStudy) -> None:
    with pytest.raises(StudyError, match="operator 'noise'"):
        masked_scores(study.rows("lattice"), "noise")
