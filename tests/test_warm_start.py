"""A job that a warm parent forks is, from outside, the job that would have started cold."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_study import ALIGN, TUNE, TinyStudy, write_tiny_study
from waiting import there, wait_for

from encoder_roles.manifest.job import read_record, read_used
from encoder_roles.training.loop import TERMINATED
from encoder_roles.warm_start import OFF, WARM_VARIABLE
from encoder_roles.warm_start.setting import current_setting, first_difference

ROOT = Path(__file__).parents[1]
# as Snakemake gives jobs of one thread
THREADS = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "GOTO", "OPENBLAS", "MKL", "NUMEXPR")}
LONG = TUNE | {"tune": TUNE["tune"] | {"epochs": 200}}
SECONDS = 60.0
PLATFORM = "cuda" if list(Path(sys.prefix).glob("*.cuda.lock")) else "cpu"


def job_environment(address: str, **more: str) -> dict[str, str]:
    """The environment of a job in a run; pytest's own variables differ from test to test."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "ENCODER"))}
    run = {"ENCODER_ROLES_LOCKS": "envs", "ENCODER_ROLES_PLATFORM": PLATFORM, WARM_VARIABLE: address}
    return kept | THREADS | run | more


def command_line(name: str, **options: object) -> list[str]:
    """A command of this environment, each option as the rules write it."""
    words = [str(Path(sys.executable).parent / "encoder-roles"), name]
    for option, value in options.items():
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{option.replace('_', '-')}", *map(str, values)]
    return words


def start_job(words: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen(words, env=dict(environment), cwd=ROOT, stderr=stream)


def run_job(words: Sequence[str], environment: Mapping[str, str], log: Path) -> int:
    return start_job(words, environment, log).wait(SECONDS)


@dataclass
class Run:
    """What a run of the workflow has: a process that waits, and the variable by which jobs find it."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        return str(self.folder / "socket")

    @property
    def children(self) -> list[int]:
        file = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in file.read_text().split()]


@contextlib.contextmanager
def warm_run(folder: Path) -> Iterator[Run]:
    """A parent that has imported; it ends with the block: its pipe closes."""
    folder.mkdir(mode=0o700)
    waiting = [sys.executable, "-m", "encoder_roles.warm_start.parent", str(folder)]
    process = subprocess.Popen(waiting, stdin=subprocess.PIPE, start_new_session=True)
    run = Run(folder, process)
    try:
        wait_for((folder / "socket").exists)
        first = [*command_line("train-align"), "--help"]  # brings its environment and imports nothing
        subprocess.run(first, env=job_environment(run.address), cwd=ROOT, capture_output=True, check=True)
        wait_for((folder / "socket").exists)
        yield run
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(SECONDS)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> TinyStudy:
    study = write_tiny_study(tmp_path_factory.mktemp("warm"))
    study.settings("align", ALIGN)
    study.settings("tune", TUNE)
    study.settings("long", LONG)
    return study


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Iterator[Run]:
    with warm_run(tmp_path_factory.mktemp("run") / "warm") as run:
        yield run


def align(study: TinyStudy, output: Path, settings: str = "align") -> list[str]:
    return command_line(
        "train-align",
        settings=study.root / "settings" / f"{settings}.json",
        subset="clip+sam",
        seed=0,
        encoders=tuple(study.encoders.values()),
        language_model=study.language_model,
        features=study.features("clip", "sam"),
        data=study.data,
        restart=output.parent / "restart",
        output=output,
    )


def tune(study: TinyStudy, align: Path, output: Path, settings: str = "tune") -> list[str]:
    return command_line(
        "train-tune",
        settings=study.root / "settings" / f"{settings}.json",
        subset="clip+sam",
        seed=0,
        encoders=tuple(study.encoders.values()),
        language_model=study.language_model,
        align=align,
        data=study.data,
        restart=output.parent / "restart",
        output=output,
    )


def train_both(study: TinyStudy, address: str, folder: Path) -> Path:
    """A folder with what an align job and a tune job of it wrote, and their logs."""
    for name, words in (
        ("align", align(study, folder / "align")),
        ("tune", tune(study, folder / "align", folder / "tune")),
    ):
        assert run_job(words, job_environment(address), folder / f"{name}.log") == 0
    return folder


@pytest.fixture(scope="module")
def cold(study, tmp_path_factory) -> Path:
    """What jobs wrote that started cold."""
    return train_both(study, OFF, tmp_path_factory.mktemp("cold"))


@pytest.fixture(scope="module")
def warm(study, run, tmp_path_factory) -> Path:
    """What jobs wrote that a parent forked."""
    return train_both(study, run.address, tmp_path_factory.mktemp("warm"))


@pytest.fixture(scope="module")
def aligned(warm) -> Path:
    """The folder of an align job that ran warm."""
    return warm / "align"


def test_a_warm_job_writes_the_bytes_of_a_cold_one(warm, cold):
    assert read_used(warm / "tune.log") and not read_used(cold / "tune.log")
    files = ["align/connector.safetensors", "tune/model.safetensors", "tune/config.json", "tune/README.md"]
    for file in files:
        assert (warm / file).read_bytes() == (cold / file).read_bytes(), file


def test_a_warm_job_says_of_itself_what_a_cold_one_says(warm, cold):
    records = [read_record(folder / "align.log") for folder in (warm, cold)]
    assert records[0] is not None
    assert records[0] | {"start": None} == records[1] | {"start": None}


def test_bad_input_ends_a_warm_job_with_one_line_and_the_cold_exit_code(study, run, tmp_path):
    words = align(study, tmp_path / "out", settings="none")
    logs = []
    for name, address in (("warm", run.address), ("cold", OFF)):
        log = tmp_path / f"{name}.log"
        assert run_job(words, job_environment(address), log) == 1
        logs.append(log.read_text().splitlines()[1:])  # the first has the time
    assert logs[0] == logs[1]
    assert len(logs[0]) == 1 and logs[0][0].startswith("encoder-roles train-align: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_warned_warm_job_saves_and_its_retry_ends_in_the_cold_bytes(study, run, cold, number, tmp_path):
    words = tune(study, cold / "align", tmp_path / "tune")
    job = start_job(words, job_environment(run.address), tmp_path / "log")
    wait_for(lambda: there(tmp_path / "restart", "*/step*") or job.poll() is not None)
    job.send_signal(number)
    assert job.wait(SECONDS) == TERMINATED
    assert not (tmp_path / "tune").exists()
    assert run_job(words, job_environment(run.address), tmp_path / "log") == 0
    model = "tune/model.safetensors"
    assert (tmp_path / model).read_bytes() == (cold / model).read_bytes()


def running(study: TinyStudy, run: Run, aligned: Path, folder: Path) -> tuple[subprocess.Popen[bytes], int]:
    """A long job after its first checkpoint, and its child."""
    before = set(run.children)
    words = tune(study, aligned, folder / "tune", settings="long")
    job = start_job(words, job_environment(run.address), folder / "log")
    wait_for(lambda: there(folder / "restart", "*/step*"))
    (child,) = set(run.children) - before
    return job, child


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_killing_a_warm_job_kills_its_child(study, run, aligned, tmp_path):
    job, child = running(study, run, aligned, tmp_path)
    job.kill()
    job.wait()
    wait_for(lambda: not alive(child), seconds=10)
    assert not (tmp_path / "tune").exists()


def test_a_warm_job_dies_of_the_signal_that_its_child_died_of(study, run, aligned, tmp_path):
    job, child = running(study, run, aligned, tmp_path)
    os.kill(child, signal.SIGKILL)
    assert job.wait(SECONDS) == -signal.SIGKILL


def test_interrupting_a_warm_job_is_interrupting_a_cold_one(study, run, aligned, tmp_path):
    codes = []
    for name, address in (("warm", run.address), ("cold", OFF)):
        folder = tmp_path / name
        folder.mkdir()
        words = tune(study, aligned, folder / "tune", settings="long")
        job = start_job(words, job_environment(address), folder / "log")
        wait_for(lambda restart=folder / "restart": there(restart, "*/step*"))
        job.send_signal(signal.SIGINT)
        codes.append(job.wait(SECONDS))
        last = (folder / "log").read_text().splitlines()[-1]
        assert last == "encoder-roles train-tune: stopped; the same command starts it again"
    assert codes[0] == codes[1] != 0


def test_when_the_parent_is_killed_its_jobs_fail_and_the_next_one_starts_cold(study, aligned, tmp_path):
    with warm_run(tmp_path / "run") as run:
        job, child = running(study, run, aligned, tmp_path)
        run.process.kill()
        assert job.wait(SECONDS) == 1
        assert "run the job again" in (tmp_path / "log").read_text()
        wait_for(lambda: not alive(child), seconds=10)
        words, environment = [*command_line("train-align"), "--help"], job_environment(run.address)
        done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.startswith("usage: encoder-roles train-align")


def test_when_the_run_ends_its_parent_lets_running_jobs_finish_and_leaves_no_folder(study, aligned, tmp_path):
    with warm_run(tmp_path / "run") as run:
        job, child = running(study, run, aligned, tmp_path)
        assert run.process.stdin is not None
        run.process.stdin.close()
        wait_for(lambda: not run.folder.exists(), seconds=10)
        assert alive(child)
        job.terminate()
        assert job.wait(SECONDS) == TERMINATED
        assert run.process.wait(10) == 0


def test_the_parent_of_a_run_dies_with_the_run_even_if_that_is_killed(tmp_path):
    script = (
        "import os, time; from encoder_roles.warm_start import start; start.GPUS = ()\n"
        "start.start_waiting(); print(os.environ['ENCODER_ROLES_WARM'], flush=True); time.sleep(600)"
    )
    environment = {**os.environ, "TMPDIR": "/tmp"}  # noqa: S108  # a socket's path has to be short
    environment.pop(WARM_VARIABLE, None)
    words = [sys.executable, "-c", script]
    owner = subprocess.Popen(words, stdout=subprocess.PIPE, env=environment, text=True)
    assert owner.stdout is not None
    address = Path(owner.stdout.readline().strip())
    wait_for(address.exists)
    assert address.parent.stat().st_mode & 0o777 == 0o700
    owner.kill()
    owner.wait()
    wait_for(lambda: not address.parent.exists(), seconds=10)


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "PYTHONHASHSEED", "MALLOC_ARENA_MAX", "LD_BIND_NOW"])
def test_a_variable_that_changes_results_is_a_difference(name):
    mine = {"environment": dict(os.environ), "path": sys.path}
    theirs = {"environment": dict(os.environ) | {name: "7"}, "path": sys.path}
    assert first_difference(mine, theirs) == f"environment variable {name}"


def test_a_job_whose_environment_differs_starts_cold(study, run, tmp_path):
    words = align(study, tmp_path / "align")
    assert run_job(words, job_environment(run.address, PYTHONHASHSEED="1"), tmp_path / "log") == 0
    assert not read_used(tmp_path / "log")


def test_a_setting_equals_itself_across_processes():
    script = (
        "import json; from encoder_roles.warm_start.setting import current_setting\n"
        "print(json.dumps(current_setting()))"
    )
    words, streams = [sys.executable, "-c", script], {"capture_output": True, "check": True}
    first, second = (json.loads(subprocess.run(words, **streams).stdout) for _ in range(2))
    assert first_difference(first, second) is None
    assert first_difference(first, second | {"umask": 0o777}) == "umask"
    assert first_difference(current_setting(), current_setting()) is None


def test_a_command_that_loads_no_model_asks_no_parent(tmp_path):
    from encoder_roles.cli import COMMANDS
    from encoder_roles.warm_start.setting import MODULES

    modules = {name: target.partition(":")[0] for name, target in COMMANDS.items()}
    assert set(MODULES) <= set(modules.values())
    assert modules["score-predictions"] not in MODULES
    assert modules["assign-roles"] not in MODULES
