"""`encoder-roles paper`: run a study to its paper and report, as `make paper` does; it needs no make."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

from encoder_roles.paper.locate import PLACES, locate_results
from encoder_roles.study.config import load_study
from encoder_roles.study.names import StudyError

CONFIG = Path("config.yaml")


def make_paper(*, study: Path | None = None, cores: str = "all") -> None:
    """Run the study; draw its figures, tables, PDF and report. Run it in the project's folder.

    Args:
        study: a file of studies/ that overrides config.yaml; by default the laptop study.
        cores: how many cores to use, or `all`.

    Raises:
        StudyError: the config is faulty, or this is not the project's folder.
    """
    if not Path("Snakefile").is_file():
        raise StudyError(f"{Path.cwd()} has no Snakefile: run this in a checkout of the project")
    configs = (CONFIG,) if study is None else (CONFIG, study)
    report = Path("results") / load_study(*configs).study / PLACES["report"]
    base = [sys.executable, "-m", "snakemake", "--cores", cores, "--rerun-incomplete"]
    base += [] if study is None else ["--configfile", str(study)]
    options = ["--configs", *map(str, configs), "--cores", cores]
    run([sys.executable, "-m", "encoder_roles.cli", "repair", *options])
    run([*base, "--logger", "study", "--", "paper"])
    run([*base, "--logger", "study", "--report", str(report), "--", "paper"])
    locate_results(configs=configs)


def run(command: list[str]) -> None:
    """Run a command to its end, with this Python's programs first on PATH. If it fails, end with its code.

    Ctrl-C reaches the command itself, from the terminal, so this process only waits until it has cleaned up.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    with subprocess.Popen(command, env=os.environ | {"PATH": path}) as process:

        def pass_on(number: int, _frame: FrameType | None) -> None:
            if number == signal.SIGTERM:
                process.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if code:
        sys.exit(code if code > 0 else 128 - code)
