"""Fixtures of more than one file: test clusters, whose tests are marked `slurm` and fail without Slurm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slurm_cluster import Cluster, missing_programs


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
