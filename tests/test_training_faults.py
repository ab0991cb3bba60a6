"""What can happen to a training job, and that its results are then those of a job left alone."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from child_process import CONTEXT
from tiny_study import ALIGN, TUNE, TinyStudy, write_tiny_study
from waiting import there, wait_for

from encoder_roles.study.names import StudyError
from encoder_roles.training.align import train_align
from encoder_roles.training.loop import TERMINATED
from encoder_roles.training.tune import train_tune

KILLS = 10
TRIES = 30  # a job that goes on from its checkpoint may be done before its moment comes
FILES = {"align": "connector.safetensors", "tune": "model.safetensors"}
LONG = {"align": ALIGN | {"align": ALIGN["align"] | {"steps": 60}}, "tune": TUNE | {"tune": TUNE["tune"]}}
ROOM = 16_000  # bytes that are left on the full disk: not enough for a checkpoint


def run(study: TinyStudy, stage: str, restart: Path, output: Path) -> None:
    """One stage of clip+sam, as its command runs it."""
    common = {
        "settings": study.root / "settings" / f"{stage}.json",
        "subset": "clip+sam",
        "seed": 0,
        "encoders": tuple(study.encoders.values()),
        "language_model": study.language_model,
        "data": study.data,
        "restart": restart,
        "output": output,
    }
    if stage == "align":
        train_align(**common, features=study.features("clip", "sam"))
    else:
        train_tune(**common, align=study.root / "align")


def child(study: TinyStudy, stage: str, restart: Path, output: Path, text: Path, limit: int | None) -> None:
    """`run` in a process of its own; a StudyError is its one line, as the command line prints it."""
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        run(study, stage, restart, output)
    except StudyError as error:
        text.write_text(str(error))
        raise SystemExit(1) from None


def start(study, stage, restart, output, limit=None):
    process = CONTEXT.Process(
        target=child, args=(study, stage, restart, output, study.root / "output", limit)
    )
    process.start()
    return process


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study with both stages' undisturbed outputs."""
    study = write_tiny_study(tmp_path_factory.mktemp("faults"))
    for stage, settings in LONG.items():
        study.settings(stage, settings)
        run(study, stage, study.root / ".restart", study.root / stage)
    return study


def timed(study, stage, restart, output) -> float:
    """Seconds that a job left alone takes."""
    started = time.monotonic()
    start(study, stage, restart, output).join()
    shutil.rmtree(output)
    return time.monotonic() - started


def check_whole(study, stage, output) -> None:
    assert (output / FILES[stage]).read_bytes() == (study.root / stage / FILES[stage]).read_bytes()


def wait_while_alive(condition, process) -> bool:
    """Wait until a condition holds; False if the process ends before."""
    return wait_for(condition, alive=process.is_alive, interval=0.0005)


@pytest.mark.parametrize("stage", ["align", "tune"])
def test_a_job_killed_at_random_moments_ends_in_the_bytes_of_one_left_alone(study, stage, tmp_path):
    restart, output = tmp_path / "restart", tmp_path / stage
    moments = random.Random(stage)
    lasts = timed(study, stage, restart, output)
    kills = during_save = 0
    for _ in range(TRIES):
        if kills == KILLS // 2:
            break
        process = start(study, stage, restart, output)
        if kills == 1:  # one of them while a checkpoint is written
            alive = wait_while_alive(lambda: there(restart, "*/.step*.part"), process)
            during_save += alive
        else:
            process.join(moments.random() * lasts)
            alive = process.is_alive()
        process.kill()
        process.join()
        if output.exists():  # it was faster, or was killed between its last write and its end
            check_whole(study, stage, output)
            shutil.rmtree(output)
        else:
            kills += process.exitcode == -signal.SIGKILL
    assert (kills, during_save) == (KILLS // 2, 1)
    last = start(study, stage, restart, output)
    last.join()
    assert last.exitcode == 0
    check_whole(study, stage, output)
    assert not list(restart.glob("*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_job_that_is_warned_saves_and_a_retry_goes_on(study, number, tmp_path):
    restart, output = tmp_path / "restart", tmp_path / "tune"
    process = start(study, "tune", restart, output)
    wait_while_alive(lambda: there(restart, "*/step*"), process)
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == TERMINATED
    assert not output.exists()
    again = start(study, "tune", restart, output)
    again.join()
    assert again.exitcode == 0
    check_whole(study, "tune", output)


@contextmanager
def full_disk(restart: Path) -> Iterator[int | None]:
    """A disk with ROOM bytes left: a small tmpfs that is filled, or where none can be mounted, a limit on the
    size of a process's files, which is given.
    """
    filler = restart / "filler"
    if not os.path.ismount(restart):
        yield ROOM
        return
    free = os.statvfs(restart).f_bavail * os.statvfs(restart).f_frsize
    filler.write_bytes(b"\0" * (free - ROOM))
    try:
        yield None
    finally:
        filler.unlink()


@pytest.fixture
def disk(tmp_path):
    """A folder that is a small file system of its own, where that is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True).returncode == 0
    yield folder
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_line_and_with_room_again_the_job_ends_in_the_same_bytes(study, disk, tmp_path):
    restart, output = disk, tmp_path / "tune"
    process = start(study, "tune", restart, output)
    wait_while_alive(lambda: there(restart, "*/step*"), process)
    os.kill(process.pid, signal.SIGTERM)
    process.join()
    before = {f: f.read_bytes() for f in restart.glob("*/step*/*")}
    assert before
    (study.root / "output").unlink(missing_ok=True)
    with full_disk(restart) as limit:
        process = start(study, "tune", restart, output, limit)
        process.join()
    text = (study.root / "output").read_text()
    assert process.exitcode == 1
    assert "the checkpoint of step" in text and "make room, then run the job again" in text
    assert "No space left" in text or "File too large" in text
    assert "\n" not in text
    assert {f: f.read_bytes() for f in restart.glob("*/step*/*")} == before
    assert not list(restart.glob("*/.step*"))
    again = start(study, "tune", restart, output)
    again.join()
    assert again.exitcode == 0
    check_whole(study, "tune", output)


@pytest.mark.parametrize("stage", ["align", "tune"])
def test_after_a_failed_final_write_no_step_is_repeated(study, stage, tmp_path):
    restart, file = tmp_path / "restart", tmp_path / "file"
    file.write_text("a file where the outputs' folder should be")
    with pytest.raises(StudyError, match="cannot be written"):
        run(study, stage, restart, file / stage)
    steps = len((study.root / stage / "log.jsonl").read_text().splitlines())
    assert f"step{steps:09d}" in {folder.name for folder in restart.glob("*/step*")}
    run(study, stage, restart, tmp_path / stage)
    check_whole(study, stage, tmp_path / stage)
