"""`encoder-roles paper`, which `make paper` calls: Snakemake's calls, its exit code and its signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from encoder_roles.cli import main
from encoder_roles.paper import run as paper

ROOT = Path(__file__).resolve().parent.parent
TIDY = """
import pathlib, signal, sys, time
def tidy(number, frame):
    time.sleep(0.5)  # longer than subprocess.run would wait
    pathlib.Path("tidied").write_text(str(number))
    sys.exit(3)
signal.signal(signal.SIGINT, tidy)
signal.signal(signal.SIGTERM, tidy)
pathlib.Path("ready").touch()
time.sleep(30)
"""


def test_what_is_lost_is_repaired_the_study_is_run_then_its_report_then_the_places_are_printed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[list[str]] = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(paper, "run", calls.append)
    monkeypatch.setattr(paper, "locate_results", lambda configs: calls.append(list(map(str, configs))))
    main(["paper", "--study", "studies/ci.yaml", "--cores", "2"])
    base = [sys.executable, "-m", "snakemake", "--cores", "2", "--rerun-incomplete"]
    base += ["--configfile", "studies/ci.yaml"]
    report = ["--logger", "study", "--report", "results/ci/report.html", "--", "paper"]
    configs = ["config.yaml", "studies/ci.yaml"]
    repair = ["repair", "--configs", *configs, "--cores", "2"]
    assert calls[0] == [sys.executable, "-m", "encoder_roles.cli", *repair]
    assert calls[1] == [*base, "--logger", "study", "--", "paper"]
    assert calls[2:] == [[*base, *report], configs]


def test_make_paper_calls_the_command_with_its_options() -> None:
    options = ["STUDY=studies/ci.yaml", "CORES=2"]
    shown = subprocess.run(["make", "-n", "-C", str(ROOT), "paper", *options], capture_output=True, text=True)
    assert "encoder-roles paper --cores 2 --study studies/ci.yaml\n" in shown.stdout


def test_elsewhere_than_in_a_checkout_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SystemExit, match=r"^encoder-roles paper: .* has no Snakefile: run this in a checkout"
    ):
        main(["paper"])


def test_a_failed_run_ends_the_command_with_its_code_and_finds_this_python_first() -> None:
    folder = str(Path(sys.executable).parent)
    code = f"import os, sys; sys.exit(4 if os.environ['PATH'].split(':')[0] == {folder!r} else 5)"
    with pytest.raises(SystemExit) as stopped:
        paper.run([sys.executable, "-c", code])
    assert stopped.value.code == 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_is_waited_for_until_it_has_cleaned_up(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "tidy.py").write_text(TIDY)
    code = "import sys; from encoder_roles.paper.run import run; run([sys.executable, 'tidy.py'])"
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, start_new_session=True) as command:
        while not (tmp_path / "ready").exists() and command.poll() is None:
            time.sleep(0.02)
        if number == signal.SIGINT:
            os.killpg(command.pid, number)  # as a terminal does
        else:
            command.send_signal(number)
        assert command.wait(timeout=20) == 3
    assert (tmp_path / "tidied").read_text() == str(int(number))
