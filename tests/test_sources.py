"""Sources of a hub: locked to commits and hashes, fetched as locked, refused otherwise. Without a network."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny_encoders
import yaml
from benchmark_cases import make_rows, picture_bytes
from tiny_hub import Repository, serve_hub
from tiny_language_model import write_tiny_language_model

from encoder_roles.benchmarks.rows import kept_rows, picture_cell, write_rows
from encoder_roles.benchmarks.table import IMAGES, TASKS, Benchmark
from encoder_roles.evaluation.harness import load_task
from encoder_roles.study.names import BENCHMARKS

BASE_ROWS = 60
WEIGHTS = "model*.safetensors"
SOURCES = {
    "encoders/clip": {"kind": "model", "repository": "tiny/clip", "revision": "main", "weights": WEIGHTS},
    "language_model": {"kind": "model", "repository": "tiny/words", "revision": "main", "weights": WEIGHTS},
}


def write_public_data(root: Path, benchmark: Benchmark) -> None:
    """A data set in the hub's format with as many rows as the public one, a few of them repeated often."""
    folder = root / "datasets" / benchmark.source
    path = folder / (benchmark.config or "data") / f"{benchmark.split}-00000-of-00002.parquet"
    write_rows(path, benchmark.name, make_rows(benchmark.name, BASE_ROWS, random.Random(benchmark.name)))
    table = pq.read_table(path)
    kept = kept_rows(benchmark, table)
    table = pa.concat_tables(
        [table, kept.take(pa.array([i % len(kept) for i in range(benchmark.questions - len(kept))]))]
    )
    if benchmark.images:
        ids = sorted(set(table.column("imageId").to_pylist()))
        cells = [picture_cell(f"{id}.jpg", picture_bytes(place)) for place, id in enumerate(ids)]
        struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        images = pa.table({"id": ids, "image": pa.array(cells, struct)})
        (folder / benchmark.images).mkdir(parents=True)
        pq.write_table(images, folder / benchmark.images / f"{benchmark.split}-00000-of-00001.parquet")
        table = table.drop_columns("image")
    half = len(table) // 2
    pq.write_table(table.slice(0, half), path)
    pq.write_table(table.slice(half), path.with_name(f"{benchmark.split}-00001-of-00002.parquet"))


def write_cards(root: Path) -> None:
    """What divides each data set into configurations and splits."""
    configs: dict[str, list[dict[str, Any]]] = {}
    for row in TASKS.values():
        for config in filter(None, (row.config or "default", row.images)):
            path = f"{'data' if config == 'default' else config}/{row.split}-*"
            entry = {"config_name": config, "data_files": [{"split": row.split, "path": path}]}
            configs.setdefault(row.source, []).append(entry)
    for repository, entries in configs.items():
        card = yaml.safe_dump({"configs": entries})
        (root / "datasets" / repository / "README.md").write_text(f"---\n{card}---\n# A data set\n")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    root = tmp_path_factory.mktemp("hub")
    tiny_encoders.write_clip(root / "models/tiny/clip")
    (root / "models/tiny/clip/pytorch_model.bin").write_bytes(b"pickled weights")
    write_tiny_language_model(root / "models/tiny/words")
    (root / "models/tiny/pickled").mkdir()
    (root / "models/tiny/pickled/pytorch_model.bin").write_bytes(b"pickled weights")
    for benchmark in TASKS.values():
        write_public_data(root, benchmark)
    write_cards(root)
    with serve_hub(root) as address:
        yield root, address


CALLS = (
    "import json, sys\nfrom encoder_roles.cli import main\nfor call in json.loads(sys.argv[1]): main(call)"
)


def words(command: str, **options: Path | str) -> list[str]:
    """A call of a command."""
    return [command, *(text for name, value in options.items() for text in (f"--{name}", str(value)))]


def run_all(address: str, folder: Path, calls: Sequence[Sequence[str]]) -> subprocess.CompletedProcess[str]:
    """Commands in a process of their own: the hub's address is read when the libraries are imported."""
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(folder / "cache"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", CALLS, json.dumps(calls)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def run(address: str, folder: Path, command: str, **options: Path | str) -> subprocess.CompletedProcess[str]:
    """One command."""
    return run_all(address, folder, [words(command, **options)])


def write_settings(folder: Path, benchmarks: tuple[str, ...], **changes: dict[str, str]) -> Path:
    sources = {name: source | changes.get(name, {}) for name, source in SOURCES.items()}
    stage = {"study": "tiny", "sources": sources, "benchmarks": benchmarks}
    (folder / "lock.json").write_text(json.dumps(stage))
    return folder / "lock.json"


@pytest.fixture(scope="module")
def locked(hub: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the settings and the lock of a study that takes everything from the hub."""
    folder = tmp_path_factory.mktemp("study")
    settings = write_settings(folder, BENCHMARKS)
    done = run(hub[1], folder, "lock-sources", settings=settings, output=folder / "tiny.lock.yaml")
    assert done.returncode == 0, done.stderr
    return folder


def test_a_lock_names_the_commit_and_the_files_that_are_read_and_no_others(
    hub: tuple[Path, str], locked: Path
) -> None:
    lock = yaml.safe_load((locked / "tiny.lock.yaml").read_text())
    clip = lock["sources"]["encoders/clip"]
    repository = Repository(hub[0] / "models/tiny/clip")
    assert clip["commit"] == repository.commit
    assert set(clip["files"]) == {"config.json", "model.safetensors"}
    for name, file in clip["files"].items():
        assert (file["digest"], file["size"]) == (
            repository.digest(name),
            repository.files[name].stat().st_size,
        )
    assert set(lock["sources"]["benchmarks/gqa/images"]["files"]) == {
        f"{TASKS['gqa'].images}/testdev-00000-of-00001.parquet"
    }
    assert len(lock["sources"]["benchmarks/cvbench2d"]["files"]) == 2
    assert len(lock["sources"]) == len(SOURCES) + len(BENCHMARKS) + 1


def test_a_fetched_checkpoint_is_the_repositorys_and_can_be_staged(
    hub: tuple[Path, str], locked: Path, tmp_path: Path
) -> None:
    done = run(
        hub[1],
        tmp_path,
        "fetch-source",
        settings=locked / "lock.json",
        lock=locked / "tiny.lock.yaml",
        source="encoders/clip",
        output=tmp_path / "clip",
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "clip").iterdir()) == [
        "SHA256SUMS",
        "config.json",
        "model.safetensors",
    ]
    original = hub[0] / "models/tiny/clip/model.safetensors"
    assert (tmp_path / "clip/model.safetensors").read_bytes() == original.read_bytes()
    assert (tmp_path / "clip/SHA256SUMS").read_text().count("\n") == 2


@pytest.fixture(scope="module")
def benchmarks(hub: tuple[Path, str], locked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every benchmark, fetched."""
    folder = tmp_path_factory.mktemp("benchmarks")
    read = {"settings": locked / "lock.json", "lock": locked / "tiny.lock.yaml"}
    calls = [
        words("fetch-benchmark", **read, benchmark=name, output=folder / name / "test.parquet")
        for name in BENCHMARKS
    ]
    done = run_all(hub[1], folder.parent, calls)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_fetched_benchmark_renders_all_its_published_questions(benchmark: str, benchmarks: Path) -> None:
    assert [p.name for p in (benchmarks / benchmark).iterdir()] == ["test.parquet"]
    task = load_task(TASKS[benchmark], benchmarks / benchmark / "test.parquet", True)
    assert len(task.rows) == TASKS[benchmark].questions
    row = task.rows[len(task.rows) - 1]
    assert task.lmms.doc_to_visual(row)[0].size == (4, 4)
    assert task.lmms.doc_to_text(row)


def test_a_question_gets_the_picture_of_its_own_id(benchmarks: Path) -> None:
    rows = pq.read_table(benchmarks / "gqa" / "test.parquet")
    paths = [cell["path"] for cell in rows.column("image").to_pylist()]
    assert paths == [f"{id}.jpg" for id in rows.column("imageId").to_pylist()]


def spoil_lock(locked: Path, folder: Path, source: str, **changes: Any) -> Path:
    """A lock in which something about one source is another."""
    lock = yaml.safe_load((locked / "tiny.lock.yaml").read_text())
    entry = lock["sources"][source]
    for key, value in changes.items():
        if key == "asked":
            entry["asked"] |= value
        elif key in ("digest", "size"):
            file = next(name for name in entry["files"] if name.endswith((".safetensors", ".parquet")))
            entry["files"][file][key] = value
        else:
            entry[key] = value
    (folder / "lock.yaml").write_text(yaml.safe_dump(lock))
    return folder / "lock.yaml"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"digest": "0" * 64}, r"model\.safetensors: its sha256 is .*but 0000.* in the lock"),
        ({"size": 7}, r"bytes, but 7 in the lock"),
        ({"asked": {"revision": "v2"}}, "was locked with revision 'v2', the study now has 'main'"),
        ({"commit": "f" * 40}, "encoders/clip.*tiny/clip"),
    ],
)
def test_a_checkpoint_that_is_not_as_locked_is_one_error_and_leaves_nothing(
    changes: dict[str, Any], message: str, hub: tuple[Path, str], locked: Path, tmp_path: Path
) -> None:
    lock = spoil_lock(locked, tmp_path, "encoders/clip", **changes)
    options: dict[str, Path | str] = {"settings": locked / "lock.json", "source": "encoders/clip"}
    done = run(hub[1], tmp_path, "fetch-source", **options, lock=lock, output=tmp_path / "clip")
    assert_one_line(done, message)
    assert not (tmp_path / "clip").exists()


def test_another_number_of_questions_is_another_data_set(
    hub: tuple[Path, str], locked: Path, tmp_path: Path
) -> None:
    root = tmp_path / "hub"
    shutil.copytree(hub[0], root)
    file = root / "datasets/lmms-lab-eval/MMVP/data/train-00001-of-00002.parquet"
    pq.write_table(pq.read_table(file).slice(2), file)
    settings = write_settings(tmp_path, ("mmvp",))
    with serve_hub(root) as address:
        run(address, tmp_path, "lock-sources", settings=settings, output=tmp_path / "lock.yaml")
        options: dict[str, Path | str] = {"settings": settings, "lock": tmp_path / "lock.yaml"}
        output = tmp_path / "mmvp" / "test.parquet"
        done = run(address, tmp_path, "fetch-benchmark", **options, benchmark="mmvp", output=output)
    assert_one_line(done, "298 questions of benchmark mmvp, not the 300 that published scores")
    assert not output.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"revision": "v9"}, "tiny/clip at 'v9'"),
        ({"repository": "tiny/nothing"}, "tiny/nothing"),
        (
            {"repository": "tiny/pickled"},
            r"has no weights as safetensors \(model\*\.safetensors\), only pytorch_model\.bin, and pickled",
        ),
        ({"weights": "open_clip_model.safetensors"}, r"has no weights as safetensors \(open_clip_model"),
    ],
)
def test_what_cannot_be_resolved_is_not_locked(
    change: dict[str, str], message: str, hub: tuple[Path, str], tmp_path: Path
) -> None:
    settings = write_settings(tmp_path, (), **{"encoders/clip": change})
    done = run(hub[1], tmp_path, "lock-sources", settings=settings, output=tmp_path / "lock.yaml")
    assert_one_line(done, message)
    assert not (tmp_path / "lock.yaml").exists()


def test_without_a_lock_nothing_is_fetched(hub: tuple[Path, str], locked: Path, tmp_path: Path) -> None:
    options: dict[str, Path | str] = {"settings": locked / "lock.json", "lock": tmp_path / "none.yaml"}
    done = run(
        hub[1], tmp_path, "fetch-source", **options, source="language_model", output=tmp_path / "words"
    )
    assert_one_line(done, "lock_sources")


def assert_one_line(done: subprocess.CompletedProcess[str], message: str) -> None:
    """Exit code 1 and one line that says so (a progress bar may stand before it)."""
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert re.search(message, last), done.stderr
    assert last.startswith("encoder-roles ")


def test_every_benchmarks_data_sets_are_named_once() -> None:
    names = [name for row in TASKS.values() for name in row.hub_sources]
    assert len(names) == len(set(names)) == len(BENCHMARKS) + 1
    assert f"benchmarks/gqa/{IMAGES}" in names
