"""The lines of `snakemake --logger study`."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from encoder_roles.manifest.job import MARK
from snakemake_logger_plugin_study import (
    EVIDENCE,
    INTERRUPTED,
    NOTIFY_VARIABLE,
    OVERDUE,
    SPREAD,
    LogHandler,
    TimeLeft,
    in_words,
    usual,
)

TUNE = usual("train_tune")  # seconds


def send(
    handler: LogHandler, event: LogEvent | None, level: int = logging.INFO, lines: str = "", **facts: Any
) -> None:
    """One event as Snakemake sends it."""
    record = logging.LogRecord("snakemake", level, "", 0, lines, None, None)
    record.__dict__.update(facts, **({"event": event} if event else {}))
    handler.emit(record)


@pytest.fixture
def handler() -> LogHandler:
    """A handler that has been told of two jobs to do, on one core."""
    made = LogHandler(SimpleNamespace(dryrun=False), None)  # type: ignore[arg-type]
    send(made, LogEvent.RESOURCES_INFO, cores=1)
    send(made, LogEvent.RUN_INFO, stats={"train_tune": 1, "draw_figure": 1, "total": 2})
    return made


def test_a_finished_job_is_a_line_with_what_it_was_and_the_time_left(
    handler: LogHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    send(
        handler,
        LogEvent.JOB_INFO,
        jobid=7,
        rule_name="train_tune",
        wildcards={"subset": "clip+sam", "seed": "0"},
    )
    send(handler, LogEvent.JOB_FINISHED, job_id=7)
    send(handler, LogEvent.JOB_INFO, jobid=8, rule_name="draw_figure", wildcards={"figure": "chains"})
    send(handler, LogEvent.JOB_FINISHED, job_id=8)
    first, last = capsys.readouterr().err.splitlines()
    assert first.split()[:4] == ["1/2", "train_tune", "clip+sam", "0"] and first.endswith(" left")
    assert last.split()[:3] == ["2/2", "draw_figure", "chains"] and "all done in" in last


def test_a_failed_job_shows_the_end_of_its_log(
    handler: LogHandler, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = tmp_path / "job.log"
    log.write_text(
        "\n".join(f"line {n}" for n in range(100)) + "\nencoder-roles: model.safetensors: truncated\n"
    )
    send(handler, LogEvent.ERROR, logging.ERROR, "the long command", exception="RuleException")
    send(
        handler, LogEvent.JOB_ERROR, rule_name="train_tune", wildcards={}, log=[f"{log} (check log file(s))"]
    )
    output = capsys.readouterr().err
    assert "failed: train_tune" in output and "model.safetensors: truncated" in output and str(log) in output
    assert "line 1\n" not in output and "the long command" not in output


def test_a_failed_job_does_not_show_the_record_of_who_it_was(
    handler: LogHandler, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = tmp_path / "job.log"
    log.write_text(MARK + '{"code": "00"}\nencoder-roles: model.safetensors: truncated\n')
    send(handler, LogEvent.JOB_ERROR, rule_name="train_tune", wildcards={}, log=[str(log)])
    output = capsys.readouterr().err
    assert "truncated" in output and MARK not in output


def test_a_failed_job_without_a_log_shows_its_command(
    handler: LogHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    send(handler, LogEvent.ERROR, logging.ERROR, "Command 'x' was killed", exception="RuleException")
    send(handler, LogEvent.JOB_ERROR, rule_name="train_tune", wildcards={}, log=[])
    assert "Command 'x' was killed" in capsys.readouterr().err


def test_warnings_are_shown_and_chatter_is_not(
    handler: LogHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    send(handler, None, logging.WARNING, "disk is full")
    send(handler, None, logging.INFO, "Building DAG of jobs...")
    output = capsys.readouterr().err
    assert "disk is full" in output and "Building" not in output


def test_the_time_left_follows_the_pace_of_the_run() -> None:
    left = TimeLeft(todo=Counter({"train_tune": 4, "predict_masks": 1}), cores=2)
    before = left.estimate([])
    left.finish("train_tune", 2 * TUNE)  # the more jobs take twice their usual time, the surer will others
    pace = (2 * TUNE + EVIDENCE) / (TUNE + EVIDENCE)
    masks = usual("predict_masks")
    assert 1 < pace < 2 and left.estimate([]) == pytest.approx((3 * 2 * TUNE + pace * masks) / 2)
    assert before == pytest.approx((4 * TUNE + masks) / 2)
    assert left.estimate([("train_tune", 30.0)]) == pytest.approx(left.estimate([]) - 15)


def test_a_job_that_is_overdue_still_has_something_left() -> None:
    left = TimeLeft(todo=Counter({"train_tune": 2}), cores=8)
    assert left.estimate([]) == pytest.approx(TUNE)  # two jobs use two cores
    assert left.estimate([("train_tune", 1e6), ("train_tune", 1e6)]) == pytest.approx(OVERDUE * TUNE)


@pytest.mark.parametrize("pace", [0.5, 1.0, 2.5])
def test_the_time_left_does_not_swing(pace: float) -> None:
    """Settings take ten times their usual moment, each other job 0.5 to 1.5 times what it would:
    the truth is in the range, and near the number after it."""
    jobs = ["write_settings"] * 12 + ["stage_encoder"] * 5 + ["make_world", "write_requests"]
    jobs += ["extract_features"] * 5 + ["train_align"] * 31 + ["train_tune", "predict_subset"] * 32
    jobs += ["predict_masks"] * 2 + ["score_predictions", "assign_roles"] + ["draw_chains"] * 26
    random = np.random.default_rng(0)
    seconds = [
        1.0 if job == "write_settings" else pace * usual(job) * random.uniform(0.5, 1.5) for job in jobs
    ]
    left = TimeLeft(todo=Counter(jobs), cores=1)
    for place, (job, spent) in enumerate(zip(jobs[:-30], seconds, strict=False), start=1):
        left.finish(job, spent)
        ratio = left.estimate([]) / sum(seconds[place:])
        assert 1 / SPREAD < ratio < SPREAD, f"after {place} jobs"
        if " to " not in left.in_words([]):
            assert 0.6 < ratio < 1.6, f"after {place} jobs"


@pytest.mark.parametrize(("seconds", "words"), [(3.4, "3 s"), (100, "2 min"), (7200, "2.0 h")])
def test_durations_are_told_as_a_person_says_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


# --- an interrupt, and a command of the user's ---


def test_an_interrupted_run_says_once_that_the_same_command_goes_on(handler: LogHandler, capsys) -> None:
    send(handler, LogEvent.JOB_INFO, jobid=7, rule_name="train_tune", wildcards={"subset": "clip"})
    capsys.readouterr()
    for message in INTERRUPTED:
        send(handler, None, logging.WARNING, message)
    send(handler, LogEvent.JOB_ERROR, jobid=7, rule_name="train_tune", wildcards={}, log=[])
    send(handler, LogEvent.ERROR, logging.ERROR, "Command was killed", exception="RuleException")
    assert capsys.readouterr().err == "stopped; the same command goes on\n"


def test_the_users_command_runs_at_the_first_failure_and_at_the_end(
    handler: LogHandler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NOTIFY_VARIABLE, f"printf '%s\\n' >> {tmp_path}/notes.txt")
    for job in (7, 8):
        send(handler, LogEvent.JOB_INFO, jobid=job, rule_name="train_tune", wildcards={"subset": "it's"})
        send(handler, LogEvent.JOB_ERROR, jobid=job, rule_name="train_tune", wildcards={}, log=[])
    handler.close()
    handler.close()
    output = (tmp_path / "notes.txt").read_text().splitlines()
    assert output == ["encoder-roles: failed: train_tune it's", "encoder-roles: ended: 0 of 2 jobs in 0 s"]


def test_a_command_of_the_users_that_fails_is_only_reported(
    handler: LogHandler, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv(NOTIFY_VARIABLE, "false")
    handler.close()
    assert f"{NOTIFY_VARIABLE}: Command" in capsys.readouterr().err
