"""`repair`: make the files that a study has lost, and no others.

Snakemake does not miss an intermediate file under finished results. Forced by its rule, it would make the
files of all subsets again. Here each lost output is a target of its own. An output with the same bytes as
before gets its old time back, so that nothing else is made again because of it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from encoder_roles.manifest.verify import config_faults, read_manifest
from encoder_roles.manifest.write import files_of
from encoder_roles.provenance import sha256_of
from encoder_roles.study.config import load_study
from encoder_roles.study.names import StudyError

Job = dict[str, Any]  # of a manifest


def repair(
    *, configs: tuple[Path, ...] = (Path("config.yaml"),), cores: str = "all", dry: bool = False
) -> None:
    """Make the files again that are in a study's manifest and have been lost; `make paper` does so first.

    Args:
        configs: config.yaml and the study that overrides it, if any.
        cores: for Snakemake: a number, or all.
        dry: only print the lost files and the command.

    Raises:
        StudyError: Snakemake cannot make them.
    """
    study = load_study(*configs)
    results = Path("results") / study.study
    path = results / "manifest.json"
    if not path.is_file():
        return  # unfinished: Snakemake makes whatever is missing
    manifest = read_manifest(path)
    if any(config_faults(manifest["config"], study.model_dump(mode="json"), configs)):
        return  # results of another config: Snakemake makes what it affects
    lost = list(lost_jobs(manifest, results))
    if not lost:
        return
    outputs = [str(results / output) for job in lost for output in job["outputs"]]
    command = snakemake_command(configs, cores, outputs)
    print(f"lost: {', '.join(outputs)}")
    print(shlex.join(command), flush=True)
    if dry:
        return
    if subprocess.run([sys.executable, "-m", *command]).returncode:
        raise StudyError(f"{', '.join(outputs)}: not made again; the lines above say why")
    for job in lost:
        restore_time(job, manifest["files"], results)


def lost_jobs(manifest: dict[str, Any], results: Path) -> Iterator[Job]:
    """The jobs of which an output, or a file in one, is gone."""
    gone = {name for name in manifest["files"] if not (results / name).is_file()}
    gone |= {
        missing["output"] for missing in manifest["missing"] if not (results / missing["output"]).exists()
    }
    for job in manifest["jobs"]:
        if any(name == output or name.startswith(f"{output}/") for output in job["outputs"] for name in gone):
            yield job


def snakemake_command(configs: Sequence[Path], cores: str, outputs: Sequence[str]) -> list[str]:
    """The command that makes exactly these outputs, whether their folders are still there or not."""
    override = ["--configfile", *map(str, configs[1:])] if configs[1:] else []
    options = ["--cores", cores, *override, "--rerun-incomplete", "--force", "--logger", "study"]
    return ["snakemake", *options, "--", *outputs]


def restore_time(job: Job, files: dict[str, Any], results: Path) -> None:
    """Give a job's outputs the time of their first making, if they have the bytes that the manifest lists."""
    made = [file for output in job["outputs"] for file in files_of(results / output)]
    same = all(
        files.get(file.relative_to(results).as_posix(), {}).get("sha256") == sha256_of(file) for file in made
    )
    if not same or job["end"] is None:
        return  # what reads them is made again
    seconds = datetime.fromisoformat(job["end"]).timestamp()
    for output in job["outputs"]:
        folder = results / output
        inside = folder.iterdir() if folder.is_dir() else ()
        for path in (*inside, folder):
            os.utime(path, (seconds, seconds))
