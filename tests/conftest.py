"""What several test files need: which tests run, in which order and where; a tiny study; test clusters.

Tests marked `slurm` fail without Slurm. Tests marked `cuda` need a GPU: without one they are not selected,
and the summary says so. Tests marked `fuzz`, `index`, `bare` and `pages` take minutes and are selected only
by `-m` with that mark. `make test` runs each file in one worker of pytest-xdist, so that its fixtures are
made once and a cluster serves one test at a time.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for tiny models, more threads only wait for each other

import pytest
from slurm_checkout import Checkout
from slurm_cluster import Cluster, missing_programs

if TYPE_CHECKING:
    from tiny_study import TinyStudy

# The files that take longest, which start first; those that wait for Slurm before those that compute.
LONGEST = (
    "test_slurm_runs",
    "test_slurm_arrays",
    "test_slurm_processes",
    "test_training_processes",
    "test_rehearsal",
    "test_workflow_dag",
    "test_encoders_full_scale",
    "test_training_faults",
    "test_training_stages",
    "test_evaluation_adapter",
    "test_variants",
    "test_warm_start",
    "test_conda",
)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it

_left_out = pytest.StashKey[int]()
_sees_gpus: list[Callable[[], bool]] = []  # torch's own


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that are not marked `cuda` run on the CPU wherever they run: they compare its bytes."""
    if "torch" in sys.modules:
        import torch

        _sees_gpus[:] = _sees_gpus or [torch.cuda.is_available]
        marked = item.get_closest_marker("cuda")
        torch.cuda.is_available = _sees_gpus[0] if marked else lambda: False  # before fixtures of any scope


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist there is none
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """One worker more than cores: the tests of Slurm mostly wait."""
    return len(os.sched_getaffinity(0)) + 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
    leave_out_cuda(config, items)
    leave_out_long(config, items)


def leave_out_long(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests that take minutes unless their mark is asked for by name."""
    for mark in ("fuzz", "index", "bare", "pages", "real"):
        if mark not in config.option.markexpr:
            long = [item for item in items if item.get_closest_marker(mark)]
            items[:] = [item for item in items if item not in long]
            config.hook.pytest_deselected(items=long)


def leave_out_cuda(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests marked `cuda` where torch sees no GPU."""
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        items[:] = [item for item in items if item not in marked]
        config.hook.pytest_deselected(items=marked)
        config.stash[_left_out] = len(marked)
        if hasattr(config, "workeroutput"):  # in a worker of pytest-xdist
            config.workeroutput["left_out"] = len(marked)


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist there is none
def pytest_testnodedown(node: Any) -> None:
    """Every worker collects all tests; the summary is the controller's."""
    node.config.stash[_left_out] = getattr(node, "workeroutput", {}).get("left_out", 0)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if count := config.stash.get(_left_out, 0):
        terminalreporter.write_line(f"{count} tests marked cuda left out: torch sees no CUDA device")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """A tiny study with two encoders."""
    from tiny_study import write_tiny_study  # imports torch

    return write_tiny_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def model(study: TinyStudy) -> Path:
    """An untrained model of both encoders of the tiny study."""
    from tiny_study import write_model

    return write_model(study, "clip+sam", study.root / "full")


def start(cluster: Cluster) -> Iterator[Cluster]:
    """A running cluster; a test that asks for one fails where Slurm is not installed."""
    if missing := missing_programs():
        pytest.fail(
            f"Slurm is not installed here (no {', '.join(missing)}): `python tests/slurm_cluster.py install` "
            "as root, or leave these tests out with `make test TESTS='-m \"not slurm\"'`"
        )
    with cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Slurm without accounting, as small sites have it."""
    yield from start(Cluster(cpus=4))


@pytest.fixture(scope="session")
def accounting_cluster() -> Iterator[Cluster]:
    """Slurm with slurmdbd and MariaDB, where every job is charged to an account."""
    yield from start(Cluster(accounting=True))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Slurm's small study on one machine without Slurm, up to its scores: made by the first worker to ask."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    (shared / "undisturbed").mkdir(exist_ok=True)
    with (shared / "undisturbed.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        checkout = Checkout(shared / "undisturbed", None)
        if not (checkout.folder / "results/slurm/scores.parquet").exists():
            assert checkout.run("--", "results/slurm/scores.parquet", profile="") == 0, checkout.output()[
                -3000:
            ]
    return checkout
