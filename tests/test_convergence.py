"""Convergence: the fall of the loss at the end of a training, its gate, and encoders that raise the loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from encoder_roles.analysis.convergence import (
    COLUMNS,
    EDGE_COLUMNS,
    TrainingLog,
    convergence_table,
    edge_table,
    gains_per_epoch,
    loss_fall,
    measure_convergence,
)
from encoder_roles.provenance import write_json, write_jsonl
from encoder_roles.study.config import validate_study
from encoder_roles.study.names import StudyError, all_subsets
from encoder_roles.study.sections import ConvergenceGate
from encoder_roles.study.stages import ConvergenceStage, further_epochs

POOL = ("clip", "siglip", "sam")
CONFIG = yaml.safe_load((Path(__file__).parents[1] / "config.yaml").read_text(encoding="utf-8"))
STAGE = ConvergenceStage(study="tiny", pool=POOL, level=0.95, gate=ConvergenceGate())


def log(subset: str, losses: np.ndarray, seed: int = 0, stage: str = "tune") -> TrainingLog:
    return TrainingLog(subset, seed, stage, np.asarray(losses, dtype=float))


@given(st.floats(0.5, 2.0), st.floats(0.1, 100.0), st.integers(4, 60))
def test_a_fall_is_the_ratio_of_two_means_whatever_the_scale_of_the_loss(
    ratio: float, scale: float, steps: int
) -> None:
    losses = scale * np.repeat([9.0, 1.0, ratio], [steps, steps, steps])
    fall, low, high = loss_fall(losses, part=1 / 3, level=0.95)
    assert fall == pytest.approx(1 - ratio) and low == pytest.approx(high)


def test_the_interval_of_a_fall_covers_the_true_fall_of_noisy_batches() -> None:
    random = np.random.default_rng(0)
    truth = np.repeat([1.0, 0.97], 100)
    covered = 0
    for _ in range(2000):
        _, low, high = loss_fall(truth + random.normal(0, 0.1, truth.size), part=0.5, level=0.95)
        covered += low <= 0.03 <= high
    assert 0.93 <= covered / 2000 <= 0.97


@pytest.mark.parametrize(("level", "converged"), [(0.90, "false"), (0.99, "true"), (1.20, "true")])
def test_a_training_converges_if_its_last_quarter_lowers_the_loss_by_less_than_the_gate(
    level: float, converged: str
) -> None:
    table = convergence_table([log("clip", np.repeat([2.0, 1.0, level], [40, 20, 20]))], STAGE)
    assert table["converged"].item() == converged
    assert table["gate_fall"].item() == pytest.approx(1 - level)
    assert table["loss"].item() == pytest.approx(level)


def test_only_tune_has_a_gate_and_a_training_of_one_step_has_no_verdict() -> None:
    trainings = [log("clip", np.linspace(2, 1, 40), stage="align"), log("sam", np.array([1.0]))]
    assert convergence_table(trainings, STAGE)["converged"].tolist() == ["", ""]


def lattice(rise: float, noise: float, seeds: int, random: np.random.Generator) -> pd.DataFrame:
    """Final losses that fall by 0.1 with every encoder, except that `sam` raises them."""
    trainings = []
    for seed in range(seeds):
        shared = random.normal(0, 0.2)
        for subset in ("blind", *all_subsets(POOL)):
            members = set(subset.split("+")) - {"blind"}
            loss = 2 + shared - 0.1 * len(members - {"sam"}) + rise * ("sam" in members)
            trainings.append(log(subset, np.full(20, loss + random.normal(0, noise)), seed))
    return convergence_table(trainings, STAGE)


def test_an_encoder_that_raises_the_loss_is_seen_against_the_noise_of_seeds() -> None:
    random = np.random.default_rng(1)
    edges = edge_table(lattice(0.1, 0.01, 3, random), POOL, 0.95)
    assert len(edges) == 3 * 4
    assert set(edges.loc[edges["beyond_noise"] == "true", "added"]) == {"sam"}
    assert (edges.loc[edges["added"] == "sam", "beyond_noise"] == "true").all()


def test_noise_alone_passes_for_a_rise_in_as_few_edges_as_the_level_allows() -> None:
    random = np.random.default_rng(2)
    edges = pd.concat([edge_table(lattice(0.0, 0.05, 3, random), POOL, 0.95) for _ in range(40)])
    share = (edges.loc[edges["added"] == "sam", "beyond_noise"] == "true").mean()
    assert share <= 0.06  # 2.5% are expected


def test_one_seed_has_edges_but_no_statement_about_noise() -> None:
    edges = edge_table(lattice(0.1, 0.0, 1, np.random.default_rng(3)), POOL, 0.95)
    assert edges["rise"].notna().all() and edges["low"].isna().all()
    assert (edges["beyond_noise"] == "").all()


def write_training(folder: Path, losses: list[float]) -> Path:
    folder.mkdir(parents=True)
    write_json(folder / "training.json", {"subset": "clip", "seed": 0, "stage": "tune"})
    write_jsonl(folder / "log.jsonl", ({"step": i, "loss": loss} for i, loss in enumerate(losses)))
    return folder


def measure(folder: Path, trainings: tuple[Path, ...]) -> pd.DataFrame:
    (folder / "convergence.json").write_text(STAGE.model_dump_json())
    output, edges = folder / "convergence.csv", folder / "loss_edges.csv"
    measure_convergence(settings=folder / "convergence.json", trainings=trainings, output=output, edges=edges)
    assert tuple(pd.read_csv(edges).columns) == EDGE_COLUMNS
    return pd.read_csv(output)


def test_the_command_reads_the_records_that_trainings_write(tmp_path: Path) -> None:
    table = measure(tmp_path, (write_training(tmp_path / "tune", [3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]),))
    assert tuple(table.columns) == COLUMNS
    assert table["converged"].item() and table["steps"].item() == 8


@pytest.mark.parametrize("damage", ["training.json", "log.jsonl"])
def test_a_damaged_record_is_one_line_that_names_the_training(tmp_path: Path, damage: str) -> None:
    folder = write_training(tmp_path / "tune", [1.0])
    (folder / damage).write_text('{"step": 0')
    with pytest.raises(StudyError, match=r"tune: no readable record of a training .*; train it again"):
        measure(tmp_path, (folder,))


def test_a_variant_that_changes_only_the_epochs_measures_the_gain_of_a_further_epoch() -> None:
    variants = {
        "base": {},
        "longer": {"training": {"tune": {"epochs": CONFIG["training"]["tune"]["epochs"] + 2}}},
    }
    variants["other"] = {"training": {"tune": {"epochs": 9}}, "connector": {"kind": "linear"}}
    assert further_epochs(validate_study(CONFIG | {"variants": variants})) == {"longer": 2}
    rows = {"variant": ["base", "longer"], "level": ["overall"] * 2, "subset": ["clip"] * 2}
    bounds = {"difference": [np.nan, 3.0], "difference_low": [np.nan, 2.0], "difference_high": [np.nan, 4.0]}
    gains = gains_per_epoch(pd.DataFrame(rows | bounds), {"longer": 2})
    assert gains is not None
    table = convergence_table([log("clip", np.ones(8))], STAGE, gains)
    assert table[["epoch_gain", "epoch_low", "epoch_high"]].iloc[0].tolist() == [1.5, 1.0, 2.0]
