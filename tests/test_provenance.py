"""What is written appears whole, and everybody may read it whom the umask lets read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from encoder_roles.provenance import atomic_file, atomic_folder


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_umask_decides_who_may_read_a_file_whatever_library_wrote_it(umask: int, tmp_path: Path) -> None:
    """safetensors alone gives mode 0600."""
    with atomic_file(tmp_path / "connector.safetensors") as temporary:
        save_file({"weight": torch.zeros(1)}, temporary)
    with atomic_folder(tmp_path / "tune") as folder:
        (folder / "part").mkdir()
        save_file({"weight": torch.zeros(1)}, folder / "part/model.safetensors")
        (folder / "run.sh").touch(0o700)
        (folder / "link").symlink_to("nowhere")
    files = ("connector.safetensors", "tune/part/model.safetensors")
    assert {mode(tmp_path / file) for file in files} == {0o666 & ~umask}
    assert mode(tmp_path / "tune/run.sh") == 0o700 | (0o666 & ~umask)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["connector.safetensors", "tune"]
    assert {file.name for file in (tmp_path / "tune").iterdir()} == {"part", "run.sh", "link"}
