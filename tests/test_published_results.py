"""docs/results.py: what the pages print of the reference study is what its committed tables say."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from paper_study import PaperStudy, make_paper_study

ROOT = Path(__file__).resolve().parent.parent
POOL = ("clip", "siglip", "sam")


@pytest.fixture(scope="module")
def results() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_results", ROOT / "docs/results.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, results: ModuleType) -> PaperStudy:
    """A simulated study of three seeds with everything that is copied."""
    study = make_paper_study(tmp_path_factory.mktemp("finished") / "study", POOL, seeds=(0, 1, 2))
    study.draw("subset_lattice", study.folder / "figures")
    study.values(study.folder / "values.json")
    recorded = dict.fromkeys(results.RECORDED, "as it was")
    (study.folder / "manifest.json").write_text(json.dumps(recorded))
    return study


@pytest.fixture
def project(tmp_path: Path, finished: PaperStudy, results: ModuleType) -> Path:
    """A project whose pages have every block, empty, after the study's tables were copied."""
    (tmp_path / "docs").mkdir()
    for page in results.PAGES:
        blocks = [
            f"<!-- results: {name} -->\nunwritten\n<!-- end of results -->\n" for name in results.BLOCKS
        ]
        (tmp_path / page).write_text("Before.\n" + "".join(blocks) + "After 12.3.\n")
    results.main([str(finished.folder)], tmp_path)
    return tmp_path


def test_every_block_is_written_from_the_copied_tables_and_the_rest_stays(
    project: Path, finished: PaperStudy, results: ModuleType
) -> None:
    page = (project / "docs/laptop-study.md").read_text()
    assert (
        page.startswith("Before.\n<!-- results: ")
        and page.endswith("After 12.3.\n")
        and "unwritten" not in page
    )
    scores = finished.scores().sort_values("score", ascending=False)
    lines = [line for line in page.splitlines() if re.match(r"\| .* \| \d+\.\d \[", line)][: len(scores)]
    written = [re.findall(r"-?\d+\.\d", line)[:3] for line in lines]
    assert written == [[f"{value:.1f}" for value in row] for row in scores.to_numpy()]
    results.main(["--check"], project)


def test_a_number_typed_by_hand_is_refused(project: Path, results: ModuleType) -> None:
    page = project / "README.md"
    text = page.read_text()
    first = re.search(r"\d\.\d \[", text)
    assert first is not None
    page.write_text(text[: first.start()] + "9.9 [" + text[first.end() :])
    with pytest.raises(SystemExit, match=r"README\.md: not what studies/reference says"):
        results.main(["--check"], project)
    results.main([], project)
    assert page.read_text() == text


def test_the_copied_tables_say_where_they_come_from(
    project: Path, finished: PaperStudy, results: ModuleType
) -> None:
    record = json.loads((project / "studies/reference/provenance.json").read_text())
    assert set(record) == {*results.RECORDED, "files"}
    for name, digest in record["files"].items():
        assert results.sha256_of(project / "studies/reference" / name) == digest
    assert (project / "docs/subset_lattice.svg").read_bytes().startswith(b"<?xml")
    assert (project / "studies/seed_covariance.csv").read_bytes() == (
        finished.folder / "seed_covariance.csv"
    ).read_bytes()


def test_a_missed_goal_says_no(project: Path, results: ModuleType, tmp_path: Path) -> None:
    """Seeds that are 4 points apart miss both goals of seeds; equal ones reach both."""
    folder = tmp_path / "studies/reference"
    table = pd.read_csv(folder / "scores.csv", keep_default_na=False, na_values=[""])
    for apart, verdict in ((4.0, "**no**"), (0.0, "yes")):
        own = table["operator"] == "unmasked"
        table.loc[own, "score"] = 50 + apart * table.loc[own, "seed"] / 2
        table.to_csv(folder / "scores.csv", index=False)
        rows = results.goal_table(results.Results(folder)).splitlines()
        of_seeds = [row for row in rows if "between seeds" in row or "whose seeds" in row]
        assert len(of_seeds) == 2 and all(row.endswith(f"| {verdict} |") for row in of_seeds)


@pytest.mark.skipif(not (ROOT / "studies/reference").exists(), reason="no reference study is committed yet")
def test_the_pages_of_this_project_print_the_reference_study(results: ModuleType, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "studies/reference", tmp_path / "studies/reference")
    (tmp_path / "docs").mkdir()
    for page in results.PAGES:
        shutil.copyfile(ROOT / page, tmp_path / page)
    results.main(["--check"], tmp_path)
