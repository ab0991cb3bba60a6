"""Two studies compared: paired where the questions are the same, independent elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lattice_simulation import make_plan, simulate

from encoder_roles.analysis.compare import Comparison, compare, compare_studies
from encoder_roles.provenance import write_json
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import StatisticsSettings
from encoder_roles.study.stages import RoleStage

POOL = ("clip", "dinov2", "sam")
GROUPS = {"General": ("mme", "gqa"), "OCR & Chart": ("chartqa",)}
STATISTICS = StatisticsSettings(resamples=400, level=0.95, seed=0, overall="benchmarks")


def settings(pool: tuple[str, ...] = POOL) -> RoleStage:
    return RoleStage(study="simulated", pool=pool, statistics=STATISTICS, tau=0.1)


@pytest.fixture(scope="module")
def scores() -> pd.DataFrame:
    random = np.random.default_rng(1)
    return simulate(make_plan(random, POOL, GROUPS), random, questions=80, operators=("zero",)).scores


def changed(scores: pd.DataFrame, share: float = 0.05) -> pd.DataFrame:
    """The same study with some answers changed."""
    turned = np.random.default_rng(2).random(len(scores)) < share
    return scores.assign(score=scores["score"].where(~turned, 100 - scores["score"]))


def row(comparison: Comparison, measure: str, item: str, level: str = "overall") -> pd.Series:
    table = comparison.table
    at = (table["measure"] == measure) & (table["item"] == item) & (table["level"] == level)
    return table[at & (table["operator"] == "retrained")].iloc[0]


def test_a_study_does_not_differ_from_itself(scores: pd.DataFrame) -> None:
    comparison = compare(scores, settings(), scores, settings())
    assert comparison.paired == comparison.benchmarks == ("mme", "gqa", "chartqa")
    assert (comparison.table[["difference", "low", "high"]].to_numpy() == 0).all()
    assert {"score", "capacity", "necessity", "redundancy"} <= set(comparison.table["measure"])
    assert set(comparison.table["operator"]) == {"retrained", "zero"}


def test_differences_are_the_second_study_s_values_minus_the_first_s(scores: pd.DataFrame) -> None:
    comparison = compare(scores, settings(), changed(scores), settings())
    there = row(comparison, "necessity", "clip")
    full, without = (row(comparison, "score", subset) for subset in ("clip+dinov2+sam", "dinov2+sam"))
    assert there["difference"] == pytest.approx(full["difference"] - without["difference"])
    assert full["difference"] == pytest.approx(full["second"] - full["first"])
    assert full["low"] <= full["difference"] <= full["high"]


def test_the_same_questions_give_narrower_intervals_than_others(scores: pd.DataFrame) -> None:
    other = changed(scores)
    elsewhere = other.assign(question="other " + other["question"], cluster="other " + other["cluster"])
    widths = []
    for second in (other, elsewhere):
        comparison = compare(scores, settings(), second, settings())
        at = row(comparison, "score", "clip+dinov2+sam")
        widths.append(at["high"] - at["low"])
    assert comparison.paired == ()
    assert widths[0] < 0.7 * widths[1]
    # independent resamples: the variance of the difference is the sum of both
    alone = compare(scores, settings(), elsewhere, settings()).table
    assert len(alone) == len(comparison.table)


def test_studies_of_other_pools_are_compared_on_the_encoders_of_both(scores: pd.DataFrame) -> None:
    turned = scores.replace(
        {"subset": {"clip+dinov2": "dinov2+clip"}, "mask": {"clip+dinov2": "dinov2+clip"}}
    )
    smaller = turned[~turned["subset"].str.contains("sam") & (turned["operator"] == "unmasked")]
    comparison = compare(scores, settings(), smaller, settings(("dinov2", "clip")))
    assert comparison.pool == ("clip", "dinov2")
    assert row(comparison, "score", "clip+dinov2")["difference"] == 0
    assert row(comparison, "necessity", "clip")["difference"] == 0
    with pytest.raises(StudyError, match="share 1 encoders, and roles need two"):
        compare(scores, settings(), smaller, settings(("clip", "eva")))
    with pytest.raises(StudyError, match="share no benchmark"):
        compare(scores, settings(), scores.assign(benchmark="POPE"), settings())


def test_the_command_prints_what_differs_and_writes_everything(
    scores: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, table in zip(folders, (scores, changed(scores)), strict=True):
        write_json(folder / "settings/roles.json", settings().model_dump(mode="json"))
        table.to_parquet(folder / "scores.parquet")
    compare_studies(*folders, output=tmp_path / "differences.csv")
    printed = capsys.readouterr().out
    assert "3 benchmarks in both, 3 with the same questions (paired)" in printed
    assert "training seeds: 1 and 1; with one seed its noise is not in the intervals" in printed
    written = pd.read_csv(tmp_path / "differences.csv")
    assert len(written) == len(compare(scores, settings(), changed(scores), settings()).table)
    with pytest.raises(StudyError, match="given twice; name two studies"):
        compare_studies(folders[0], folders[0])
