"""The lines of `snakemake --logger study`."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from encoder_roles.manifest.job import MARK
from snakemake_logger_plugin_study import LogHandler, TimeLeft, in_words


def send(
    handler: LogHandler, event: LogEvent | None, level: int = logging.INFO, said: str = "", **facts: Any
) -> None:
    """One event as Snakemake sends it."""
    record = logging.LogRecord("snakemake", level, "", 0, said, None, None)
    record.__dict__.update(facts, **({"event": event} if event else {}))
    handler.emit(record)


@pytest.fixture
def handler() -> LogHandler:
    """A handler that has been told of two jobs to do, on one core."""
    made = LogHandler(SimpleNamespace(), None)  # type: ignore[arg-type]
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
    said = capsys.readouterr().err
    assert "failed: train_tune" in said and "model.safetensors: truncated" in said and str(log) in said
    assert "line 1\n" not in said and "the long command" not in said


def test_a_failed_job_does_not_show_the_record_of_who_it_was(
    handler: LogHandler, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    log = tmp_path / "job.log"
    log.write_text(MARK + '{"code": "00"}\nencoder-roles: model.safetensors: truncated\n')
    send(handler, LogEvent.JOB_ERROR, rule_name="train_tune", wildcards={}, log=[str(log)])
    said = capsys.readouterr().err
    assert "truncated" in said and MARK not in said


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
    said = capsys.readouterr().err
    assert "disk is full" in said and "Building" not in said


def test_the_time_left_follows_the_pace_of_the_run() -> None:
    left = TimeLeft(todo=Counter({"train_tune": 4, "predict_masks": 1}), cores=2)
    before = left.estimate([])
    left.finish("train_tune", 80.0)  # twice its usual 40 s: so will be what has not run yet
    assert left.estimate([]) == pytest.approx((3 * 80 + 2 * 60) / 2)
    assert before == pytest.approx((4 * 40 + 60) / 2)
    assert left.estimate([30.0]) == pytest.approx(left.estimate([]) - 15)
    assert left.estimate([1e9]) == 0


@pytest.mark.parametrize(("seconds", "words"), [(3.4, "3 s"), (100, "2 min"), (7200, "2.0 h")])
def test_durations_are_told_as_a_person_says_them(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
