"""A real Slurm on this machine, in a folder of its own: for tests and for performance/slurm_campaign.py.

    python tests/slurm_cluster.py install     # Debian's packages, as root; nothing to do when they are there
    python tests/slurm_cluster.py run COMMAND...     # a command with a cluster around it

One node, this machine, or several that are all this machine. A busy machine is slow to answer, so Slurm waits
ten minutes before it takes a node for lost. They offer more processors than it has and fake
GPUs (character devices that read nothing), in partitions `cpu` and `gpu`. With accounting, MariaDB and
slurmdbd run beside them. Everything that was started ends with `stop`, or with the process that started it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PACKAGES = {  # Debian's, by the program that shows that it is there
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server",
}
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
NULL_DEVICE = os.makedev(1, 3)  # what stands for a GPU
READY_WITHIN = 60  # seconds
STOPPED_WITHIN = 15  # seconds
ACCOUNT = "vision"  # the one account of a cluster with accounting

SLURM_CONF = """\
ClusterName=test
SlurmctldHost=localhost
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={ctld_port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldParameters=idle_on_node_suspend
SlurmdParameters=config_overrides
ReturnToService=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=bf_interval=2,sched_interval=2
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
MinJobAge={min_job_age}
KillWait=2
MessageTimeout=60
BatchStartTimeout=600
UnkillableStepTimeout=600
SlurmdTimeout=0
MaxArraySize=10001
MaxJobCount=20000
GresTypes=gpu
{accounting}
{nodes}
PartitionName=cpu Nodes=ALL Default=YES MaxTime=1-00:00:00 State=UP
PartitionName=gpu Nodes=ALL MaxTime=7-00:00:00 State=UP
"""
NODE = (
    "NodeName={node} NodeAddr=127.0.0.1 Port={port} CPUs={cpus} RealMemory={memory_mb}"
    " Gres=gpu:fake:{gpus} State=UNKNOWN"
)
ACCOUNTING = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={dbd_port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations
AccountingStorageTRES=gres/gpu
"""
SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdPort={dbd_port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={mysql_port}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm
PidFile={folder}/slurmdbd.pid
"""


def missing_programs() -> list[str]:
    """The programs of a test cluster that this machine lacks."""
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    return [program for program in PACKAGES if shutil.which(program, path=path) is None]


def install() -> None:
    """Install what is missing with apt-get, without starting a service; exits with one line if it cannot."""
    if not (missing := missing_programs()):
        return
    packages = [PACKAGES[program] for program in missing]
    needed = f"the Slurm tests need Debian's packages {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        sys.exit(f"{needed}, and this machine has no apt-get: install Slurm, or run the tests without them")
    if os.geteuid() != 0:
        sys.exit(f"{needed}: run this as root, or run the tests without them")
    policy = Path("/usr/sbin/policy-rc.d")  # Debian asks it before it starts an installed service
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", "-qq", *command], env=environment, stdout=sys.stderr, check=True)
    finally:
        if ours:
            policy.unlink()
    if missing := missing_programs():
        sys.exit(f"apt-get installed {' '.join(packages)}, and still there is no {', '.join(missing)}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Cluster:
    """A test cluster: `start`, run commands with `environment`, `stop`; or a `with` block."""

    def __init__(
        self,
        *,
        accounting: bool = False,
        cpus: int = 8,
        memory_mb: int = 16_000,
        gpus: int = 2,
        nodes: tuple[str, ...] = ("localhost",),  # of several, none may have this name
    ) -> None:
        self.accounting, self.cpus, self.memory_mb, self.gpus = accounting, cpus, memory_mb, gpus
        self.nodes = nodes
        self.daemons: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.folder = Path()
        self.min_job_age = 4 * 3600  # seconds that squeue remembers a finished job

    @property
    def environment(self) -> dict[str, str]:
        """The environment in which Slurm's commands speak to this cluster."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SBATCH_"))}
        path = f"{kept.get('PATH', '')}:{SBIN}"
        return {**kept, "PATH": path, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything; return when the node takes jobs. Raises RuntimeError with the daemons' words."""
        if missing := missing_programs():
            raise RuntimeError(
                f"no {', '.join(missing)}: run `python tests/slurm_cluster.py install` as root"
            )
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        try:
            self.write_configuration()
            self.daemon("munged", "--foreground", "--force", *self.munge_files())
            self.wait("munged", lambda: (self.folder / "munge.socket").exists())
            if self.accounting:
                self.start_accounting()
            self.daemon("slurmctld", "-D", "-c")
            for node in self.nodes:
                self.daemon("slurmd", "-D", "-N", node)
            self.wait("slurmd", self.all_idle)
        except BaseException:
            self.stop()
            raise

    def all_idle(self) -> bool:
        """Whether every node takes jobs."""
        states = self.command("sinfo", "-h", "-N", "-p", "cpu", "-o", "%T").split()
        return len(states) == len(self.nodes) and all(state.startswith("idle") for state in states)

    def set_aside(self) -> list[str]:
        """The nodes that take no jobs, each with its state and Slurm's reason."""
        states = self.command("sinfo", "-h", "-N", "-p", "cpu", "-o", "%N %T %E").splitlines()
        takes_jobs = ("idle", "mixed", "allocated", "completing")
        return [line for line in states if not line.split()[1].startswith(takes_jobs)]

    def take_back(self) -> list[str]:
        """Let the nodes that were set aside take jobs again; returns what `set_aside` said of them."""
        lost = self.set_aside()
        for node in (line.split()[0] for line in lost):
            for change in (["state=down", "reason=taken-back"], ["state=resume"]):
                self.command("scontrol", "update", f"nodename={node}", *change)
        return lost

    def explain(self) -> str:
        """What is known when a run hangs: nodes, jobs, and the last words of the daemons."""
        facts = [self.command("sinfo", "-N", "-o", "%N %T %E"), self.command("squeue", "-r", "-t", "PD,R,CG")]
        facts += [f"{name}: {(self.folder / f'{name}.out').read_text()[-2000:]}" for name, _ in self.daemons]
        return "\n".join(facts)

    def munge_files(self) -> list[str]:
        """munged's own key, socket and records, in the cluster's folder."""
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid"}
        files |= {"log-file": "munged.log", "seed-file": "munge.seed"}
        return [f"--{option}={self.folder / file}" for option, file in files.items()]

    def write_configuration(self) -> None:
        """slurm.conf, gres.conf and slurmdbd.conf, on ports that are free now."""
        for name in ("state", "spool", "gpu"):
            (self.folder / name).mkdir()
        for number in range(self.gpus):
            os.mknod(self.folder / f"gpu/{number}", 0o666 | 0o020000, NULL_DEVICE)
        ports = {name: free_port() for name in ("ctld_port", "dbd_port", "mysql_port")}
        self.mysql_port, self.password = ports["mysql_port"], os.urandom(12).hex()
        facts = {**ports, "folder": self.folder, "password": self.password, "min_job_age": self.min_job_age}
        facts |= {"cpus": self.cpus, "memory_mb": self.memory_mb, "gpus": self.gpus}
        storage = ACCOUNTING if self.accounting else "AccountingStorageType=accounting_storage/none"
        nodes = "\n".join(NODE.format(node=node, port=free_port(), **facts) for node in self.nodes)
        conf = SLURM_CONF.format(**facts, accounting=storage.format(**facts), nodes=nodes)
        (self.folder / "slurm.conf").write_text(conf)
        devices = f"{self.folder}/gpu/[0-{self.gpus - 1}]"
        gres = "".join(f"NodeName={node} Name=gpu Type=fake File={devices}\n" for node in self.nodes)
        (self.folder / "gres.conf").write_text(f"AutoDetect=off\n{gres}")
        dbd = self.folder / "slurmdbd.conf"
        dbd.write_text(SLURMDBD_CONF.format(**facts))
        dbd.chmod(0o600)

    def start_accounting(self) -> None:
        """MariaDB with a data folder of its own, slurmdbd, and this user in the one account."""
        data, mysql = self.folder / "mysql", self.folder / "mysql.socket"
        made = [
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=socket",
        ]
        self.command(*made, "--skip-test-db", "--user=root")
        serve = ["--no-defaults", "--user=root", f"--datadir={data}", f"--socket={mysql}"]
        serve += [
            "--bind-address=127.0.0.1",
            f"--port={self.mysql_port}",
            f"--pid-file={self.folder}/mysql.pid",
        ]
        self.daemon(
            "mariadbd", *serve, "--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900"
        )
        self.wait("mariadbd", mysql.exists)
        grant = f"CREATE USER slurm@'127.0.0.1' IDENTIFIED BY '{self.password}'; CREATE DATABASE slurm;"
        grant += " GRANT ALL ON slurm.* TO slurm@'127.0.0.1';"
        self.command("mariadb", "--no-defaults", f"--socket={mysql}", "--user=root", f"--execute={grant}")
        self.daemon("slurmdbd", "-D")
        self.wait("slurmdbd", lambda: self.succeeds("sacctmgr", "-n", "show", "cluster"))
        user = Path("~").expanduser().owner()
        for words in (["cluster", "test"], ["account", ACCOUNT], ["user", user, f"account={ACCOUNT}"]):
            self.command("sacctmgr", "-i", "add", *words)

    def daemon(self, program: str, *options: str) -> None:
        """Start a daemon in the foreground, its words in <program>.out; it ends when this process does."""
        with (self.folder / f"{program}.out").open("wb") as output:
            command = ["setpriv", "--pdeathsig", "TERM", program, *options]
            started = subprocess.Popen(
                command,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=self.folder,
            )
        self.daemons.append((program, started))

    def wait(self, what: str, ready: Callable[[], bool]) -> None:
        """Wait until something is ready. Raises RuntimeError if it is late, or if a daemon has ended."""
        until = time.monotonic() + READY_WITHIN
        while not ready():
            ended = [name for name, process in self.daemons if process.poll() is not None]
            if ended or time.monotonic() > until:
                output = {name: (self.folder / f"{name}.out").read_text()[-800:] for name, _ in self.daemons}
                raise RuntimeError(f"test cluster: {what} is not ready, ended: {ended}, said: {output}")
            time.sleep(0.1)

    def succeeds(self, *command: str) -> bool:
        """Whether a command ends well."""
        return subprocess.run(command, env=self.environment, capture_output=True).returncode == 0

    def command(self, *command: str) -> str:
        """What a command prints. Raises RuntimeError with its words if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def jobs(self, *states: str) -> list[dict[str, str]]:
        """The jobs that the cluster knows, in any state or in these, array tasks one by one."""
        wanted = ",".join(states) or "all"
        facts = {"id": "%i", "name": "%j", "state": "%T", "partition": "%P", "comment": "%k"}
        format = "|".join(facts.values())
        lines = self.command("squeue", "-h", "-r", "-t", wanted, "-o", format).splitlines()
        return [dict(zip(facts, line.split("|"), strict=True)) for line in lines]

    def stop(self) -> None:
        """Cancel all jobs, end all daemons, last started first, and remove the folder."""
        if any(name == "slurmctld" for name, _ in self.daemons):
            self.succeeds("scancel", "--signal=KILL", "--full", "--user=root")
            self.succeeds("scancel", "--user=root")
            until = time.monotonic() + STOPPED_WITHIN
            while time.monotonic() < until and self.jobs("R", "CG"):
                time.sleep(0.2)
        for _, process in reversed(self.daemons):
            process.terminate()
            try:
                process.wait(STOPPED_WITHIN)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.daemons.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def main(arguments: list[str]) -> None:
    """`install`, or `run COMMAND...`: the command's exit status is ours."""
    if arguments == ["install"]:
        install()
    elif len(arguments) > 1 and arguments[0] == "run":
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        with Cluster(accounting="ACCOUNTING" in os.environ) as cluster:
            sys.exit(subprocess.run(arguments[1:], env=cluster.environment).returncode)
    else:
        sys.exit("usage: python tests/slurm_cluster.py install | run COMMAND...")


if __name__ == "__main__":
    main(sys.argv[1:])
