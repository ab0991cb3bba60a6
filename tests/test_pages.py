"""Every command in a code fence of README and docs runs, on the finished small study of CI.

The word behind `sh` on a fence says why its commands do not run here: `long` (CI itself runs them),
`network`, `cluster`. All others run, in a copy of the checkout whose laptop study is the small one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCES = {"sh", "sh long", "sh network", "sh cluster", "python", "yaml", "text"}
FINISHED = ROOT / "results/ci"
PICTURE = "pictures/<any>.png"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `info` is what stands behind the fence."""

    page: str
    line: int
    info: str
    code: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> list[Block]:
    """The fenced blocks of all pages."""
    collected = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
            line = text[: match.start()].count("\n") + 1
            collected.append(Block(str(page.relative_to(ROOT)), line, match[1], match[2]))
    return collected


RUN = [block for block in blocks() if block.info in ("sh", "python")]


def test_every_fence_says_what_it_holds_and_what_its_commands_need() -> None:
    assert {block.name: block.info for block in blocks() if block.info not in FENCES} == {}
    assert len(RUN) > 8


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout whose laptop study is the finished study of CI, and a table of one's own."""
    assert (FINISHED / "manifest.json").is_file(), "first run `make paper STUDY=studies/ci.yaml`"
    folder = tmp_path_factory.mktemp("pages")
    for path in ROOT.iterdir():
        if path.name not in (".git", ".snakemake", "results", "out"):
            (folder / path.name).symlink_to(path)
    shutil.copytree(FINISHED, folder / "results/laptop", copy_function=os.link)
    (folder / "table.csv").write_text("encoders,mme\nclip,50\nsam,40\nn,2114\n", encoding="utf-8")
    return folder


@pytest.mark.pages
@pytest.mark.parametrize("block", RUN, ids=[block.name for block in RUN])
def test_the_commands_of_a_page_run_as_they_stand(block: Block, checkout: Path) -> None:
    shutil.rmtree(checkout / "out", ignore_errors=True)
    picture = min((checkout / "results/laptop/data/test/pictures").glob("*.png"))
    code = block.code.replace(PICTURE, f"pictures/{picture.name}")
    command = [sys.executable] if block.info == "python" else ["bash", "-euo", "pipefail"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run = subprocess.run(
        [*command, "-c", code], cwd=checkout, env={**os.environ, "PATH": path}, capture_output=True, text=True
    )
    assert run.returncode == 0, f"{block.name}\n{run.stdout[-2000:]}{run.stderr[-2000:]}"
