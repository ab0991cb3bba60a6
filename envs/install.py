"""Make the environment from its hash lock with Python 3.11 and pip: `python envs/install.py .venv`.

Does nothing when the environment already is the lock's; makes it anew when the lock has changed, so that it
never holds a package that the lock does not name. pip's own configuration (indexes, certificates) applies.
"""

import platform
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "envs" / "laptop.lock"
PYTHON = (3, 11)  # the lock's wheels are of this version


def main(folder: Path) -> None:
    """Make or update the virtual environment `folder`."""
    check_machine()
    installed, package = folder / "laptop.lock", folder / "pyproject.toml"  # copies of what it was made from
    if not same(installed, LOCK):
        if folder.is_symlink() or (folder.exists() and not (folder / "pyvenv.cfg").exists()):
            sys.exit(f"{folder}: exists and is not a virtual environment: move it away, then run this again")
        print(f"{folder}: installing envs/laptop.lock (1.7 GB, two to four minutes)", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        run([base_python(), "-m", "venv", str(folder)])
        pip(folder, "--require-hashes", "-r", str(LOCK))
        shutil.copyfile(LOCK, installed)
    if not same(package, ROOT / "pyproject.toml"):
        pip(folder, "--no-build-isolation", "--editable", str(ROOT))
        shutil.copyfile(ROOT / "pyproject.toml", package)


def check_machine() -> None:
    """Stop with one line where the lock cannot fit."""
    if sys.version_info[:2] != PYTHON:
        needed = ".".join(map(str, PYTHON))
        found = f"{sys.executable} is {platform.python_version()}"
        sys.exit(f"Python {needed} is needed, {found}: install it, or make PYTHON=<path of python{needed}>")
    machine = f"{platform.system()} on {platform.machine()}"
    if machine != "Linux on x86_64":
        sys.exit(f"envs/laptop.lock is for Linux on x86_64, this is {machine}")


def base_python() -> str:
    """The interpreter outside every virtual environment: this one may lie in the folder that was just removed."""
    return str(Path(sys.base_prefix) / "bin" / f"python{PYTHON[0]}.{PYTHON[1]}")


def same(first: Path, second: Path) -> bool:
    """Whether both files exist with the same bytes."""
    return first.exists() and first.read_bytes() == second.read_bytes()


def pip(folder: Path, *arguments: str) -> None:
    """`pip install` into the environment; what pip says is shown when it fails."""
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
    run([str(folder / "bin" / "python"), "-m", "pip", "install", *options, *arguments])


def run(command: list[str]) -> None:
    """Run a command; end with its output, and with advice where the fault is a known one."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode == 0:
        return
    print(done.stdout, file=sys.stderr)
    if "torch==" in done.stdout and "No matching distribution" in done.stdout:
        sys.exit(
            "torch's CPU wheel was not found: it is not on PyPI but on PyTorch's own index of CPU wheels. "
            "Give pip that index (PIP_EXTRA_INDEX_URL, see PyTorch's installation page), then run this again"
        )
    sys.exit(f"the environment could not be installed: {' '.join(command[:4])} ended with {done.returncode}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python envs/install.py <folder of the environment>")
    main(Path(sys.argv[1]))
