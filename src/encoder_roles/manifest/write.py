"""`write-manifest`: every file of a study with its hash, and the job, code and environment that made it."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from encoder_roles.manifest.code import Code, code_key, code_of
from encoder_roles.manifest.environment import read_pins
from encoder_roles.manifest.job import machine, read_hashes, read_record, read_used
from encoder_roles.provenance import digests, key_of, sha256_of, versions, write_json
from encoder_roles.study.config import Study
from encoder_roles.study.names import StudyError
from encoder_roles.study.stages import read_settings

# What a run leaves in its folder without being a result -> why it is not hashed.
INCIDENTAL: dict[str, str] = {
    "logs": "what jobs said, with times and process ids; the record in a log's first line is in `jobs`",
    "timings": "seconds and memory as Snakemake measured them, copied to `jobs`",
    "report.html": "holds the run times; written after this manifest from files that are in it",
    "manifest.json": "this file",
    "rehearsal": "what a rehearsal measured, on one machine at one time",
    ".restart": "restart checkpoints of jobs that did not finish",
}
REMEMBERED = ".decoded"  # the end of the name of staging's memory of good pictures, which is no result
STAMP = ".snakemake_timestamp"  # Snakemake's empty file in a folder that a rule makes
# Targets beside the paper -> what they make last.
LAST = {"variants": "variant_claims.json", "mask_checkpoint": "checkpoint/roles"}
UNRECORDED = ("write_settings",)  # Snakemake writes them from the config, which is compared itself


@dataclass(frozen=True)
class Planned:
    """One output of the DAG, from `snakemake --detailed-summary`."""

    output: Path
    rule: str
    logs: tuple[Path, ...]
    inputs: tuple[str, ...]


def write_manifest(*, results: Path, study: Path, workflow: tuple[Path, ...], output: Path) -> None:
    """Write manifest.json of a finished study.

    Args:
        results: results/<study>.
        study: settings/study.json, the complete validated config.
        workflow: Snakefile and the files of rules.
        output: the manifest (docs/contracts.md).

    Raises:
        StudyError: Snakemake cannot list the outputs of the study.
    """
    settings = read_settings(study, Study)
    targets = targets_of(settings, results)
    plan = [planned for planned in planned_outputs(study, targets) if planned.output != output]
    made = {file: planned.rule for planned in plan for file in files_of(planned.output)}
    jobs = [describe(results, rule, logs, outputs) for rule, logs, outputs in group(plan)]
    hashes = hashes_of(made, (log for planned in plan for log in planned.logs))
    read = {Path(name) for planned in plan for name in planned.inputs} | set(workflow)
    inputs = sorted(file for path in read if not path.is_relative_to(results) for file in files_of(path))
    write_json(
        output,
        {
            "study": settings.study,
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "repository": repository(Path()),
            "config": settings.model_dump(mode="json"),
            "config_sha256": key_of(settings.model_dump(mode="json")),
            "seeds": {
                "models": list(settings.seeds),
                "world": settings.world.seed,
                "statistics": settings.statistics.seed,
            },
            "threads": settings.training.threads,
            "machine": machine(),
            "versions": versions(),
            "environments": environments(jobs),
            "code": {code_key(code): code for code in sources(jobs)},
            "jobs": jobs,
            "unrecorded": UNRECORDED,
            "inputs": digests(inputs),
            "files": {
                file.relative_to(results).as_posix(): {
                    "sha256": hashes[file],
                    "size": file.stat().st_size,
                    "rule": made[file],
                }
                for file in sorted(made)
            },
            "missing": [
                {"output": below(planned.output, results), "rule": planned.rule}
                for planned in plan
                if not planned.output.exists()
            ],
            "orphans": [below(file, results) for file in kept_files(results) if file not in made],
            "incidental": INCIDENTAL,
        },
    )


def targets_of(settings: Study, results: Path) -> tuple[str, ...]:
    """The targets whose files are in the manifest: the paper, and what else the study has and has made."""
    has = {"variants": bool(settings.variants), "mask_checkpoint": settings.checkpoint is not None}
    return ("paper", *(target for target, last in LAST.items() if has[target] and (results / last).exists()))


def hashes_of(files: Iterable[Path], logs: Iterable[Path]) -> dict[Path, str]:
    """The SHA-256 of files: as the jobs recorded them in their logs, and of all others from their bytes.

    A recorded hash holds for a file that has the size and time that it had then.
    """
    recorded: dict[Path, str] = {}
    for log in dict.fromkeys(logs):
        recorded |= read_hashes(log)
    files = sorted(files)
    others = [file for file in files if file not in recorded]
    return recorded | dict(zip(others, digests(others).values(), strict=True))


def planned_outputs(study: Path, targets: Sequence[str]) -> list[Planned]:
    """All outputs of the targets with their rules, from Snakemake in the repository's root."""
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--detailed-summary",
        "--configfile",
        str(study),
        "--",
        *targets,
    ]
    summary = subprocess.run(command, capture_output=True, text=True)
    if summary.returncode != 0:
        raise StudyError(f"snakemake cannot list its outputs: {' '.join(summary.stderr.split())[-500:]}")
    head, *rows = (line.split("\t") for line in summary.stdout.splitlines())
    output, rule, logs, inputs = map(head.index, ("output_file", "rule", "log-file(s)", "input-file(s)"))
    plan = [
        Planned(Path(row[output]), row[rule], tuple(map(Path, listed(row[logs]))), listed(row[inputs]))
        for row in rows
    ]
    return sorted(plan, key=lambda planned: planned.output)


def listed(text: str) -> tuple[str, ...]:
    """A list in a cell of Snakemake's summary."""
    return () if text in ("-", "") else tuple(text.split(","))


def group(plan: Iterable[Planned]) -> list[tuple[str, tuple[Path, ...], list[Path]]]:
    """The jobs as (rule, logs, outputs): outputs with the same rule and log come from one job."""
    jobs: dict[tuple[str, tuple[Path, ...]], list[Path]] = {}
    for planned in plan:
        jobs.setdefault((planned.rule, planned.logs), []).append(planned.output)
    return [(rule, logs, outputs) for (rule, logs), outputs in jobs.items()]


def describe(results: Path, rule: str, logs: Sequence[Path], outputs: Sequence[Path]) -> dict[str, Any]:
    """One job: the record in its log, and the time and memory that Snakemake measured."""
    record = next((found for log in logs if (found := read_record(log))), None)
    timing = next((row for log in logs if (row := read_timing(timing_of(log, results)))), {})
    seconds = float(timing["s"]) if timing.get("s") else None
    end = None
    if record is not None and seconds is not None:
        end = (datetime.fromisoformat(record["start"]) + timedelta(seconds=seconds)).isoformat(
            timespec="seconds"
        )
    return {
        "rule": rule,
        "outputs": [below(output, results) for output in outputs],
        "made_by": record,
        "end": end,
        "seconds": seconds,
        "peak_memory_mb": peak_memory(logs, timing),
    }


def peak_memory(logs: Iterable[Path], timing: Mapping[str, str]) -> float | None:
    """A job's memory in MB: as its log says, or as Snakemake measured it; None if neither did."""
    used = next((used for log in logs if (used := read_used(log))), {})
    measured = timing.get("max_rss", "-")
    return used.get("peak_memory_mb", None if measured == "-" else float(measured))


def timing_of(log: Path, results: Path) -> Path:
    """Snakemake's measurement of the job with this log: rules give both the same name."""
    return results / "timings" / log.relative_to(results / "logs").with_suffix(".tsv")


def read_timing(path: Path) -> dict[str, str]:
    """The first row of a file that Snakemake's `benchmark` wrote; empty if there is none."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as lines:
        return next(csv.DictReader(lines, delimiter="\t"), {})


def environments(jobs: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The locks of all jobs' environments: `sha256` and `packages`."""
    names = sorted({job["made_by"]["environment"] for job in jobs if job["made_by"]})
    locks = {name: Path("envs") / name for name in names}
    return {
        name: {"sha256": sha256_of(path), "packages": read_pins(path.read_text(encoding="utf-8"))}
        for name, path in locks.items()
        if path.is_file()
    }


def sources(jobs: Iterable[dict[str, Any]]) -> list[Code]:
    """The current files of every command and script that made an output."""
    makers = {(job["made_by"]["module"], job["made_by"]["script"]) for job in jobs if job["made_by"]}
    return [present_code(module, script) for module, script in sorted(makers, key=str)]


def present_code(module: str | None, script: str | None) -> Code:
    """The current files of a command's module or of a script; empty if the script is gone."""
    if script is not None:
        return code_of(None, Path(script)) if Path(script).is_file() else {}
    return code_of(module)


def repository(root: Path) -> dict[str, Any] | None:
    """`commit` and `dirty` (whether files differ from it); None outside a repository."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    answers = [
        subprocess.run([git, "-C", str(root), *arguments], capture_output=True, text=True)
        for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain"))
    ]
    if any(answer.returncode != 0 for answer in answers):
        return None
    return {"commit": answers[0].stdout.strip(), "dirty": bool(answers[1].stdout.strip())}


def files_of(output: Path) -> list[Path]:
    """The files of an output of a rule, which may be a folder."""
    if not output.is_dir():
        return [output] if output.is_file() else []
    return sorted(
        Path(folder, name) for folder, _, names in os.walk(output) for name in names if name != STAMP
    )


def kept_files(results: Path) -> list[Path]:
    """All files of a study except the incidental ones."""
    top = [path for path in sorted(results.iterdir()) if path.name not in INCIDENTAL]
    return [file for path in top for file in files_of(path) if file.suffix != REMEMBERED]


def below(path: Path, results: Path) -> str:
    """A path in the form that the manifest uses, relative to the results."""
    return path.relative_to(results).as_posix()
