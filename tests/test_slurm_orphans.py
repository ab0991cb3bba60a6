"""Jobs whose Snakemake is gone, with fake commands; test_slurm_runs.py kills a real one."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from encoder_roles.cluster import orphans
from encoder_roles.cluster.slurm import run_prefix
from encoder_roles.study import StudyError

LONGEST = 254  # of a name: what Snakemake splits a marker's at


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


def mark(output: str, job: str) -> Path:
    """The marker of an output under way, named as Snakemake names it."""
    name = base64.urlsafe_b64encode(output.encode()).decode()
    parts = [name[i : i + LONGEST] for i in range(0, len(name), LONGEST)]
    marker = orphans.MARKERS.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.write_text(json.dumps({"external_jobid": job}))
    return marker


def queue(place: Path, *jobs: str) -> str:
    """A script that prints the queue once, and after that an empty one."""
    lines = "\\n".join(f"{job}|{run_prefix(place)}_ab|RUNNING|rule_x" for job in jobs)
    return f"[ -e {place}/asked ] || printf '{lines}\\n13|other_ab|RUNNING|rule_y\\n'; touch {place}/asked"


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
    orphans.cancel_orphans()  # there is no scancel to call


def test_a_job_that_does_not_end_is_an_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(place, "squeue", f"echo '12|{run_prefix(place)}_ab|COMPLETING|rule_x'")
    fake(place, "scancel", "")
    monkeypatch.setattr(orphans, "ENDS_WITHIN", 0.05)
    with pytest.raises(StudyError, match="jobs 12: cancelled, and still not ended"):
        orphans.cancel_orphans()


def test_what_a_job_that_ended_well_made_is_kept_and_nothing_else(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "results/" + "/".join(["folder"] * 60) + "/weights"
    for name in ("whole", "cut", long):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text("made")
    kept = [mark("whole", "11"), mark(long, "11")]
    left = [mark("cut", "12"), mark("never made", "11"), mark("of another run", "5")]
    ended, waiting = "echo '11|COMPLETED'; echo '12|CANCELLED'", queue(place, "11", "12")
    fake(place, "squeue", f'case "$*" in *all*) {ended};; *) {waiting};; esac')
    fake(place, "scontrol", "echo 'AccountingStorageType = accounting_storage/none'")
    orphans.await_orphans()
    assert not any(marker.exists() for marker in kept) and all(marker.exists() for marker in left)
    assert "1 of 2 jobs ended well: 2 outputs kept" in capsys.readouterr().err


def test_with_accounting_the_ends_are_asked_of_sacct(place: Path) -> None:
    (place / "whole").write_text("made")
    marker = mark("whole", "11_2")
    fake(place, "squeue", queue(place, "11_2"))
    fake(place, "sacct", "echo '11_2|COMPLETED'; echo '11_3|CANCELLED by 0'")
    fake(place, "scontrol", "echo 'AccountingStorageType = accounting_storage/slurmdbd'")
    orphans.await_orphans()
    assert not marker.exists()
