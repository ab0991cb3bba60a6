"""Arrays on a real Slurm: whatever becomes of a task, its siblings are as jobs of their own would be."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from slurm_checkout import Checkout
from slurm_cluster import ACCOUNT, Cluster

from snakemake_executor_plugin_slurm_arrays import FORGET, Executor, array_script

PATIENCE = 600  # seconds; on two idle cores a run takes half a minute
CELLS = "0-1-2-3-4-5-6"
FIVE = "0-1-2-3-4"
REVIEWED = {"snakemake-executor-plugin-slurm": "2.8.0", "snakemake-executor-plugin-slurm-jobstep": "0.6.1"}


@pytest.mark.parametrize("plugin", REVIEWED)
def test_the_plugin_that_arrays_extend_is_the_one_that_was_read(plugin: str) -> None:
    assert version(plugin) == REVIEWED[plugin], (
        "read its changes before this line is. Are tasks of the Slurm plugin's own arrays whole jobs now, so "
        "that ours can go? If not: does _submit_array_jobs call run_array_jobs in a thread, run_job report "
        "as submit_array does, get_submit_command take the same facts, _status_lookup_ids know "
        "<array>_<task>, slurm/bin/sacct change the words that are asked and read? Does "
        "additional_general_args say no more than which executor a job's Snakemake has? And of the jobstep "
        "plugin: does it still do no more than start srun with these options, without what FORGET unsets?"
    )


COMMANDS = [
    "echo first",
    "echo ';;' \"*)\" '$HOME' \\\\; exit 7",
    "true && echo 'two\nlines' && false",
    "sh -c 'exit 3'",
]


@pytest.mark.parametrize("number", range(len(COMMANDS)))
def test_a_task_runs_its_own_command_and_ends_as_that_does(number: int) -> None:
    alone = subprocess.run(["sh"], input=COMMANDS[number], capture_output=True, text=True)
    task = run_task(number + 1)
    assert (task.returncode, task.stdout) == (alone.returncode, alone.stdout)


def test_a_task_without_a_command_fails() -> None:
    assert run_task(len(COMMANDS) + 1).returncode == run_task(None).returncode == 2


def run_task(number: int | None) -> subprocess.CompletedProcess[str]:
    """Run one task of an array of these commands, as Slurm does."""
    environment = {**os.environ, "SLURM_ARRAY_TASK_ID": "" if number is None else str(number)}
    script = array_script(COMMANDS)
    return subprocess.run(["sh"], input=script, env=environment, capture_output=True, text=True)


def test_a_step_forgets_what_slurm_says_of_the_job_but_not_which_job_it_is() -> None:
    kept = {"SLURM_CONF": "c", "SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", "MEM": "SLURM_MEM_PER_CPU=1"}
    forgotten = {"SLURM_MEM_PER_CPU": "1", "SLURM_JOB_ID_2": "x", "SRUN_DEBUG": "3", "SBATCH_EXCLUSIVE": "1"}
    plain = {"PATH": os.environ["PATH"], "LINES": "one\nSLURM_TWO=2"}
    for more in ({}, forgotten):
        shell = subprocess.run(["sh", "-c", f"{FORGET} && env"], env=plain | kept | more, capture_output=True)
        assert {f"{name}={value}" for name, value in kept.items()} <= set(shell.stdout.decode().splitlines())
        assert not any(f"\n{name}=" in shell.stdout.decode() for name in forgotten), more


def test_no_jobs_are_checked_before_the_executor_is_made() -> None:
    executor = object.__new__(Executor)  # Snakemake's thread begins before __post_init__
    executor.workflow = SimpleNamespace(executor_settings=SimpleNamespace())
    executor.logger = logging.getLogger("executor")

    async def check() -> list[Any]:
        return [job async for job in executor.check_active_jobs([])]

    assert asyncio.run(check()) == []


class Cells(Checkout):
    """A checkout that runs slurm_arrays.smk."""

    def begin(self, cells: str = CELLS) -> subprocess.Popen[str]:
        """Start Snakemake."""
        return self.start("--snakefile", "tests/slurm_arrays.smk", "--config", f"cells={cells}", "--", "all")

    def attempts(self, cell: str) -> list[str]:
        """The memory of every attempt of a cell's job, in order."""
        return (self.folder / "journal" / cell).read_text().split()

    def above(self, cell: str) -> str:
        """The command lines above a cell's job, its own first, and the variables of Slurm that it has."""
        return (self.folder / "above" / cell).read_text()

    def made(self) -> set[str]:
        """The cells that there are."""
        return {path.name for path in (self.folder / "cells").glob("*")}

    def ids(self, cell: str) -> list[str]:
        """The Slurm ids of a cell's attempts."""
        return self.submitted().get(f"make_cell {cell}", [])

    def under_way(self) -> list[str]:
        """The ids of those jobs of this checkout that wait or run."""
        everybodys = self.cluster.command("squeue", "-h", "-r", "-o", "%i %Z").splitlines()
        return [line.split()[0] for line in everybodys if line.split()[1] == str(self.folder)]

    def sbatch(self, before: str) -> None:
        """An sbatch that does something before it is one."""
        path = self.folder / "bin/sbatch"
        path.write_text(f'#!/bin/sh\n{before}\nexec /usr/bin/sbatch "$@"\n')
        path.chmod(0o755)


@pytest.fixture(params=["squeue", "sacct"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Cells:
    """A checkout on a cluster with accounting, and one on a cluster without."""
    if request.param == "squeue":
        return Cells(tmp_path, request.getfixturevalue("cluster"))
    return Cells(tmp_path, request.getfixturevalue("accounting_cluster"), account=ACCOUNT)


@pytest.fixture
def cells(tmp_path: Path, cluster: Cluster) -> Cells:
    """A checkout on a cluster without accounting."""
    return Cells(tmp_path, cluster)


@pytest.mark.slurm
def test_tasks_that_fail_are_run_again_alone_and_their_siblings_are_left_as_they_are(either: Cells) -> None:
    either.fate("1", "fail")  # when 0, 3 and 4 have ended
    either.fate("2", "hang")
    snakemake = either.begin()
    either.until("the retry", lambda: len(either.ids("1")) == 2, snakemake, PATIENCE)
    either.cluster.command("scancel", either.ids("2")[0])
    assert either.ends_well(snakemake, PATIENCE), either.output()[-3000:]

    ids = {cell: either.ids(cell) for cell in CELLS.split("-")}
    arrays = {cell: attempts[0].split("_")[0] for cell, attempts in ids.items()}
    assert sorted(Counter(arrays.values()).values()) == [2, 5], "one array for each request"
    assert arrays["5"] == arrays["6"] != arrays["0"]
    wanted = {cell: ["1000"] for cell in "034"} | {cell: ["1200"] for cell in "56"}
    wanted |= {cell: ["1000", "2000"] for cell in "12"}
    assert {cell: either.attempts(cell) for cell in wanted} == wanted
    assert "_" not in ids["1"][1] + ids["2"][1], "a job that is ready alone is no array"
    for cell in "01":  # a task, and a job alone
        assert either.above(cell).count("-m snakemake") == 1, either.above(cell)
        assert "SLURM_STEP_ID=0" in either.above(cell), "in a step, which Slurm measures and warns"
    states = {job["id"]: job["state"] for job in either.cluster.jobs()}
    assert [[states[id] for id in ids[cell]] for cell in "120"] == [
        ["FAILED", "COMPLETED"],
        ["CANCELLED", "COMPLETED"],
        ["COMPLETED"],
    ]
    kept = {path.stem for path in (either.folder / ".snakemake/slurm_logs").rglob("*.log")}
    assert kept == {ids["1"][0], ids["2"][0]}, "the logs of the attempts that failed"
    assert either.ends_well(either.begin(), PATIENCE) and "Nothing to be done" in either.output()


@pytest.mark.slurm
def test_a_job_whose_data_are_at_fault_is_not_run_again_in_an_array_or_alone(cells: Cells) -> None:
    for cell in ("1", "5"):  # 5 asks for another memory: a job by itself
        cells.fate(cell, "bad_data")
    assert not cells.ends_well(cells.begin("0-1-2-5"), PATIENCE)
    assert {cell: len(cells.ids(cell)) for cell in "0125"} == {"0": 1, "1": 1, "2": 1, "5": 1}
    assert "_" in cells.ids("1")[0] and "_" not in cells.ids("5")[0]
    assert cells.output().count("Its data are at fault, so it is not run again") == 2
    assert cells.made() == {"0", "2"}


@pytest.fixture
def orphans(cells: Cells, request: pytest.FixtureRequest) -> Cells:
    """A checkout whose Snakemake was killed when the first of an array's five tasks met its fate."""
    for cell in FIVE.split("-"):
        cells.fate(cell, request.param)
    snakemake = cells.begin(FIVE)
    cells.until("the first task", lambda: any(map(cells.met, FIVE.split("-"))), snakemake, PATIENCE)
    cells.kill(snakemake)
    left = cells.under_way()
    assert len(left) == 5 and all("_" in id for id in left), "four processors: one task waits"
    return cells


@pytest.mark.slurm
@pytest.mark.parametrize("orphans", ["slow"], indirect=True)
def test_after_a_sigkill_of_snakemake_its_arrays_are_awaited_and_what_they_made_is_kept(
    orphans: Cells,
) -> None:
    awaited = orphans.command("await-orphans")
    assert awaited.returncode == 0 and "5 of 5 jobs completed" in awaited.stderr, awaited.stderr
    snakefile = ("--snakefile", "tests/slurm_arrays.smk")
    assert orphans.run(*snakefile, "--config", f"cells={FIVE}", "--unlock") == 0
    assert orphans.ends_well(orphans.begin(FIVE), PATIENCE) and "Nothing to be done" in orphans.output()


@pytest.mark.slurm
@pytest.mark.parametrize("orphans", ["hang"], indirect=True)
def test_after_a_sigkill_of_snakemake_its_arrays_are_cancelled(orphans: Cells) -> None:
    cancelled = orphans.command("cancel-orphans")
    assert cancelled.returncode == 0 and "5 jobs cancelled" in cancelled.stderr, cancelled.stderr
    assert orphans.under_way() == [] and orphans.made() == set()


@pytest.mark.slurm
def test_an_interrupt_cancels_the_array_whose_submission_is_under_way_too(cells: Cells) -> None:
    cells.sbatch("touch submitting; sleep 3")
    snakemake = cells.begin("0-1-2")
    cells.until("a submission", (cells.folder / "submitting").exists, snakemake, PATIENCE)
    snakemake.send_signal(signal.SIGINT)
    assert snakemake.wait(PATIENCE) != 0
    ids = [cells.ids(cell)[0] for cell in "012"]
    assert all("_" in id for id in ids), "the submission was waited for"
    until = time.monotonic() + 60
    while cells.under_way() and time.monotonic() < until:
        time.sleep(0.5)
    array = ids[0].split("_")[0]
    states = {job["state"] for job in cells.cluster.jobs() if job["id"].split("_")[0] == array}
    assert states == {"CANCELLED"}
    assert cells.under_way() == [] and cells.made() == set()


@pytest.mark.slurm
@pytest.mark.parametrize(
    ("either", "what"), [("squeue", "the array"), ("sacct", "its tasks")], indirect=["either"]
)
def test_tasks_that_are_cancelled_before_they_begin_are_run_again(either: Cells, what: str) -> None:
    account = [f"--account={ACCOUNT}"] if either.cluster.accounting else []
    sbatch = ["sbatch", "--parsable", "--exclusive", *account, "--output=/dev/null", "--wrap=sleep 600"]
    blocker = either.cluster.command(*sbatch).strip()
    try:
        snakemake = either.begin("0-3-4")
        either.until("the submission", lambda: all(map(either.ids, "034")), snakemake, PATIENCE)
        ids = [either.ids(cell)[0] for cell in "034"]
        either.cluster.command("scancel", *(ids[:2] if what == "its tasks" else [ids[0].split("_")[0]]))
    finally:
        either.cluster.command("scancel", blocker)
    assert either.ends_well(snakemake, PATIENCE), either.output()[-3000:]
    assert either.attempts("0") == either.attempts("3") == ["2000"], "the first never began"
    assert either.attempts("4") == (["1000"] if what == "its tasks" else ["2000"])


@pytest.mark.slurm
def test_jobs_are_not_forgotten_when_slurm_does_not_answer(cells: Cells) -> None:
    squeue = cells.folder / "bin/squeue"
    times = "echo >> calls; wc -l < calls"
    squeue.write_text(f'#!/bin/sh\n[ $({times}) -lt 15 ] && exit 1\nexec /usr/bin/squeue "$@"\n')
    squeue.chmod(0o755)
    assert cells.ends_well(cells.begin("0-3"), 300), cells.output()[-3000:]
    assert cells.made() == {"0", "3"} and cells.attempts("0") == cells.attempts("3") == ["1000"]


@pytest.mark.slurm
def test_jobs_of_an_array_that_sbatch_refuses_are_submitted_again(cells: Cells) -> None:
    cells.sbatch("mkdir refused 2> /dev/null && echo 'sbatch: error: try later' >&2 && exit 1")
    assert cells.ends_well(cells.begin("0-3"), PATIENCE), cells.output()[-3000:]
    assert cells.output().count("not submitted: sbatch: error: try later") == 2, cells.output()[-3000:]
    assert cells.made() == {"0", "3"} and cells.attempts("0") == ["2000"]


@pytest.mark.slurm
def test_a_node_that_slurm_sets_aside_takes_the_jobs_of_the_next_test(cluster: Cluster) -> None:
    cluster.command("scontrol", "update", "nodename=localhost", "state=drain", "reason=Kill task failed")
    (lost,) = cluster.set_aside()
    assert lost == "localhost drained Kill task failed" and lost in cluster.explain()
    assert cluster.take_back() == [lost]
    assert cluster.set_aside() == cluster.take_back() == []
    assert cluster.command("srun", "--mem=10", "echo", "taken").strip() == "taken"
