"""A copy of the workflow to plan with, and Snakemake's command line on it."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

ROOT = Path(__file__).resolve().parent.parent
POOL = ("clip", "siglip", "dinov2", "convnext", "sam")
PLANNING = {"--dry-run", "-n", "--summary"}  # nothing runs
Done = subprocess.CompletedProcess[str]


def snakemake(folder: Path, *arguments: str) -> Done:
    """Run Snakemake in a folder; a fork of this process plans, because there all is imported already."""
    words = ["--cores", "2", *arguments]
    if PLANNING.isdisjoint(words):
        command = [sys.executable, "-m", "snakemake", *words]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True)
    importlib.import_module("snakemake.cli")  # once, for all forks
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if not child:
            _call(folder, words, output, errors)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        texts = []
        for stream in (output, errors):
            stream.seek(0)
            texts.append(stream.read().decode())
    return subprocess.CompletedProcess(words, code, *texts)


def _call(folder: Path, words: Sequence[str], output: BinaryIO, errors: BinaryIO) -> None:
    """Be `snakemake <words>`; does not return."""
    from snakemake.cli import main

    code = 1
    try:
        os.dup2(output.fileno(), 1)
        os.dup2(errors.fileno(), 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        os.chdir(folder)
        sys.argv = ["snakemake", *words]
        try:
            main(list(words))
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def planned(folder: Path, *arguments: str) -> list[tuple[str, dict[str, str]]]:
    """The jobs of a dry run: rule and wildcards."""
    done = snakemake(folder, "--dry-run", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = []
    for block in re.split(r"\n\[", done.stdout.split("Job stats", 2)[1]):
        if rule := re.search(r"^(?:local)?rule (\w+):", block, re.MULTILINE):
            match = re.search(r"^    wildcards: (.*)$", block, re.MULTILINE)
            wildcards = dict(pair.split("=", 1) for pair in match[1].split(", ")) if match else {}
            jobs.append((rule[1], wildcards))
    return jobs


def copy_workflow(folder: Path) -> Path:
    """The workflow with stand-ins for the pinned sources: planning reads their names and dates alone."""
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("workflow", "studies", "paper", "envs"):
        shutil.copytree(ROOT / name, folder / name)
    for source in (*(f"encoders/{name}" for name in POOL), "language_model"):
        (folder / "sources/laptop" / source).mkdir(parents=True)
        for file in ("model.safetensors", "gates.csv"):
            (folder / "sources/laptop" / source / file).write_text(source)
    return folder
