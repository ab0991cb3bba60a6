"""What a run measured, its seconds and its memory, differs between runs: none of it may reach the paper."""

from __future__ import annotations

import shutil
from fnmatch import fnmatch
from pathlib import Path

import pandas as pd
import pytest
from paper_study import PaperStudy, make_paper_study

from encoder_roles.analysis.commands import assign_roles
from encoder_roles.manifest.compare import MEASURED, unlike
from encoder_roles.paper.catalogue import FIGURES, FILES, TABLES


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[PaperStudy, PaperStudy]:
    """Two runs of one study with other seconds and other memory; other subsets take most."""
    first = make_paper_study(tmp_path_factory.mktemp("measured") / "first")
    second = PaperStudy(first.folder.with_name("second"))
    shutil.copytree(first.folder, second.folder)
    costs = pd.read_csv(second.folder / "costs.csv")
    for column in set(MEASURED["costs.csv"]) & set(costs.columns):
        costs[column] = 7 * costs[column].to_numpy()[::-1]
    costs.to_csv(second.folder / "costs.csv", index=False)
    assign_roles(
        settings=second.folder / "settings" / "roles.json",
        **{name: second.folder / f"{name}.csv" for name in ("ranks", "costs")},
        scores=second.folder / "scores.parquet",
        output=second.folder,
    )
    return first, second


def test_the_analysis_keeps_measured_time_in_the_files_that_are_named_for_it(
    runs: tuple[PaperStudy, PaperStudy],
) -> None:
    first, second = runs
    files = [path.relative_to(first.folder) for path in first.folder.iterdir() if path.is_file()]
    changed = {file.name for file in files if differ(first.folder / file, second.folder / file)}
    assert changed == {"costs.csv", "pareto.csv"}
    assert not [name for name in changed if unlike(name, first.folder / name, second.folder / name)]


def test_figures_tables_and_numbers_of_the_paper_do_not_depend_on_measured_time(
    runs: tuple[PaperStudy, PaperStudy], tmp_path: Path
) -> None:
    made = []
    for number, run in enumerate(runs):
        folder = tmp_path / str(number)
        for figure, inputs in FIGURES.items():
            shows_time = any(fnmatch(f"figures/{figure}.pdf", pattern) for pattern in MEASURED)
            if {FILES[name] for name in inputs} & set(MEASURED) and not shows_time:
                run.draw(figure, folder)
        for table, inputs in TABLES.items():
            if {FILES[name] for name in inputs} & set(MEASURED):
                run.table(table, folder)
        run.values(folder / "values.json")
        made.append(folder)
    names = sorted(path.name for path in made[0].iterdir())
    assert len(names) >= 5
    assert [name for name in names if differ(made[0] / name, made[1] / name)] == []


def differ(first: Path, second: Path) -> bool:
    """Whether two files have other bytes."""
    return first.read_bytes() != second.read_bytes()
