"""A checkout to run on a test Slurm, in which chosen jobs meet a fate: cancelled, killed, swollen, frozen."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import yaml
from slurm_cluster import Cluster

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
STUDY = "tests/slurm_study.yaml"
SITE = {
    "partitions": {"cpu": {}, "gpu": {"gpus": 2}},
    "status_seconds": 2,
    "warning_seconds": 45,
    "free_gb": 0,
}
# Stands before encoder-roles on the jobs' PATH. A fate is a file fates/<command>.<subset or encoder, if any>.
WRAPPER = """\
#!/usr/bin/env bash
real={real} fates={fates} subset= restart= before=
for word in "$@"; do
    case $before in --subset | --encoder) subset=${word##*/} ;; --restart) restart=$word ;; esac
    before=$word
done
fate=$fates/$1.$subset
case $(cat "$fate" 2> /dev/null) in
swell) # at every attempt
    {python} -c 'import time; held = bytearray(b"x") * 2_000_000_000; time.sleep(4)' || exit 1 ;;
hang)
    mv "$fate" "$fate.met" && exec sleep 600 ;;
slow)
    mv "$fate" "$fate.met" && sleep 20 ;;
await_warning)
    mv "$fate" "$fate.met"
    exec {python} - "$fate.warned" << 'PYTHON'
import pathlib, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(pathlib.Path(sys.argv[1]).write_text("by SIGUSR1") and 1))
while True:
    signal.pause()
PYTHON
    ;;
freeze) # in the middle of training, with a checkpoint on the disk
    "$real" "$@" &
    until [ -n "$(find "$restart" -type f ! -path '*.part/*' 2> /dev/null)" ]; do sleep 0.02; done
    kill -STOP $!
    mv "$fate" "$fate.met"
    wait ;;
esac
exec "$real" "$@"
"""


class Checkout:
    """A copy of the workflow with the small study, and Snakemake in it; on a cluster, or for this machine."""

    def __init__(self, folder: Path, cluster: Cluster | None, **site: object) -> None:
        self.folder, self._cluster = folder, cluster
        for node in cluster.take_back() if cluster else ():  # one test does not pay for another
            print(f"test cluster: an earlier test lost {node}")
        if not (folder / "Snakefile").exists():
            self.lay_out(site)
        environment = cluster.environment if cluster else os.environ
        path = f"{folder}/bin:{BIN}:{environment['PATH']}"
        self.environment = {**environment, "PATH": path, "OMP_NUM_THREADS": "1"}

    def lay_out(self, site: dict[str, object]) -> None:
        """Copy the workflow, state the site, and put the wrapper before encoder-roles."""
        folder = self.folder
        for name in ("Snakefile", "config.yaml"):
            shutil.copy(ROOT / name, folder / name)
        for name in ("workflow", "studies", "paper", "envs", "slurm"):
            shutil.copytree(ROOT / name, folder / name)
        for name in ("sources", "tests"):
            (folder / name).symlink_to(ROOT / name)
        (folder / "slurm/site.yaml").write_text(yaml.safe_dump({**SITE, **site}))
        profile = folder / "slurm/config.yaml"  # Snakemake's own lines have the numbers of Slurm's jobs
        profile.write_text(re.sub(r"^logger:.*\n", "", profile.read_text(), flags=re.MULTILINE))
        (folder / "fates").mkdir()
        wrapper = folder / "bin/encoder-roles"
        wrapper.parent.mkdir()
        text = WRAPPER.replace("{real}", str(BIN / "encoder-roles")).replace("{python}", sys.executable)
        wrapper.write_text(text.replace("{fates}", str(folder / "fates")))
        wrapper.chmod(0o755)

    @property
    def cluster(self) -> Cluster:
        """The cluster of a checkout that has one."""
        assert self._cluster is not None
        return self._cluster

    def take_over(self, other: Checkout) -> None:
        """Begin with what another checkout has made, and with what Snakemake knows of it."""
        shutil.copytree(other.folder / "results", self.folder / "results")
        for records in ("metadata", "incomplete"):
            if (other.folder / ".snakemake" / records).exists():
                shutil.copytree(other.folder / ".snakemake" / records, self.folder / ".snakemake" / records)

    def fate(self, name: str, what: str) -> None:
        """The next job of `<command>.<subset>` meets this."""
        (self.folder / "fates" / name).write_text(what)

    def met(self, name: str) -> bool:
        """Whether a job has met its fate."""
        return (self.folder / "fates" / f"{name}.met").exists()

    def start(self, *arguments: str, profile: str = "slurm") -> subprocess.Popen[str]:
        """Start Snakemake; what it prints goes to output.txt."""
        # Snakemake's end waits for the span of its rate limit: two seconds instead of the profile's minute
        fast = ["--max-jobs-per-timespan", "100/2s"]
        how = ["--profile", "slurm", *fast] if profile else ["--cores", "2"]
        command = [sys.executable, "-m", "snakemake", *how, "--configfile", STUDY, *arguments]
        with (self.folder / "output.txt").open("w") as output:
            return subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=output, stderr=output, text=True
            )

    def output(self) -> str:
        """What the last Snakemake printed."""
        return (self.folder / "output.txt").read_text()

    def submitted(self) -> dict[str, list[str]]:
        """The Slurm ids of every job's attempts, in order, as the last Snakemake said them; a job is named by
        its rule and its wildcards, as in `train_tune blind 0`, a group of jobs by Snakemake's id of it."""
        jobs: dict[str, str] = {}
        attempts: defaultdict[str, list[str]] = defaultdict(list)
        rule = number = ""
        for line in self.output().splitlines():
            if match := re.match(r"rule (\w+):", line):
                rule = match[1]
            elif match := re.match(r" +jobid: (\d+)", line):
                number = match[1]
                jobs[number] = rule
            elif match := re.match(r" +wildcards: (.*)", line):
                values = [pair.split("=", 1)[1] for pair in match[1].split(", ")]
                jobs[number] = " ".join([rule, *values])
            elif match := re.search(r"Job (\S+) has been submitted with SLURM jobid (\w+)", line):
                attempts[jobs.get(match[1], match[1])].append(match[2])
        return dict(attempts)

    def run(self, *arguments: str, profile: str = "slurm") -> int:
        """Run Snakemake to its end; its exit status."""
        return self.start(*arguments, profile=profile).wait()

    def ends_well(self, process: subprocess.Popen[str], seconds: float) -> bool:
        """Wait for Snakemake's end, and kill it if it takes longer; whether it ended well."""
        try:
            return process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            print(f"no end after {seconds:g} seconds: {self.cluster.explain()}")
            self.kill(process)
            return False

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the package."""
        return subprocess.run(
            [str(BIN / "encoder-roles"), *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )

    def kill(self, process: subprocess.Popen[str]) -> None:
        """SIGKILL Snakemake: it can say nothing to anybody."""
        process.send_signal(signal.SIGKILL)
        process.wait()

    def read(self, result: str) -> bytes:
        """A result's bytes."""
        return (self.folder / "results/slurm" / result).read_bytes()

    def until(
        self, what: str, true: Callable[[], bool], process: subprocess.Popen[str], seconds: float
    ) -> None:
        """Wait for something that happens while Snakemake runs."""
        end = time.monotonic() + seconds
        while not true():
            if process.poll() is not None or time.monotonic() > end:
                process.kill()
                print(self.cluster.explain())
                raise AssertionError(f"{what} did not happen; Snakemake said {self.output()[-3000:]}")
            time.sleep(0.3)
