"""Noise between seeds: measured by a study with several, written, read back and used by a study with one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lattice_simulation import Simulation, make_plan, simulate

from encoder_roles.analysis.claims.claim import SEEDS_NEEDED, UNTESTED
from encoder_roles.analysis.commands import analyse
from encoder_roles.analysis.seed_noise import COLUMNS, RANK_RATIO, SeedNoise, read_seed_noise
from encoder_roles.analysis.statistics import bound_draws, build_score_arrays, percentile_interval
from encoder_roles.provenance import write_table
from encoder_roles.study.names import NO_MASK, StudyError
from encoder_roles.study.sections import StatisticsSettings
from encoder_roles.study.stages import RoleStage

POOL = ("clip", "dinov2", "sam")
FEW = {"General": ("mme", "seed"), "OCR & Chart": ("chartqa",)}
STATISTICS = StatisticsSettings(resamples=300, level=0.95, seed=0, overall="benchmarks")
STAGE = RoleStage(study="simulated", pool=POOL, tau=0.1, statistics=STATISTICS, recipe="same")


def study(seeds: int) -> Simulation:
    plan = make_plan(np.random.default_rng(4), POOL, FEW, seed_noise=0.5)
    return simulate(plan, np.random.default_rng(seeds), range(seeds), questions=100, operators=())


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    analysis = study(3)
    return analyse(analysis.scores, analysis.ranks, analysis.costs, STAGE)[0]["seed_covariance"]


@pytest.fixture
def file(table: pd.DataFrame, tmp_path: Path) -> Path:
    write_table(tmp_path / "seed_covariance.csv", table)
    return tmp_path / "seed_covariance.csv"


def test_the_table_reads_back_with_its_provenance(table: pd.DataFrame, file: Path) -> None:
    noise = read_seed_noise(file, "same")
    assert noise is not None
    assert (noise.study, noise.recipe, noise.seeds) == ("simulated", "same", 3)
    assert noise.freedom[NO_MASK] == 2 * 8  # eight models of three seeds
    written = table[(table["first"] == "mme") & (table["second"] == "chartqa")]["covariance"].iloc[0]
    covariance, _ = noise.of(NO_MASK, ["chartqa", "mme"])
    assert covariance[0, 1] == covariance[1, 0] == pytest.approx(written)
    assert np.diag(covariance).min() > 0 and noise.ratio_variance > 0


def test_one_seed_has_no_verdict_without_the_noise_and_verdicts_with_that_of_its_recipe(file: Path) -> None:
    analysis = study(1)
    tables, withheld, _ = analyse(analysis.scores, analysis.ranks, analysis.costs, STAGE)
    assert tables["seed_covariance"].empty
    assert {claim.verdict for claim in withheld} == {UNTESTED}
    assert [claim.estimate for claim in withheld if claim.to_decide == SEEDS_NEEDED]
    noise = read_seed_noise(file, STAGE.recipe)
    _, claims, notes = analyse(analysis.scores, analysis.ranks, analysis.costs, STAGE, noise)
    tested = [claim for claim in claims if claim.verdict != UNTESTED]
    assert {claim.claim for claim in tested} >= {"2a", "2c", "4a", "7"}
    assert all("study simulated measured" in c.seed_note and "16 degrees" in c.seed_note for c in tested)
    assert "16 degrees of freedom" in notes[0]["note"]
    plain = {claim.claim: claim for claim in withheld}["4a"]
    wider = {claim.claim: claim for claim in claims}["4a"]
    assert wider.high - wider.low > 1.2 * (plain.high - plain.low)


def test_another_recipe_does_not_use_the_table(file: Path) -> None:
    assert read_seed_noise(file, "another") is None
    assert read_seed_noise(file, "") is None


def test_a_stated_deviation_comes_before_the_measured_noise(file: Path) -> None:
    analysis = study(1)
    stated = STAGE.model_copy(update={"statistics": STATISTICS.model_copy(update={"seed_deviation": 2.0})})
    _, claims, _ = analyse(
        analysis.scores, analysis.ranks, analysis.costs, stated, read_seed_noise(file, "same")
    )
    assert all("stated seed deviation of 2" in c.seed_note for c in claims if c.verdict != UNTESTED)


def test_a_table_that_lacks_something_is_refused_in_one_line(table: pd.DataFrame, tmp_path: Path) -> None:
    path = tmp_path / "seed_covariance.csv"
    spoilt = (
        (table.drop(columns="covariance"), "no column covariance"),
        (table.drop(index=1), "a pair of benchmarks has no covariance"),
    )
    for rows, message in spoilt:
        write_table(path, rows)
        with pytest.raises(StudyError, match=message) as error:
            read_seed_noise(path, "same")
        assert "\n" not in str(error.value)
    noise = SeedNoise("reference", "same", 3, ("mme",), {NO_MASK: np.eye(1)}, {NO_MASK: 16.0})
    with pytest.raises(StudyError, match="no benchmark chartqa"):
        noise.of(NO_MASK, ["mme", "chartqa"])
    assert set(table["first"]) - {"mme", "seed", "chartqa"} == {RANK_RATIO} and list(table) == list(COLUMNS)


def test_a_score_of_0_or_100_has_the_exact_binomial_bound() -> None:
    moved = bound_draws(250, (200_000, 1), np.random.default_rng(0))
    low, high = percentile_interval(moved, 0.95)
    assert low[0] == 0 and high[0] == pytest.approx(100 * (1 - 0.05 ** (1 / 250)), rel=0.03)
    analysis = study(1)
    scores = analysis.scores.assign(
        score=np.where(
            (analysis.scores["benchmark"] == "mme") & (analysis.scores["subset"] == "sam"), 0.0, 100.0
        )
    )
    arrays = build_score_arrays(replace(analysis, scores=scores).scores, STATISTICS)
    low, high = percentile_interval(arrays.draws, 0.95)
    assert (high - low > 0).all() and low.min() == 0 and high.max() == 100
