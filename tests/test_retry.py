"""A job of Slurm whose data are at fault says that it need not be run again; no other does."""

from __future__ import annotations

from pathlib import Path

import pytest

import encoder_roles.data.frame_pictures
from encoder_roles import cli
from encoder_roles.manifest.retry import MARK, renounce, renounced
from encoder_roles.study.names import DataError, StudyError

JOB = {"SLURM_JOB_ID": "12"}
TASK = {"SLURM_JOB_ID": "13", "SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "1"}


def wrapped(error: Exception) -> StudyError:
    """An error as it is passed on with a line's number before it."""
    try:
        raise StudyError("line 3: x") from error
    except StudyError as outer:
        return outer


def test_only_a_slurm_job_that_met_bad_data_renounces_a_retry() -> None:
    assert renounce(DataError("x"), JOB) == MARK + "12"
    assert renounce(wrapped(DataError("x")), TASK) == MARK + "12_1"
    assert renounce(StudyError("x"), JOB) is None
    assert renounce(wrapped(OSError("stale file handle")), JOB) is None
    assert renounce(DataError("x"), {}) is None


def test_a_log_of_an_earlier_job_or_none_does_not_count(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert not renounced("12", [log])
    log.write_text(f"progress\n{MARK}123\nencoder-roles x: fault\n")
    assert not renounced("12", [log]) and renounced("123", [tmp_path / "none", log])
    log.write_text(100_000 * "p" + f"\n{MARK}12_1\nlast\n")
    assert renounced("12_1", [log]) and not renounced("12", [log])


@pytest.mark.parametrize("fault", [DataError("a.png: damaged"), StudyError("no network")])
def test_a_command_writes_the_line_before_its_message(
    fault: StudyError, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(**_: object) -> None:
        raise fault

    monkeypatch.setattr(encoder_roles.data.frame_pictures, "frame_pictures", command)
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    with pytest.raises(SystemExit, match=f"^encoder-roles frame-pictures: {fault}$"):
        cli.run("frame-pictures", ["--encoders", "clip", "--output", "framed"])
    assert capsys.readouterr().err == (f"{MARK}12\n" if isinstance(fault, DataError) else "")
