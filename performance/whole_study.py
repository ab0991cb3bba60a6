"""CPU seconds, seconds and idle share of `make paper` at two commits, one after the other on this machine.

Run from the root, with nothing else running: `python performance/whole_study.py --before <commit>`. Each
commit is cloned and gets its environment first, which is not measured. Both run `--study`, by default
first_recipe.yaml, so that they train by the same recipe; a smaller pool makes it shorter (`--pool clip siglip
convnext`). CPU seconds are those of the whole machine, from Linux's /proc/stat: a run's jobs are not all
children of one process. The idle share is that of the cores from the start of the command to its end, with
Snakemake's start, the PDF and the report. Before it, dry runs of the current commit are timed, with one seed
(the first one compiles what it imports) and with three; `--three-seeds` runs the study at the current commit
with three seeds too. Writes performance/results/whole_study.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from encoder_roles.manifest.job import machine
from encoder_roles.provenance import write_json

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "performance/results/whole_study.json"
FIRST_RECIPE = ROOT / "performance/first_recipe.yaml"
TICKS = os.sysconf("SC_CLK_TCK")
THREE_SEEDS = ("--config", "seeds=[0,1,2]")


def program(name: str) -> str:
    """The path of a program. Raises SystemExit if there is none."""
    return shutil.which(name) or sys.exit(f"no program {name}")


def machine_seconds() -> tuple[float, float]:
    """Busy and idle seconds of all cores since the machine started."""
    user, nice, system, idle, waiting, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    )
    return (user + nice + system + irq + softirq) / TICKS, (idle + waiting) / TICKS


def measure(command: Sequence[str], folder: Path) -> dict[str, float]:
    """CPU seconds, seconds and idle share of one command. Raises CalledProcessError if it fails."""
    busy, idle = machine_seconds()
    started = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    busy, idle = (now - before for now, before in zip(machine_seconds(), (busy, idle), strict=True))
    return {
        "cpu_seconds": round(busy),
        "seconds": round(seconds),
        "idle_share": round(idle / (busy + idle), 3),
    }


def clone(commit: str, folder: Path) -> Path:
    """A clone of the commit with its environment."""
    subprocess.run([program("git"), "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run([program("git"), "checkout", "--quiet", commit], cwd=folder, check=True)
    subprocess.run([program("make"), "environment"], cwd=folder, check=True)
    return folder


def dry_run(folder: Path, *options: str) -> float:
    """CPU seconds of a dry run of the laptop study, all masks included."""
    command = [str(folder / ".venv/bin/snakemake"), "--cores", "2", "--dry-run", "--quiet", "all"]
    return measure([*command, *options, "--", "paper"], folder)["cpu_seconds"]


def make_paper(study: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What `make paper` of a study takes in a clone, and the seconds of the jobs of each rule."""
    file = folder / "studies/measured.yaml"
    file.write_text(yaml.safe_dump(study), encoding="utf-8")
    taken = measure([program("make"), "paper", "STUDY=studies/measured.yaml"], folder)
    return taken | {"seconds_by_rule": seconds_by_rule(folder / f"results/{study['study']}/timings")}


def seconds_by_rule(timings: Path) -> dict[str, float]:
    """The seconds of the jobs of each rule, from Snakemake's files timings/<rule>.tsv or <rule>/<job>.tsv."""
    seconds: dict[str, float] = defaultdict(float)
    for file in sorted(timings.rglob("*.tsv")):
        rule = file.relative_to(timings).parts[0].removesuffix(".tsv")
        seconds[rule] += float(pd.read_csv(file, sep="\t")["s"].iloc[0])
    return {rule: round(total, 1) for rule, total in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", required=True, help="the commit to compare with")
    parser.add_argument("--study", type=Path, default=FIRST_RECIPE, help="the study file that both run")
    parser.add_argument("--pool", nargs="+", help="its encoders; those of the laptop study if left out")
    parser.add_argument("--three-seeds", action="store_true", help="run the current commit with three too")
    options = parser.parse_args()
    study = yaml.safe_load(options.study.read_text(encoding="utf-8"))
    study |= {"pool": options.pool} if options.pool else {}
    current = subprocess.run(
        [program("git"), "rev-parse", "--short", "HEAD"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as folder:
        clones = {name: clone(name, Path(folder) / name) for name in (options.before, current)}
        dry = {"one": dry_run(clones[current]), "three": dry_run(clones[current], *THREE_SEEDS)}
        runs = {name: make_paper(study, place) for name, place in clones.items()}
        three = study | {"study": f"{study['study']}_seeds", "seeds": [0, 1, 2]}
        three_seeds = make_paper(three, clones[current]) if options.three_seeds else None
    before, after = runs[options.before], runs[current]
    result = {
        "study": options.study.name,
        "pool": options.pool or "all",
        "machine": machine(),
        "before": {"commit": options.before, **before},
        "after": {"commit": current, **after},
        "cpu_after_over_before": round(after["cpu_seconds"] / before["cpu_seconds"], 3),
        "dry_run_cpu_seconds": dry,
    }
    if three_seeds:
        result["three_seeds"] = three_seeds
        result["cpu_three_seeds_over_before"] = round(three_seeds["cpu_seconds"] / before["cpu_seconds"], 3)
    write_json(RESULTS, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
