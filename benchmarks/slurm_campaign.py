"""A campaign of 512 jobs through `--profile slurm` on a real Slurm: none lost, none doubled, and its cost.

Run from the repository's root, as root on Debian, with nothing else to do (half an hour on two cores):
`python benchmarks/slurm_campaign.py benchmarks/results/slurm_campaign.json`. The jobs are those of four seeds
of the study in order and number (align, tune, predict and ranks of 31 subsets, masks by four operators); each
sleeps for seconds drawn from a lognormal distribution, and 2% of the attempts fail. Every attempt writes when
it starts and how it ends; from these lines, and not from what Snakemake says, it is counted that every job
ended well exactly once and that no two attempts of a job ran at the same time.
"""

from __future__ import annotations

import argparse
import os
import resource
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

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import yaml
from slurm_cluster import Cluster

from encoder_roles.provenance import write_json

ROOT = Path(__file__).resolve().parents[1]
SITE = {"status_seconds": 10, "free_gb": 0, "partitions": {"cpu": {}}}


def run_campaign(folder: Path, cluster: Cluster, seeds: int) -> tuple[int, float, float]:
    """Run Snakemake: its exit status, its wall seconds and the most memory that it held, in MB."""
    shutil.copytree(ROOT / "slurm", folder / "slurm")
    (folder / "slurm/site.yaml").write_text(yaml.safe_dump(SITE))
    shutil.copy(ROOT / "config.yaml", folder / "config.yaml")
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "--config", f"seeds={seeds}"]
    command += ["--snakefile", str(ROOT / "benchmarks/slurm_campaign.smk"), "--quiet", "rules"]
    begin = time.monotonic()
    with (folder / "said.txt").open("w") as said:
        done = subprocess.run(command, cwd=folder, env=cluster.environment, stdout=said, stderr=said)
    seconds = time.monotonic() - begin
    return done.returncode, seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10


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


def main() -> None:
    """Run the campaign and write what was measured; exit 1 if a job was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cluster is stopped
    cluster = Cluster(cpus=16, memory_mb=32_000)
    with cluster, tempfile.TemporaryDirectory(prefix="campaign-") as name:
        status, seconds, memory = run_campaign(Path(name), cluster, arguments.seeds)
        counted = count_attempts(Path(name))
        measured = {
            **counted,
            **submissions(cluster),
            "snakemake_status": status,
            "wall_minutes": round(seconds / 60, 1),
            "head_node_memory_mb": round(memory),
            "cores_of_the_machine": os.cpu_count(),
        }
        if status:
            print((Path(name) / "said.txt").read_text()[-3000:], file=sys.stderr)
    write_json(arguments.output, measured)
    print(arguments.output.read_text(), end="")
    expected = (4 * 31 + 4) * arguments.seeds
    if (
        status
        or counted["jobs"] != expected
        or counted["lost"]
        or counted["doubled"]
        or counted["overlapping"]
    ):
        sys.exit(f"{expected} jobs were planned: a job was lost or doubled, or Snakemake failed")


if __name__ == "__main__":
    main()
