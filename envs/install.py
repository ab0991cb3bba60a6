"""Make an environment from its hash lock, with Python 3.11, uv and pip.

`python envs/install.py .venv` makes the environment of the laptop study. If the environment already matches
the lock, it does nothing. If the lock has changed, it starts again from an empty folder, so that no package
beside the lock remains. `python envs/install.py --into model` installs the lock of envs/model.yaml into the
environment that runs it, which conda has just made.

ENCODER_ROLES_PLATFORM chooses the lock: cpu (the default) or cuda. A copy of the lock in the environment
records what it was made from. pip's own configuration (indexes, certificates) applies. uv, itself from the
lock, installs several times faster than pip; where it fails, pip installs the same lock.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = (3, 11)  # the wheels of the locks are for this version
PLATFORM = "ENCODER_ROLES_PLATFORM"


def main(folder: Path) -> None:
    """Make or update the virtual environment `folder`."""
    check_machine()
    lock = lock_of("laptop")
    installed, package = folder / lock.name, folder / "pyproject.toml"  # copies of what it was made from
    if not same(installed, lock):
        if folder.is_symlink() or (folder.exists() and not (folder / "pyvenv.cfg").exists()):
            sys.exit(f"{folder}: exists and is not a virtual environment; move it away, then run this again")
        size = "6.5 GB" if "cuda" in lock.name else "2.7 GB"
        print(f"{folder}: installing envs/{lock.name} ({size}, one to fifteen minutes)", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        run([base_python(), "-m", "venv", str(folder)])
        install_lock(folder / "bin" / "python", lock)
        shutil.copyfile(lock, installed)
    if not same(package, ROOT / "pyproject.toml"):
        pip(folder / "bin" / "python", "--no-build-isolation", "--editable", str(ROOT))
        shutil.copyfile(ROOT / "pyproject.toml", package)


def fill(name: str) -> None:
    """Install the lock of the environment `name`, and this package, for the Python that runs this."""
    check_machine()
    pinned = re.search(r"python=([\d.]+)", (ROOT / "envs" / f"{name}.yaml").read_text())
    if pinned is None or pinned[1] != platform.python_version():
        sys.exit(
            f"envs/{name}.yaml pins Python {pinned and pinned[1]}, {sys.prefix} has "
            f"{platform.python_version()}: conda did not make the pinned environment; remove that folder, "
            "then run this again"
        )
    lock = lock_of(name)
    pip(Path(sys.executable), "--require-hashes", "-r", str(lock))
    pip(Path(sys.executable), "--no-build-isolation", "--editable", str(ROOT))
    shutil.copyfile(lock, Path(sys.prefix) / lock.name)


def lock_of(name: str) -> Path:
    """The lock of an environment, for the platform that ENCODER_ROLES_PLATFORM names."""
    target = os.environ.get(PLATFORM, "cpu")
    if target not in ("cpu", "cuda"):
        sys.exit(f"{PLATFORM}={target}: must be cpu or cuda")
    lock = ROOT / "envs" / ("laptop.lock" if (name, target) == ("laptop", "cpu") else f"{name}.{target}.lock")
    if not lock.is_file():
        sys.exit(f"envs/{lock.name}: no such lock; write it with `make relock`")
    return lock


def check_machine() -> None:
    """Stop with one line on a Python or a machine that the locks are not for."""
    if sys.version_info[:2] != PYTHON:
        needed = ".".join(map(str, PYTHON))
        current = f"{sys.executable} is {platform.python_version()}"
        sys.exit(f"Python {needed} is needed, {current}: install it, or make PYTHON=<path of python{needed}>")
    machine = f"{platform.system()} on {platform.machine()}"
    if machine != "Linux on x86_64":
        sys.exit(f"the locks are for Linux on x86_64; this machine is {machine}")


def base_python() -> str:
    """The Python outside every virtual environment; `sys.executable` may be in the folder just removed."""
    return str(Path(sys.base_prefix) / "bin" / f"python{PYTHON[0]}.{PYTHON[1]}")


def same(first: Path, second: Path) -> bool:
    """Whether both files exist with the same bytes."""
    return first.exists() and first.read_bytes() == second.read_bytes()


def install_lock(python: Path, lock: Path) -> None:
    """Install a lock with uv; with pip if uv cannot be had or does not succeed. Both check every hash."""
    with tempfile.TemporaryDirectory() as temporary:
        pinned, tools = Path(temporary, "uv.txt"), Path(temporary, "tools")
        pinned.write_text(re.search(r"^uv==.*?(?=^\w|\Z)", lock_of("laptop").read_text(), re.M | re.S)[0])
        fetch = ["install", "--quiet", "--no-deps", "--require-hashes", "--target", str(tools)]
        fetched = subprocess.run([str(python), "-m", "pip", *fetch, "-r", str(pinned)], capture_output=True)
        if fetched.returncode == 0:
            command = [str(tools / "bin" / "uv"), "pip", "install", "--python", str(python), "--no-deps"]
            command += ["--require-hashes", "--link-mode", "copy", "-r", str(lock)]
            shown = None if sys.stderr.isatty() else subprocess.PIPE  # its progress bar, for a person
            done = subprocess.run(command, env=os.environ | uv_settings(python), stderr=shown)
            if done.returncode == 0:
                return
    print("uv did not install the lock: pip does, which takes some minutes more", file=sys.stderr)
    pip(python, "--require-hashes", "-r", str(lock))


def uv_settings(python: Path) -> dict[str, str]:
    """pip's configuration as uv's variables: uv does not read it by itself."""
    listed = subprocess.run(
        [str(python), "-m", "pip", "config", "list"], capture_output=True, text=True
    ).stdout
    values: dict[str, str] = {}
    for name, value in re.findall(r"^[^\n]*?\.([\w-]+)='(.*?)'$", listed, re.MULTILINE):
        values.setdefault(name, value.replace("\\n", " "))  # variables come before files
    names = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "cert": "SSL_CERT_FILE"}
    settings = {names[name]: value for name, value in values.items() if name in names}
    if "find-links" in values:
        settings["UV_FIND_LINKS"] = ",".join(values["find-links"].split())
    # a package that two indexes have: any of them, as pip does it; the hash decides
    return settings | {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_NO_CONFIG": "1"}


def pip(python: Path, *arguments: str) -> None:
    """Run `pip install` with a Python; pip's output is shown only if it fails."""
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
    run([str(python), "-m", "pip", "install", *options, *arguments])


def run(command: list[str]) -> None:
    """Run a command. If it fails, print its output and end, with advice if the fault is known."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode == 0:
        return
    print(done.stdout, file=sys.stderr)
    if "torch==" in done.stdout and "No matching distribution" in done.stdout:
        sys.exit(
            "torch's CPU wheel was not found. It is not on PyPI, but on PyTorch's own index of CPU wheels: "
            "give pip that index (PIP_EXTRA_INDEX_URL, see PyTorch's installation page), then run this again"
        )
    sys.exit(f"could not install the environment: {' '.join(command[:4])} ended with code {done.returncode}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--into", name]:
            fill(name)
        case [folder] if not folder.startswith("-"):
            main(Path(folder))
        case _:
            sys.exit("usage: python envs/install.py <folder of the environment> | --into <name>")
