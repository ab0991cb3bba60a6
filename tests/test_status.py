"""`encoder-roles status` says of a run what its events, logs and timings say."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from encoder_roles.planning.status import BARS, describe, run_state, sparkline, status
from encoder_roles.study.names import StudyError
from snakemake_logger_plugin_study import LogHandler
from snakemake_logger_plugin_study.events import RUNS, read_events

RULES = {"make_world": 1, "train_tune": 3}


@pytest.fixture
def handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LogHandler:
    """The logger of a run with four jobs, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    made = LogHandler(SimpleNamespace(dryrun=False), None)  # type: ignore[arg-type]
    send(made, LogEvent.RESOURCES_INFO, cores=2)
    send(made, LogEvent.RUN_INFO, stats={**RULES, "total": 4})
    return made


def send(handler: LogHandler, event: LogEvent, **facts: Any) -> None:
    """One event as Snakemake sends it."""
    record = logging.LogRecord("snakemake", logging.INFO, "", 0, "", None, None)
    record.__dict__.update(facts, event=event)
    handler.emit(record)


def start(handler: LogHandler, job: int, rule: str, log: str = "", **wildcards: str) -> Path:
    path = Path(f"results/own/logs/{rule}/{job}.log")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(log)
    send(handler, LogEvent.JOB_INFO, jobid=job, rule_name=rule, wildcards=wildcards, log=[path], output=[])
    return path


def report() -> str:
    *_, last = read_events("own")
    return "\n".join(describe("own", run_state(read_events("own"), "own"), last["time"] + 10))


def row(text: str, rule: str) -> list[str]:
    """The cells of a stage: done, running, waiting, failed."""
    (line,) = [line for line in text.splitlines() if line.split()[:1] == [rule] and len(line.split()) == 6]
    return line.split()[1:5]


def test_every_job_is_done_running_waiting_or_failed(handler: LogHandler) -> None:
    start(handler, 1, "make_world")
    send(handler, LogEvent.JOB_FINISHED, job_id=1)
    start(handler, 2, "train_tune", subset="clip", seed="0")
    log = start(handler, 3, "train_tune", "made by {}\nencoder-roles: out of room\n", subset="sam", seed="0")
    send(handler, LogEvent.JOB_ERROR, jobid=3, rule_name="train_tune", log=[log])
    text = report()
    assert row(text, "make_world") == ["1", "0", "0", "0"]
    assert row(text, "train_tune") == ["0", "1", "1", "1"]
    assert "1 of 4 jobs done" in text and "left, until about" in text
    assert "train_tune clip 0: 10 s" in text
    assert text.index("failed\n  train_tune sam 0\n    encoder-roles: out of room") > 0


def test_a_submitted_job_waits_until_its_log_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    handler = LogHandler(SimpleNamespace(dryrun=False), None)  # type: ignore[arg-type]
    send(handler, LogEvent.RESOURCES_INFO, nodes=500)
    send(handler, LogEvent.RUN_INFO, stats={**RULES, "total": 4})
    start(handler, 1, "train_tune", subset="clip", seed="0")
    start(handler, 2, "train_tune", subset="sam", seed="0").unlink()
    earlier = start(handler, 3, "train_tune", subset="dinov2", seed="0")
    os.utime(earlier, (1, 1))  # of an earlier run
    assert row(report(), "train_tune") == ["0", "1", "2", "0"]


def test_a_failed_job_is_named_with_its_subset_though_snakemake_s_error_has_none(
    handler: LogHandler, capsys: pytest.CaptureFixture[str]
) -> None:
    log = start(handler, 3, "train_tune", subset="sam", seed="0")
    send(handler, LogEvent.JOB_ERROR, jobid=3, rule_name="train_tune", log=[log])
    assert "failed: train_tune sam 0" in capsys.readouterr().err


def test_a_retried_job_counts_once(handler: LogHandler) -> None:
    for _ in range(2):
        log = start(handler, 3, "train_tune", subset="sam", seed="0")
        send(handler, LogEvent.JOB_ERROR, jobid=3, rule_name="train_tune", log=[log])
    start(handler, 3, "train_tune", subset="sam", seed="0")
    send(handler, LogEvent.JOB_FINISHED, job_id=3)
    assert row(report(), "train_tune") == ["1", "0", "2", "0"]


def test_a_run_that_is_gone_has_stopped_and_its_jobs_wait(handler: LogHandler) -> None:
    start(handler, 1, "make_world")
    file = RUNS / "own.jsonl"
    first, *others = file.read_text().splitlines()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    changed = json.dumps(json.loads(first) | {"pid": gone.pid})
    file.write_text("\n".join([changed, *others, '{"time": 1.0, "ev']))  # a kill cut the last line off
    text = report()
    assert "stopped with 0 of 4 jobs done; the same command goes on" in text
    assert row(text, "make_world") == ["0", "0", "1", "0"]


def test_a_finished_run_says_so_and_shows_the_losses_of_its_trainings(handler: LogHandler) -> None:
    for job, (rule, wildcards) in enumerate(
        [("make_world", {}), *(("train_tune", {"subset": name, "seed": "0"}) for name in ("a", "b", "c"))]
    ):
        start(handler, job, rule, **wildcards)
        send(handler, LogEvent.JOB_FINISHED, job_id=job)
    folder = Path("results/own/models/b/seed0/tune")
    folder.mkdir(parents=True)
    folder.joinpath("log.jsonl").write_text("".join(f'{{"loss": {loss}}}\n' for loss in (2, 1.5, 1)))
    text = report()
    assert text.startswith("own: all 4 jobs of the last run are done")
    (line,) = [line for line in text.split("\nloss\n")[1].splitlines() if "train_tune b 0" in line]
    assert line.split()[-2:] == ["█▅▁", "1.000"]


def test_hours_are_those_of_all_finished_jobs_beside_the_plan_s(handler: LogHandler) -> None:
    start(handler, 1, "make_world")
    for name, seconds in (("train_tune/a", 3600), ("train_tune/b", 1800), ("make_world", 1800)):
        file = Path(f"results/own/timings/{name}.tsv")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"s\th:m:s\n{seconds}.0\t-\n")
    Path("results/own/plan.csv").write_text("rule,devices,device_hours\ntrain_tune,8,20\nmake_world,1,0\n")
    text = report()
    assert "2.00 hours of 3 jobs" in text and "12.0 of 20.0 planned device hours spent" in text


def test_a_dry_run_leaves_the_last_run_s_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dry = LogHandler(SimpleNamespace(dryrun=True), None)  # type: ignore[arg-type]
    send(dry, LogEvent.RUN_INFO, stats={**RULES, "total": 4})
    start(dry, 1, "make_world")
    assert not RUNS.exists()


def test_a_study_that_never_ran_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Path(__file__).parents[1] / "config.yaml"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError, match="no run of the study 'laptop' here yet"):
        status(configs=(config,))


def test_a_sparkline_goes_from_the_lowest_to_the_highest_bar() -> None:
    assert sparkline(list(range(8))) == BARS
    assert sparkline([3.0, 3.0]) == BARS[0] * 2
    assert len(sparkline(list(range(1000)))) == 24
    assert Counter(sparkline([0.0] * 500 + [1.0] * 500)) == {BARS[0]: 12, BARS[-1]: 12}
