"""A training of several processes: through `--profile slurm` on two nodes of a real Slurm, started by srun;
and on one machine, where it becomes torchrun of itself."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Iterator

import pandas as pd
import pytest
import yaml
from conftest import start
from slurm_checkout import STUDY, Checkout
from slurm_cluster import Cluster

pytestmark = pytest.mark.slurm
PATIENCE = 3000  # seconds
TUNE = "models/clip+sam/seed0/tune"
ALIGN = "models/clip+sam/seed0/align"
OTHER = "models/sam/seed0/align"  # ready together with the first: one array
ARGUMENTS = ("--configfile", STUDY, "tests/slurm_processes.yaml", "--")
# the largest training alone: every command of a rehearsal starts in processes of its own
ONE = {"subsets": ["clip+sam"], "rehearsal": "required", "training": {"align": {"features": "computed"}}}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Cluster]:
    """Slurm on two nodes, a GPU each."""
    yield from start(Cluster(nodes=("first", "second"), cpus=4, gpus=1))


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory, nodes: Cluster, undisturbed: Checkout
) -> tuple[Checkout, Checkout]:
    """The training on one machine, and through Slurm, where all its processes are warned in its middle."""
    alone, spread = (Checkout(tmp_path_factory.mktemp(name), nodes) for name in ("alone", "spread"))
    alone.take_over(undisturbed)
    assert alone.run(*ARGUMENTS, f"results/slurm/{TUNE}", profile="") == 0, alone.output()[-3000:]
    spread.take_over(alone)
    shutil.rmtree(spread.folder / "results/slurm/models")  # what is before them need not be made twice
    snakemake = spread.start(*ARGUMENTS, *(f"results/slurm/{folder}" for folder in (TUNE, OTHER)))
    restart = spread.folder / "results/slurm/.restart/tune"
    spread.until(
        "a checkpoint", lambda: any(restart.rglob("step*/state-*1.safetensors")), snakemake, PATIENCE
    )
    (running,) = (job for job in nodes.jobs("R") if job["comment"].startswith("rule_train_tune"))
    nodes.command("scancel", "--signal=USR1", running["id"])
    assert spread.ends_well(snakemake, PATIENCE), spread.output()[-3000:]
    return alone, spread


def test_ranks_on_two_nodes_train_what_two_on_one_machine_do_byte_for_byte(
    runs: tuple[Checkout, Checkout],
) -> None:
    alone, spread = runs
    assert json.loads(spread.read(f"{TUNE}/training.json"))["processes"] == 2
    for file in (f"{TUNE}/model.safetensors", f"{ALIGN}/connector.safetensors"):
        assert spread.read(file) == alone.read(file)


def test_warned_ranks_save_and_the_next_attempt_goes_on(
    runs: tuple[Checkout, Checkout], nodes: Cluster
) -> None:
    attempts = [job for job in nodes.jobs() if job["comment"].startswith("rule_train_tune")]
    states = [job["state"] for job in sorted(attempts, key=lambda job: int(job["id"]))]
    assert states == ["FAILED", "COMPLETED"]


def test_a_job_of_two_nodes_has_a_process_and_a_gpu_on_each(
    runs: tuple[Checkout, Checkout], nodes: Cluster
) -> None:
    listing = nodes.command(
        "squeue", "-h", "-t", "all", "-O", "Comment:60,NodeList:40,tres-per-node:40,NumTasks:8"
    )
    lines = [line.split() for line in listing.splitlines()]
    tune = [line[1:] for line in lines if line[0].startswith("rule_train_tune")]
    assert tune == [["first,second", "gres:gpu:1", "2"]] * 2
    assert [line[1] for line in lines if line[0].startswith("rule_train_align")] == ["first,second"] * 2


def test_trainings_of_several_nodes_go_as_one_array(runs: tuple[Checkout, Checkout]) -> None:
    submitted = runs[1].submitted()
    ids = [id for subset in ("clip+sam", "sam") for id in submitted[f"train_align {subset} 0"]]
    array = ids[0].split("_")[0]
    assert sorted(ids) == [f"{array}_1", f"{array}_2"]


def test_a_rehearsal_measures_both_nodes_and_then_the_study_may_start(
    runs: tuple[Checkout, Checkout],
) -> None:
    spread = runs[1]
    (spread.folder / "one.yaml").write_text(yaml.safe_dump(ONE))
    configs = ("config.yaml", STUDY, "tests/slurm_processes.yaml", "one.yaml")
    refused = spread.command("preflight", "--configs", *configs)
    assert refused.returncode == 1 and "no rehearsal of slurm has passed" in refused.stderr
    snakemake = spread.start("--logger", "study", "--configfile", *configs[1:], "--", "rehearse")
    assert spread.ends_well(snakemake, PATIENCE), spread.output()[-3000:]
    assert re.search(r"/\d+ +rehearse", spread.output()), "a line per finished job, as on a laptop"
    assert "jobs of the last run are done" in spread.command("status", "--configs", *configs).stdout
    peaks = pd.read_csv(io.BytesIO(spread.read("rehearsal/peaks.csv")))
    trained = peaks[peaks["what"].isin(["align", "tune", "tune resumed"])]
    assert set(zip(trained["process"], trained["node"], strict=True)) == {(0, "first"), (1, "second")}
    warned = trained[(trained["what"] == "tune") & (trained["model"] == "clip+sam")]
    assert list(warned.groupby("process")["phase"].agg(list)) == [["start", "step", "step", "checkpoint"]] * 2
    started = spread.command("preflight", "--configs", *configs)
    assert started.returncode == 0, started.stderr
