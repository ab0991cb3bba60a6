"""A stand-in for `conda` on a machine without a channel: notes what it is asked for and makes venvs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ACTIVATE = 'export CONDA_PREFIX="$1" PATH="$1/bin:$PATH"\n'


def install(folder: Path) -> Path:
    """Write `conda` and `activate` into `folder`/bin, which goes on PATH; return the file of notes."""
    (folder / "bin").mkdir(parents=True)
    conda = folder / "bin/conda"
    conda.write_text(f'#!/bin/sh\nCONDA_STAND_IN="{folder}" exec "{sys.executable}" "{__file__}" "$@"\n')
    conda.chmod(0o755)
    (folder / "bin/activate").write_text(ACTIVATE)
    return folder / "calls.jsonl"


def make_environment(prefix: Path) -> None:
    """A venv with a copy of this environment's pip: installing pip takes many times longer."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    here, there = (sysconfig.get_path("purelib", vars={"base": base}) for base in (sys.prefix, str(prefix)))
    for folder in (Path(here, "pip"), *Path(here).glob("pip-*.dist-info")):
        shutil.copytree(folder, Path(there, folder.name))


def main(arguments: list[str]) -> None:
    """Answer as conda does to what Snakemake asks."""
    folder = Path(os.environ["CONDA_STAND_IN"])
    with (folder / "calls.jsonl").open("a") as notes:
        notes.write(json.dumps(arguments) + "\n")
    match arguments:
        case ["--version"]:
            print("conda 25.1.0")
        case ["info", "--json"]:
            print(json.dumps({"conda_prefix": str(folder), "platform": "linux-64"}))
        case ["config", "--get", "channel_priority", "--json"]:
            print(json.dumps({"get": {"channel_priority": "strict"}}))
        case ["env", "create", *options]:
            prefix = options[options.index("--prefix") + 1]
            make_environment(Path(prefix))
        case ["clean", *_]:
            pass
        case _:
            sys.exit(f"the stand-in for conda was asked for {arguments}")


if __name__ == "__main__":
    main(sys.argv[1:])
