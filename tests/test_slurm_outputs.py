"""What sites print beside the rows of Slurm's tables: federations, banners, warnings, empty lines."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import snakemake_executor_plugin_slurm as plugin
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from snakemake_executor_plugin_slurm import accounts
from snakemake_interface_common.exceptions import WorkflowError

from encoder_roles.cluster import slurm
from encoder_roles.cluster.slurm import QueuedJob, ask, final_states, partition_minutes, queued_jobs
from encoder_roles.study.names import StudyError

import snakemake_executor_plugin_slurm_arrays  # isort: skip  # noqa: F401 - it replaces the plugin's readers

QUICK = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LONG = settings(QUICK, max_examples=20_000)
OTHER_LINES = [
    "CLUSTER: alpha",
    "",
    "   ",
    "*** Maintenance on Monday | see the wiki ***",
    "|",
    "sinfo: warning: x",
]
Says = Callable[[str], None]


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Says:
    """Make every command of Slurm's print this."""

    def say(text: str) -> None:
        monkeypatch.setattr(slurm, "ask", lambda *command: text)

    return say


@pytest.mark.parametrize("line", OTHER_LINES)
def test_a_line_that_is_no_row_is_passed_over_wherever_it_stands(says: Says, line: str) -> None:
    says(f"{line}\ncpu*|1-00:00:00\n{line}\ngpu|infinite\n{line}\n")
    assert partition_minutes() == {"cpu": 1440, "": 1440, "gpu": float("inf")}
    says(f"{line}\n12_3|run_1|RUNNING|rule_x|y\n{line}\n13|other|RUNNING|rule_x\n")
    assert queued_jobs("run") == [QueuedJob("12_3", "run_1", "RUNNING", "rule_x|y")]
    job = QueuedJob("12_3", "run_1", "RUNNING", "")
    says(f"{line}\n12_3|CANCELLED by 0\n{line}\n12_3.batch|\n")
    assert final_states([job]) == {"12_3": "CANCELLED"}


def test_what_a_site_says_on_stderr_or_in_another_encoding_is_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "sinfo"
    command.write_bytes(
        b"#!/bin/sh\necho 'sinfo: error: plugin' >&2\necho 'Gr\xfc\xdfe vom Cluster'\necho 'cpu*|30:00'\n"
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert partition_minutes() == {"cpu": 30, "": 30}


def test_a_command_that_may_not_be_run_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sinfo").write_text("no program")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StudyError, match="sinfo: cannot be run"):
        ask("sinfo")


WORDS = st.sampled_from(
    ["cpu*", "12_3", "run_1", "|", "1-00:00:00", "infinite", "\n", " ", ":", "-", "CLUSTER: x", "="]
)
OUTPUTS = st.lists(st.one_of(WORDS, st.text(max_size=4)), max_size=20).map("".join)


def check_output(says: Says, text: str) -> None:
    """Whatever Slurm prints, the parsers give rows, and a row among it is read."""
    says(text)
    final_states([QueuedJob("12_3", "run_1", "RUNNING", "")])
    slurm.configuration()
    says(f"{text}\nnight|2:30:00\n")
    assert partition_minutes()["night"] == 150
    says(f"{text}\n99|run_1|PENDING|rule\n")
    assert "99" in {job.id for job in queued_jobs("run")}


@QUICK
@given(OUTPUTS)
def test_whatever_slurm_prints_is_rows_or_passed_over(says: Says, text: str) -> None:
    check_output(says, text)


@pytest.mark.fuzz
@LONG
@given(OUTPUTS)
def test_whatever_slurm_prints_in_a_long_run(says: Says, text: str) -> None:
    check_output(says, text)


BANNER = b'"Gr\xfc\xdfe, node 17 | drain\nCLUSTER: alpha\n\n'  # Latin-1, an open quote, a number, a bar


def test_the_plugin_reads_states_and_ids_among_a_sites_other_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "squeue"
    (tmp_path / "printed").write_bytes(BANNER + b"12_3|RUNNING\n13|CANCELLED by 0\n" + BANNER)
    command.write_text(f"#!/bin/sh\ncat '{tmp_path}/printed'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    logger = logging.getLogger("executor")
    states, seconds = asyncio.run(plugin.query_job_status("squeue --format='%i|%T'", logger))
    assert states == {"12_3": "RUNNING", "13": "CANCELLED by 0"} and seconds > 0
    command.write_text("#!/bin/sh\nexit 1\n")
    assert asyncio.run(plugin.query_job_status("squeue", logger)) == (None, None)


@pytest.mark.parametrize("line", ["4711", "4711;alpha", " 4711 "])
def test_the_id_of_a_submitted_job_is_the_line_that_is_one(line: str) -> None:
    printed = f"sbatch: 3 of 5 nodes are idle\nproject 17 has 200 hours\n{line}\n"
    assert plugin.validate_or_get_slurm_job_id(printed.strip().split(";")[0], printed) == "4711"


def test_sbatch_output_without_an_id_is_an_error() -> None:
    with pytest.raises(WorkflowError):
        plugin.validate_or_get_slurm_job_id("hello", "hello\n")


def test_the_plugin_reads_a_banner_that_is_not_utf_8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sacctmgr").write_bytes(b"#!/bin/sh\nprintf 'W\xe4rme im Rechnerraum\nvision\n'\n")
    (tmp_path / "sacctmgr").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert accounts.validate_account("vision", logging.getLogger("executor")) == "vision"
    submitted = plugin.subprocess.Popen(["sacctmgr"], text=True, stdout=subprocess.PIPE)
    assert submitted.communicate()[0].split()[-1] == "vision"
    assert b"W\xe4rme" in plugin.subprocess.check_output(["sacctmgr"]), "bytes stay bytes"
