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

from encoder_roles.analysis.seed_noise import read_seed_noise
from encoder_roles.provenance import write_json
from encoder_roles.study.config import load_study
from encoder_roles.study.stages import recipe_of

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
    write_manifest(study.folder, results, "reference")
    return study


def write_manifest(folder: Path, results: ModuleType, study: str) -> None:
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    recorded = dict.fromkeys(results.RECORDED, "as it was") | {
        "study": study,
        "files": files,
        "repository": {"commit": "abcdef0123456789", "dirty": False},
        "seeds": {"models": [0, 1, 2]},
        "machine": {"cpu": "a processor", "cores": 2},
        "written": "2026-01-02T03:04:05+00:00",
    }
    (folder / "manifest.json").write_text(json.dumps(recorded))


@pytest.fixture(scope="module")
def longer(tmp_path_factory: pytest.TempPathFactory, results: ModuleType) -> Path:
    """What is copied of a study with twice the epochs: clip gains one point, the full pool two."""
    folder = tmp_path_factory.mktemp("longer")
    rows = [
        {"level": "overall", "variant": variant, "subset": subset, "score": score, "low": score - 1}
        | {"high": score + 1, "difference": gain, "difference_low": gain - 0.5, "difference_high": gain + 0.5}
        for variant, subset, score, gain in (
            ("recipe", "clip", 70.0, float("nan")),
            ("recipe", "clip+sam", 80.0, float("nan")),
            ("doubled", "clip", 71.0, 1.0),
            ("doubled", "clip+sam", 82.0, 2.0),
        )
    ]
    pd.DataFrame(rows).to_csv(folder / "variants.csv", index=False)
    write_json(folder / "variant_claims.json", [])
    write_json(folder / "settings/variants.json", {"baseline": "recipe"})
    write_json(folder / "settings/convergence.json", {"further_epochs": {"doubled": 6}})
    write_json(folder / "settings/tune.json", {"tune": {"epochs": 6}})
    write_manifest(folder, results, "laptop_epochs")
    return folder


@pytest.fixture
def project(tmp_path: Path, finished: PaperStudy, longer: Path, results: ModuleType) -> Path:
    """A project whose pages have every block, empty, after the studies' tables were copied."""
    (tmp_path / "docs").mkdir()
    for page in results.PAGES:
        (tmp_path / page).write_text("Before.\nAfter 12.3.\n")
    for folder in (finished.folder, longer):
        results.main([str(folder)], tmp_path)
    blocks = [f"<!-- results: {name} -->\nunwritten\n<!-- end of results -->\n" for name in results.BLOCKS]
    for page in results.PAGES:
        (tmp_path / page).write_text("Before.\n" + "".join(blocks) + "After 12.3.\n")
    results.main([], tmp_path)
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
    assert "Seeds 0, 1, 2; code of commit abcdef012345; a processor, 2 cores; finished 2026-01-02.\n" in page
    results.main(["--check"], project)


def test_a_number_typed_by_hand_is_refused(project: Path, results: ModuleType) -> None:
    page = project / "README.md"
    text = page.read_text()
    first = re.search(r"\d\.\d \[", text)
    assert first is not None
    page.write_text(text[: first.start()] + "9.9 [" + text[first.end() :])
    with pytest.raises(SystemExit, match=r"README\.md: not what the tables in studies/ say"):
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


def test_the_gain_of_further_epochs_is_held_against_the_goal(project: Path) -> None:
    page = (project / "docs/laptop-study.md").read_text()
    gains = "1.0 [0.5, 1.5] (CLIP) to 2.0 [1.5, 2.5] (CLIP + SAM) points, with one seed."
    assert f"2 subsets that train for 12 epochs instead of 6 gain {gains}" in page
    goal = "| twice the epochs move no overall score of eight subsets by 1.5 points | "
    assert f"{goal}1.0 to 2.0; 1 of 2 subsets miss it | **no** |" in page
    assert "| encoders | 6 epochs | 12 epochs | difference | less than 1.5 |" in page
    assert "71.0 [70.0, 72.0] | +1.0 [+0.5, +1.5] | yes |" in page
    assert "82.0 [81.0, 83.0] | +2.0 [+1.5, +2.5] | **no** |" in page


def test_a_study_that_no_page_prints_is_refused(
    project: Path, longer: Path, results: ModuleType, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(longer, other)
    write_manifest(other, results, "ci")
    with pytest.raises(SystemExit, match="a result of ci; the pages print results of reference"):
        results.main([str(other)], project)
    assert not (project / "studies/ci").exists()


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


def test_seeds_by_skill_are_pooled_within_a_band_of_scores(results: ModuleType, tmp_path: Path) -> None:
    rows = [("word", "clip", 95.0, 1.0), ("word", "sam", 100.0, 7.0), ("bar", "clip", 34.9, 3.0)]
    rows += [("bar", "blind", 20.0, 50.0), ("all", "clip", 20.0, 50.0)]  # neither is a learnt skill
    columns = ["skill", "subset", "score", "seed_deviation"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "skills.csv", index=False)
    lines = results.skill_noise_table(results.Results(tmp_path)).splitlines()[2:]
    assert (lines[0], lines[-1]) == ("| 0 to 35 | 1 | 3.0 |", "| 95 to 100 | 2 | 5.0 |")
    assert all(line.endswith("| 0 | – |") for line in lines[1:-1]) and len(lines) == 7


def test_the_pages_of_this_project_print_their_studies(results: ModuleType, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "studies", tmp_path / "studies")
    (tmp_path / "docs").mkdir()
    for page in results.PAGES:
        shutil.copyfile(ROOT / page, tmp_path / page)
    results.main(["--check"], tmp_path)


def test_a_default_study_takes_the_noise_of_its_seeds_from_the_reference_study() -> None:
    noise = read_seed_noise(ROOT / "studies/seed_covariance.csv", recipe_of(load_study(ROOT / "config.yaml")))
    assert noise is not None, "the recipe has changed: train the reference study again"
    reference = load_study(ROOT / "config.yaml", ROOT / "studies/reference.yaml")
    assert (noise.study, noise.seeds) == (reference.study, len(reference.seeds))
