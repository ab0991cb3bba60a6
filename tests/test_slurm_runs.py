"""`snakemake --profile slurm` on a real Slurm: the whole study, jobs that meet a fate, a killed Snakemake;
each time with the bytes of an undisturbed run on one machine."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from slurm_checkout import Checkout
from slurm_cluster import ACCOUNT, Cluster

pytestmark = pytest.mark.slurm
PATIENCE = 3000  # seconds; on two idle cores everything here takes a tenth of it
TUNE = "train_tune_wildcards_blind_0"
WEIGHTS = "models/blind/seed0/tune/model.safetensors"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> tuple[Checkout, Checkout]:
    """The study up to its scores on one machine, and the whole through Slurm, where four jobs meet a fate."""
    undisturbed, disturbed = (
        Checkout(tmp_path_factory.mktemp(name), cluster) for name in ("undisturbed", "disturbed")
    )
    disturbed.fate("train-tune.blind", "freeze")
    disturbed.fate("train-align.clip+sam", "await_warning")
    disturbed.fate("predict-subset.clip+sam", "swell")
    disturbed.fate("measure-pretrained-ranks.", "hang")
    local = undisturbed.start("--", "results/slurm/scores.parquet", profile="")
    snakemake = disturbed.start("--", "paper")
    disturbed.until("the frozen job", lambda: disturbed.met("train-tune.blind"), snakemake, PATIENCE)
    (frozen,) = [job for job in cluster.jobs("R") if job["comment"] == f"rule_{TUNE}"]
    cluster.command("scancel", frozen["id"])
    assert disturbed.ends_well(snakemake, PATIENCE), disturbed.said()[-3000:]
    assert undisturbed.ends_well(local, PATIENCE), undisturbed.said()[-3000:]
    return undisturbed, disturbed


@pytest.fixture
def undisturbed(runs: tuple[Checkout, Checkout]) -> Checkout:
    """The run on one machine."""
    return runs[0]


@pytest.fixture
def disturbed(runs: tuple[Checkout, Checkout]) -> Checkout:
    """The run through Slurm."""
    return runs[1]


def states(cluster: Cluster, job: str) -> list[str]:
    """How the attempts of a job ended, in order."""
    found = [j for j in cluster.jobs() if j["comment"].startswith(f"rule_{job}")]
    return [j["state"] for j in sorted(found, key=lambda j: int(j["id"]))]


def test_the_whole_study_goes_through_slurm_to_its_paper(disturbed: Checkout) -> None:
    assert disturbed.read("paper/paper.pdf").startswith(b"%PDF-")
    assert (disturbed.folder / "results/slurm/figures/subset_bars.png").exists()


def test_its_scores_are_those_of_one_machine_byte_for_byte(
    undisturbed: Checkout, disturbed: Checkout
) -> None:
    assert disturbed.read("scores.parquet") == undisturbed.read("scores.parquet")
    assert disturbed.read(WEIGHTS) == undisturbed.read(WEIGHTS)


def test_a_cancelled_job_is_run_again(disturbed: Checkout, cluster: Cluster) -> None:
    assert states(cluster, TUNE) == ["CANCELLED", "COMPLETED"]


def test_a_job_out_of_time_is_run_again_with_more(disturbed: Checkout, cluster: Cluster) -> None:
    assert states(cluster, "measure_pretrained_ranks") == ["TIMEOUT", "COMPLETED"]


def test_a_job_out_of_memory_is_run_again_with_more(disturbed: Checkout, cluster: Cluster) -> None:
    assert states(cluster, "predict_subset_wildcards_clip+sam") == ["FAILED", "COMPLETED"]


def test_a_training_job_is_warned_before_its_time_is_up(disturbed: Checkout, cluster: Cluster) -> None:
    assert (disturbed.folder / "fates/train-align.clip+sam.warned").read_text() == "by SIGUSR1"
    assert states(cluster, "train_align") == ["FAILED", "COMPLETED"]


def test_only_a_job_that_asks_for_a_gpu_goes_where_there_are_some(
    disturbed: Checkout, cluster: Cluster
) -> None:
    places = {(j["comment"].startswith("rule_train_tune"), j["partition"]) for j in cluster.jobs()}
    assert places == {(True, "gpu"), (False, "cpu")}


def test_no_job_ended_well_twice(disturbed: Checkout, cluster: Cluster) -> None:
    done = Counter(job["comment"] for job in cluster.jobs("CD"))
    assert len(done) > 8 and set(done.values()) == {1}, done


def kill_with_a_job_running(checkout: Checkout, cluster: Cluster, fate: str) -> None:
    """Start the training of one model anew, and SIGKILL Snakemake while it runs."""
    shutil.rmtree(checkout.folder / "results/slurm/models/blind")
    checkout.fate("train-tune.blind", fate)
    (checkout.folder / "fates/train-tune.blind.met").unlink(missing_ok=True)
    snakemake = checkout.start("--", f"results/slurm/{Path(WEIGHTS).parent}")
    checkout.until("the job", lambda: checkout.met("train-tune.blind"), snakemake, PATIENCE)
    checkout.kill(snakemake)
    assert [job["comment"] for job in cluster.jobs("R")] == [f"rule_{TUNE}"], "the job outlives Snakemake"
    assert checkout.run("--unlock") == 0


def test_after_a_sigkill_of_snakemake_its_jobs_are_cancelled_before_a_new_run(
    undisturbed: Checkout, disturbed: Checkout, cluster: Cluster
) -> None:
    model = f"results/slurm/{Path(WEIGHTS).parent}"
    kill_with_a_job_running(disturbed, cluster, "freeze")
    assert disturbed.run("--", model) != 0, "a second run would write what the orphan writes"
    assert "1 jobs of an earlier run of this checkout still wait or run" in disturbed.said()
    assert "Traceback" not in disturbed.said()
    cancelled = disturbed.command("cancel-orphans")
    assert (cancelled.returncode, cancelled.stderr.splitlines()[-1][:16]) == (0, "1 jobs cancelled")
    assert cluster.jobs("R", "PD", "CG") == []
    assert disturbed.run("--", model) == 0, disturbed.said()[-3000:]
    assert disturbed.read(WEIGHTS) == undisturbed.read(WEIGHTS)


def test_after_a_sigkill_of_snakemake_its_jobs_are_awaited_and_what_they_made_is_kept(
    undisturbed: Checkout, disturbed: Checkout, cluster: Cluster
) -> None:
    model = f"results/slurm/{Path(WEIGHTS).parent}"
    kill_with_a_job_running(disturbed, cluster, "slow")
    awaited = disturbed.command("await-orphans")
    assert awaited.returncode == 0 and "1 of 1 jobs ended well" in awaited.stderr, awaited.stderr
    before = len(cluster.jobs())
    assert disturbed.run("--", model) == 0, disturbed.said()[-3000:]
    assert "Nothing to be done" in disturbed.said() and len(cluster.jobs()) == before
    assert disturbed.read(WEIGHTS) == undisturbed.read(WEIGHTS)


def test_with_accounting_sacct_tells_how_jobs_end(
    tmp_path: Path, undisturbed: Checkout, accounting_cluster: Cluster
) -> None:
    checkout = Checkout(tmp_path, accounting_cluster, account=ACCOUNT)
    features = [f"features/{name}/train.safetensors" for name in ("clip", "sam")]
    checkout.fate("extract-features.clip", "hang")
    snakemake = checkout.start("--", *(f"results/slurm/{name}" for name in features))
    checkout.until("the hanging job", lambda: checkout.met("extract-features.clip"), snakemake, PATIENCE)
    (hanging,) = [
        j for j in accounting_cluster.jobs("R") if j["comment"].endswith("extract_features_wildcards_clip")
    ]
    accounting_cluster.command("scancel", hanging["id"])
    assert checkout.ends_well(snakemake, PATIENCE), checkout.said()[-3000:]
    assert all(checkout.read(name) == undisturbed.read(name) for name in features)
    lines = accounting_cluster.command("sacct", "-X", "-n", "-P", "-o", "Account,State").splitlines()
    told = Counter(line.split()[0] for line in lines)  # less who cancelled
    assert told == {f"{ACCOUNT}|COMPLETED": 4, f"{ACCOUNT}|CANCELLED": 1}, told
