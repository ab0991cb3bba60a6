"""`snakemake --profile slurm` on a real Slurm: the whole study, jobs that meet a fate, a killed Snakemake;
each time with the bytes of an undisturbed run on one machine."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from slurm_checkout import Checkout
from slurm_cluster import ACCOUNT, Cluster

from encoder_roles.paper.catalogue import COLUMNS, FIGURES, FILES, TABLES

pytestmark = pytest.mark.slurm
PATIENCE = 3000  # seconds; on two idle cores everything here takes a tenth of it
TUNE = "train_tune blind 0"
ROLES = "results/slurm/roles.csv"
WEIGHTS = "models/blind/seed0/tune/model.safetensors"
READ = {FILES[name] for names in (*FIGURES.values(), *TABLES.values()) for name in names}
MAY_BE_EMPTY = {FILES[name] for name in COLUMNS if name in FILES}  # with few subsets
TARGETS = [f"results/slurm/{file}" for file in (*sorted(READ), "figures/subset_bars.png")]


Attempts = dict[str, dict[str, str]]  # job -> Slurm's id -> how it ended, in order
Runs = tuple[Checkout, Attempts]


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Runs:
    """All jobs of the study that Slurm runs, where four meet a fate, with one figure of those that Snakemake
    draws where it runs; and what became of every attempt."""
    disturbed = Checkout(tmp_path_factory.mktemp("disturbed"), cluster)
    disturbed.fate("train-tune.blind", "freeze")
    disturbed.fate("train-align.clip+sam", "await_warning")
    disturbed.fate("predict-subset.clip+sam", "swell")
    disturbed.fate("measure-pretrained-ranks.", "hang")
    snakemake = disturbed.start("--", *TARGETS)
    request.getfixturevalue("undisturbed")  # meanwhile
    disturbed.until("the frozen job", lambda: disturbed.met("train-tune.blind"), snakemake, PATIENCE)
    cluster.command("scancel", *disturbed.submitted()[TUNE])
    assert disturbed.ends_well(snakemake, PATIENCE), disturbed.output()[-3000:]
    state = {job["id"]: job["state"] for job in cluster.jobs()}
    attempts = {job: {id: state[id] for id in ids} for job, ids in disturbed.submitted().items()}
    return disturbed, attempts


@pytest.fixture
def disturbed(runs: Runs) -> Checkout:
    """The run through Slurm."""
    return runs[0]


@pytest.fixture
def states(runs: Runs) -> dict[str, list[str]]:
    """How the attempts of the jobs of the run through Slurm ended, in order."""
    return {job: list(attempts.values()) for job, attempts in runs[1].items()}


def test_the_whole_study_goes_through_slurm_to_what_its_paper_reads(disturbed: Checkout) -> None:
    assert all(disturbed.read(file) for file in READ if file not in MAY_BE_EMPTY)
    assert disturbed.read("figures/subset_bars.png").startswith(b"\x89PNG")


def test_its_scores_are_those_of_one_machine_byte_for_byte(
    undisturbed: Checkout, disturbed: Checkout
) -> None:
    assert disturbed.read("scores.parquet") == undisturbed.read("scores.parquet")
    assert disturbed.read(WEIGHTS) == undisturbed.read(WEIGHTS)


def test_a_cancelled_job_is_run_again(states: dict[str, list[str]]) -> None:
    assert states[TUNE] == ["CANCELLED", "COMPLETED"]


def test_a_job_out_of_time_is_run_again_with_more(states: dict[str, list[str]]) -> None:
    assert states["measure_pretrained_ranks"] == ["TIMEOUT", "COMPLETED"]


def test_a_job_out_of_memory_is_run_again_with_more(states: dict[str, list[str]]) -> None:
    assert states["predict_subset clip+sam 0 clip+sam"] == ["FAILED", "COMPLETED"]


def test_a_training_job_is_warned_before_its_time_is_up(
    disturbed: Checkout, states: dict[str, list[str]]
) -> None:
    assert (disturbed.folder / "fates/train-align.clip+sam.warned").read_text() == "by SIGUSR1"
    assert states["train_align clip+sam 0"] == ["FAILED", "COMPLETED"]


def test_only_a_job_that_asks_for_a_gpu_goes_where_there_are_some(
    disturbed: Checkout, cluster: Cluster
) -> None:
    places = {(j["comment"].startswith("rule_train_tune"), j["partition"]) for j in cluster.jobs()}
    assert places == {(True, "gpu"), (False, "cpu")}


def test_no_job_ended_well_twice(states: dict[str, list[str]]) -> None:
    assert len(states) > 8 and {ends.count("COMPLETED") for ends in states.values()} == {1}, states


def test_features_that_could_be_extracted_together_were_so_in_an_array(runs: Runs) -> None:
    arrays = Counter(id.split("_")[0] for attempts in runs[1].values() for id in attempts if "_" in id)
    assert arrays and min(arrays.values()) > 1, runs[1]
    assert all("_" in next(iter(runs[1][f"extract_features {encoder}"])) for encoder in ("clip", "sam"))


def kill_with_a_job_running(checkout: Checkout, cluster: Cluster, fate: str) -> bytes:
    """Have the roles assigned anew, and SIGKILL Snakemake while that job runs; returns what is made anew."""
    before = checkout.read("roles.csv")
    (checkout.folder / ROLES).unlink()
    checkout.fate("assign-roles.", fate)
    (checkout.folder / "fates/assign-roles..met").unlink(missing_ok=True)
    snakemake = checkout.start("--", ROLES)
    checkout.until("the job", lambda: checkout.met("assign-roles."), snakemake, PATIENCE)
    checkout.kill(snakemake)
    (left,) = checkout.submitted()["assign_roles"]
    assert [job["id"] for job in cluster.jobs("R")] == [left], "the job outlives Snakemake"
    assert checkout.run("--unlock") == 0
    return before


def test_after_a_sigkill_of_snakemake_its_jobs_are_cancelled_before_a_new_run(
    disturbed: Checkout, cluster: Cluster
) -> None:
    before = kill_with_a_job_running(disturbed, cluster, "hang")
    assert disturbed.run("--", ROLES) != 0, "a second run would write what the orphan writes"
    assert "an earlier run of this checkout still has jobs in the queue" in disturbed.output()
    assert "Traceback" not in disturbed.output()
    cancelled = disturbed.command("cancel-orphans")
    assert (cancelled.returncode, cancelled.stderr.splitlines()[-1][:16]) == (0, "1 jobs cancelled")
    assert cluster.jobs("R", "PD", "CG") == []
    assert disturbed.run("--", ROLES) == 0, disturbed.output()[-3000:]
    assert disturbed.read("roles.csv") == before


def test_after_a_sigkill_of_snakemake_its_jobs_are_awaited_and_what_they_made_is_kept(
    disturbed: Checkout, cluster: Cluster
) -> None:
    before = kill_with_a_job_running(disturbed, cluster, "slow")
    awaited = disturbed.command("await-orphans")
    assert awaited.returncode == 0 and "1 of 1 jobs completed" in awaited.stderr, awaited.stderr
    jobs = len(cluster.jobs())
    assert disturbed.run("--", ROLES) == 0, disturbed.output()[-3000:]
    assert "Nothing to be done" in disturbed.output() and len(cluster.jobs()) == jobs
    assert disturbed.read("roles.csv") == before


def test_with_accounting_sacct_tells_how_jobs_end(
    tmp_path: Path, undisturbed: Checkout, accounting_cluster: Cluster
) -> None:
    checkout = Checkout(tmp_path, accounting_cluster, account=ACCOUNT)
    checkout.take_over(undisturbed)
    shutil.rmtree(checkout.folder / "results/slurm/features")
    features = [f"features/{name}/train.safetensors" for name in ("clip", "sam")]
    checkout.fate("extract-features.clip", "hang")
    snakemake = checkout.start("--", *(f"results/slurm/{name}" for name in features))
    checkout.until("the hanging job", lambda: checkout.met("extract-features.clip"), snakemake, PATIENCE)
    (hanging,) = checkout.submitted()["extract_features clip"]
    accounting_cluster.command("scancel", hanging)
    assert checkout.ends_well(snakemake, PATIENCE), checkout.output()[-3000:]
    assert all(checkout.read(name) == undisturbed.read(name) for name in features)
    ids = ",".join(id for attempts in checkout.submitted().values() for id in attempts)
    lines = accounting_cluster.command(
        "sacct", "-X", "-n", "-P", "-j", ids, "-o", "Account,State"
    ).splitlines()
    message = Counter(line.split()[0] for line in lines)  # less who cancelled
    assert message == {f"{ACCOUNT}|COMPLETED": 2, f"{ACCOUNT}|CANCELLED": 1}, message
