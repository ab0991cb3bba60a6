"""Jobs whose Snakemake is gone, with fake commands; test_slurm_runs.py kills a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from encoder_roles.cluster import orphans
from encoder_roles.cluster.slurm import run_prefix
from encoder_roles.study.names import StudyError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, and a folder for fake commands of Slurm's; each fake notes how it was called."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(orphans, "LOOK_EVERY", 0.01)
    return tmp_path


def fake(place: Path, name: str, script: str) -> None:
    (place / "bin" / name).write_text(f'#!/bin/sh\necho "$@" >> {place}/{name}.called\n{script}\n')
    (place / "bin" / name).chmod(0o755)


def queue(place: Path, *jobs: str) -> str:
    """A script that prints the queue once, and after that an empty one."""
    lines = "\\n".join(f"{job}|{run_prefix(place)}_ab|RUNNING|rule_x" for job in jobs)
    return f"[ -e {place}/listed ] || printf '{lines}\\n13|other_ab|RUNNING|rule_y\\n'; touch {place}/listed"


def test_only_the_jobs_of_this_checkout_are_cancelled(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(place, "squeue", queue(place, "11_1", "12"))
    fake(place, "scancel", "")
    orphans.cancel_orphans()
    assert (place / "scancel.called").read_text().split() == ["11_1", "12"]
    assert "2 jobs cancelled" in capsys.readouterr().err


def test_without_orphans_nothing_is_cancelled(place: Path) -> None:
    fake(place, "squeue", "")
    fake(place, "scancel", "")
    orphans.cancel_orphans()
    assert not (place / "scancel.called").exists()


def test_a_job_that_does_not_end_is_an_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(place, "squeue", f"echo '12|{run_prefix(place)}_ab|COMPLETING|rule_x'")
    fake(place, "scancel", "")
    monkeypatch.setattr(orphans, "ENDS_WITHIN", 0.05)
    with pytest.raises(StudyError, match="jobs 12: cancelled, but still running"):
        orphans.cancel_orphans()


def test_jobs_are_awaited_and_how_they_ended_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended, waiting = "echo '11|COMPLETED'; echo '12|CANCELLED'", queue(place, "11", "12")
    fake(place, "squeue", f'case "$*" in *all*) {ended};; *) {waiting};; esac')
    fake(place, "scontrol", "echo 'AccountingStorageType = accounting_storage/none'")
    orphans.await_orphans()
    assert "2 jobs are waiting or running\n1 of 2 jobs completed" in capsys.readouterr().err


def test_with_accounting_the_ends_are_asked_of_sacct(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fake(place, "squeue", queue(place, "11_2", "11_3"))
    fake(place, "sacct", "echo '11_2|COMPLETED'; echo '11_3|CANCELLED by 0'")
    fake(place, "scontrol", "echo 'AccountingStorageType = accounting_storage/slurmdbd'")
    orphans.await_orphans()
    assert "1 of 2 jobs completed" in capsys.readouterr().err
