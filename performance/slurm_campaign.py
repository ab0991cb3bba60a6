"""513 jobs through `--profile slurm` on a real Slurm, without and with arrays: none lost, none doubled.

Run from the repository's root, as root on Debian, with nothing else to do (an hour on two cores):
`python performance/slurm_campaign.py performance/results/slurm_campaign.json`. The jobs are those that the
plan of studies/cambrian.yaml counts, in four seeds; each sleeps for ten seconds where the plan says an hour,
give or take a fifth, and 2% of the attempts fail. Every attempt writes when it starts and how it ends; from
these lines, and not from what Snakemake says, it is counted that every job ended well exactly once and that
no two attempts of a job ran at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import pandas as pd
import yaml
from slurm_cluster import Cluster

from encoder_roles.planning.plan import plan_rows
from encoder_roles.provenance import write_json
from encoder_roles.study.config import load_study
from encoder_roles.study.names import BLIND

ROOT = Path(__file__).resolve().parents[1]
STUDY = "studies/cambrian.yaml"
SITE = {"status_seconds": 10, "free_gb": 0, "partitions": {"cpu": {}}}
CAMPAIGNS = {"without_arrays": 1, "with_arrays": 100}  # the largest array
SECONDS_AN_HOUR = 10  # of the plan

Hours = dict[str, dict[str, float]]  # rule -> subset, or operator -> the hours that the plan gives to its job


def planned_hours() -> Hours:
    """How long the plan says that every job of the study takes, in one seed."""
    study = load_study(ROOT / "config.yaml", ROOT / STUDY)
    rules, models = (pd.DataFrame(rows) for rows in plan_rows(study))
    rows = rules.set_index("rule").to_dict("index")
    flops, trained = models.set_index("subset"), [s for s in models["subset"] if s != BLIND]

    def hours(rule: str, flops: pd.Series[int]) -> dict[str, float]:
        row = rows[rule]
        reached = row["flops"] / row["device_hours"] * row["devices"]  # in an hour of wall time
        return {str(subset): count / reached for subset, count in flops.items()}

    each = {rule: row["device_hours"] / row["jobs"] for rule, row in rows.items()}
    return {
        "train_align": hours("train_align", flops.loc[trained, "align_flops"]),
        "train_tune": hours("train_tune", flops["tune_flops"]),
        "predict_subset": hours("predict_subset", flops["predict_flops"]),
        "predict_masks": dict.fromkeys(study.masks.operators, each["predict_masks"]),
        "measure_pretrained_ranks": {"all": each["measure_pretrained_ranks"]},
        "measure_ranks": dict.fromkeys(trained, each["measure_ranks"]),
    }


def run_campaign(
    folder: Path, cluster: Cluster, seeds: int, hours: Hours, largest_array: int
) -> tuple[int, float, float]:
    """Run Snakemake: its exit status, its wall seconds and the most memory that it held, in MB."""
    for name in ("slurm", "studies"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "slurm/site.yaml").write_text(yaml.safe_dump({**SITE, "largest_array": largest_array}))
    shutil.copy(ROOT / "config.yaml", folder / "config.yaml")
    seconds = {rule: {key: h * SECONDS_AN_HOUR for key, h in jobs.items()} for rule, jobs in hours.items()}
    write_json(folder / "seconds.json", seconds)
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "--config", f"seeds={seeds}"]
    command += ["--snakefile", str(ROOT / "performance/slurm_campaign.smk"), "--quiet", "rules"]
    begin, memory = time.monotonic(), 0.0
    with (folder / "said.txt").open("w") as said:
        snakemake = subprocess.Popen(command, cwd=folder, env=cluster.environment, stdout=said, stderr=said)
    while snakemake.poll() is None:
        # not getrusage: what it says of a child begins with this process's own memory, which is larger
        status = Path(f"/proc/{snakemake.pid}/status").read_text()
        if peak := re.search(r"VmHWM:\s+(\d+) kB", status):
            memory = int(peak[1]) / 2**10
        time.sleep(1)
    return snakemake.returncode, time.monotonic() - begin, memory


def count_attempts(folder: Path) -> dict[str, int]:
    """Jobs, attempts, failures, jobs lost, jobs that ended well twice, attempts that began during another."""
    found: Counter[str] = Counter()
    for journal in sorted((folder / "journal").rglob("*.*")):
        words = [line.split()[0] for line in journal.read_text().splitlines()]
        ends = words.count("end")
        found["jobs"] += 1
        found["attempts"] += words.count("start")
        found["failures"] += words.count("fail")
        found["doubled"] += ends > 1
        found["lost"] += (
            ends < 1 or not (folder / "campaign" / journal.relative_to(folder / "journal")).exists()
        )
        found["overlapping"] += any(a == b == "start" for a, b in pairwise(words))
    return {name: found[name] for name in ("jobs", "attempts", "failures", "lost", "doubled", "overlapping")}


def submissions(cluster: Cluster) -> dict[str, float]:
    """Jobs submitted a minute: in the busiest minute, and over all minutes in which any was; sbatch calls."""
    lines = cluster.command("squeue", "-h", "-r", "-t", "all", "-o", "%V|%A|%F").splitlines()
    minutes = Counter(datetime.fromisoformat(line.split("|")[0]).strftime("%H:%M") for line in lines)
    calls = len({line.split("|")[2] for line in lines})
    mean = sum(minutes.values()) / len(minutes)
    return {"busiest_minute": max(minutes.values()), "mean_a_minute": round(mean, 1), "sbatch_calls": calls}


def campaign(seeds: int, hours: Hours, largest_array: int) -> dict[str, Any]:
    """Run one campaign on a cluster of its own: what was measured."""
    load = os.getloadavg()[2]  # of the last quarter of an hour: what else the machine had to do
    cluster = Cluster(cpus=16, memory_mb=32_000)
    with cluster, tempfile.TemporaryDirectory(prefix="campaign-") as name:
        status, seconds, memory = run_campaign(Path(name), cluster, seeds, hours, largest_array)
        if status:
            print((Path(name) / "said.txt").read_text()[-3000:], file=sys.stderr)
        return {
            **count_attempts(Path(name)),
            **submissions(cluster),
            "snakemake_status": status,
            "wall_minutes": round(seconds / 60, 1),
            "head_node_memory_mb": round(memory),
            "cores_of_the_machine": os.cpu_count(),
            "load_before": round(load, 1),
        }


def main() -> None:
    """Run the campaigns and write what was measured; exit 1 if a job was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", choices=CAMPAIGNS, action="append", help="keep the other's figures")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cluster is stopped
    hours = planned_hours()
    once = len(hours["measure_pretrained_ranks"])
    expected = arguments.seeds * (sum(map(len, hours.values())) - once) + once
    measured = json.loads(arguments.output.read_text()) if arguments.only else {}
    for name in arguments.only or CAMPAIGNS:
        measured[name] = found = campaign(arguments.seeds, hours, CAMPAIGNS[name])
        write_json(arguments.output, measured)
        wrong = found["snakemake_status"] or any(found[key] for key in ("lost", "doubled", "overlapping"))
        if wrong or found["jobs"] != expected:
            sys.exit(f"{name}: {expected} jobs were planned, and {found}")
    print(arguments.output.read_text(), end="")


if __name__ == "__main__":
    main()
