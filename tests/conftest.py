"""What more than one file needs: test clusters, and who may run.

Tests marked `slurm` fail without Slurm. Those marked `cuda` need a GPU: without one they are not selected,
and the summary says so.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from slurm_cluster import Cluster, missing_programs

if TYPE_CHECKING:
    from tiny_study import TinyStudy

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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "fuzz" not in config.option.markexpr:  # not in addopts, which another -m would replace
        long = [item for item in items if item.get_closest_marker("fuzz")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        items[:] = [item for item in items if item not in marked]
        config.hook.pytest_deselected(items=marked)
        config.stash[_left_out] = len(marked)


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
