"""Make an environment from its hash lock, with Python 3.11, 3.12 or 3.13, uv and pip.

`python3 envs/install.py` makes .venv, the environment of the laptop study. If the environment already matches
the lock, it does nothing. If the lock has changed, it starts again from an empty folder, so that no package
beside the lock remains. `python envs/install.py --into model` installs the lock of envs/model.yaml into the
environment that runs it, which conda has just made.

ENCODER_ROLES_PLATFORM chooses the lock: cpu or cuda. Without it, the lock with torch's small CPU build is
taken where pip can find that build, else the lock with the build of the public index. A copy of the lock in
the environment records what it was made from. pip's own configuration (indexes, certificates) applies. uv,
itself from the lock, installs several times faster than pip; where it fails, pip installs the same lock.
"""

# Old Pythons must be able to read this file, because it tells them that they are too old.
from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ((3, 11), (3, 12), (3, 13))  # the wheels of the locks are for these versions
MACHINES = ("Linux on x86_64", "Linux on aarch64", "Darwin on arm64")
PLATFORM = "ENCODER_ROLES_PLATFORM"
SIZES = {"cpu": "2.7 GB, one to four minutes", "cuda": "6 GB, two to ten minutes"}  # README has the same
BATCH = 12  # packages between two lines of progress
USAGE = "usage: python3 envs/install.py [<folder of the environment, default .venv>] | --into <name>"
GET_PYTHON = (
    "get one with `uv python install 3.11`, `conda create -n py311 python=3.11` or `sudo apt-get install "
    "python3 python3-venv` (Debian 12 and 13), then: make paper PYTHON=<path of that python>"
)
# prints a line per requirement on stdin: whether its marker holds for the Python that runs this
MARKERS = (
    "import sys; from pip._vendor.packaging.requirements import Requirement as R\n"
    "for line in sys.stdin: m = R(line).marker; print(int(m is None or m.evaluate()))"
)


def main(folder: Path) -> None:
    """Make or update the virtual environment `folder`."""
    check_machine()
    package = folder / "pyproject.toml"  # a copy of what the package was installed from
    if not any(same(folder / lock.name, lock) for lock in locks_of("laptop")):
        make_environment(folder)
    if not same(package, ROOT / "pyproject.toml"):
        pip(folder / "bin" / "python", "--no-build-isolation", "--editable", str(ROOT))
        shutil.copyfile(ROOT / "pyproject.toml", package)


def make_environment(folder: Path) -> None:
    """Make a virtual environment anew and install the lock."""
    if folder.is_symlink() or (folder.exists() and not (folder / "pyvenv.cfg").exists()):
        sys.exit(f"{folder}: exists and is not a virtual environment; move it away, then run this again")
    if importlib.util.find_spec("ensurepip") is None:
        sys.exit(f"{sys.executable} cannot make virtual environments: sudo apt-get install python3-venv")
    shutil.rmtree(folder, ignore_errors=True)
    run([base_python(), "-m", "venv", str(folder)])
    python = folder / "bin" / "python"
    lock = choose_lock("laptop", python)
    size = SIZES["cuda" if "cuda" in lock.name else "cpu"]
    print(f"{folder}: installing envs/{lock.name} ({size})", file=sys.stderr)
    install_lock(python, lock)
    shutil.copyfile(lock, folder / lock.name)


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
    lock = choose_lock(name, Path(sys.executable))
    pip(Path(sys.executable), "--require-hashes", "-r", str(lock))
    pip(Path(sys.executable), "--no-build-isolation", "--editable", str(ROOT))
    shutil.copyfile(lock, Path(sys.prefix) / lock.name)


def locks_of(name: str) -> list[Path]:
    """The locks that an environment can be made from: that of ENCODER_ROLES_PLATFORM; without it, both."""
    target = os.environ.get(PLATFORM)
    if target not in (None, "cpu", "cuda"):
        sys.exit(f"{PLATFORM}={target}: must be cpu or cuda")
    locks = []
    for kind in ("cpu", "cuda") if target is None else (target,):
        lock = ROOT / "envs" / ("laptop.lock" if (name, kind) == ("laptop", "cpu") else f"{name}.{kind}.lock")
        if not lock.is_file():
            sys.exit(f"envs/{lock.name}: no such lock; write it with `make relock`")
        locks.append(lock)
    return locks


def choose_lock(name: str, python: Path) -> Path:
    """The lock to install: the requested one, or the first of `locks_of` whose torch pip can find."""
    first, *others = locks_of(name)
    packages = [head_of(entry) for entry in entries_for(python, first)]
    small = [package for package in packages if package.startswith("torch==")]
    if "\ntorch==" not in first.read_text():  # it has none
        return first
    if not small:
        fault = f"is locked for Python 3.11 on Linux x86_64, and this is Python {platform.python_version()}"
        remedy = "use Python 3.11 and give"
    elif small[0].endswith("+cpu") and not pip_finds(python, small[0]):
        fault, remedy = "is on none of pip's indexes", "give"
    else:
        return first
    if not others:
        sys.exit(f"{PLATFORM}={os.environ[PLATFORM]}: its build of torch {fault}; unset it, or {remedy} it")
    print(
        f"torch's small CPU build (0.2 GB) {fault}: taking the public index's build with CUDA, 2.5 GB more "
        f"to download. For the small one, {remedy} pip PyTorch's index of CPU wheels (PIP_EXTRA_INDEX_URL), "
        "remove the environment and run this again.",
        file=sys.stderr,
    )
    return others[0]


def pip_finds(python: Path, requirement: str) -> bool:
    """Whether a version is on pip's indexes or in its folders of wheels, by their lists alone."""
    name, _, version = requirement.partition("==")
    listed = subprocess.run(
        [str(python), "-m", "pip", "index", "versions", name], capture_output=True, text=True
    ).stdout
    return version in re.split(r"[\s,]+", listed)


def entries_for(python: Path, lock: Path) -> list[str]:
    """The entries of a lock, each with its hashes, that a Python needs."""
    entries = re.split(r"\n(?=\w)", lock.read_text().strip())
    heads = "\n".join(re.match(r"[^\\\n]+", entry)[0] for entry in entries)
    done = subprocess.run(
        [str(python), "-c", MARKERS], input=heads, capture_output=True, text=True, check=True
    )
    return [entry for entry, needed in zip(entries, done.stdout.split()) if needed == "1"]  # noqa: B905


def head_of(entry: str) -> str:
    """The name and version of an entry: torch==2.13.0."""
    return re.match(r"[^\s;\\]+", entry)[0]


def check_machine() -> None:
    """Stop with one line on a Python or a machine that the locks are not for."""
    if sys.version_info[:2] not in PYTHONS:
        current = f"{sys.executable} is {platform.python_version()}"
        sys.exit(f"Python 3.11, 3.12 or 3.13 is needed, {current}: {GET_PYTHON}")
    machine = f"{platform.system()} on {platform.machine()}"
    if machine not in MACHINES:
        sys.exit(f"the locks are for {', '.join(MACHINES)}; this machine is {machine}")


def base_python() -> str:
    """The Python outside every virtual environment; `sys.executable` may be in the folder just removed."""
    return str(Path(sys.base_prefix) / "bin" / "python{}.{}".format(*sys.version_info))


def same(first: Path, second: Path) -> bool:
    """Whether both files exist with the same bytes."""
    return first.exists() and first.read_bytes() == second.read_bytes()


def install_lock(python: Path, lock: Path) -> None:
    """Install a lock with uv; with pip if uv cannot be had or does not succeed. Both check every hash."""
    entries = entries_for(python, lock)
    with tempfile.TemporaryDirectory() as temporary:
        tools = Path(temporary, "tools")
        if fetch_uv(python, entries, tools):
            command = [str(tools / "bin" / "uv"), "pip", "install", "--python", str(python), "--no-deps"]
            command += ["--link-mode", "copy"]
            if install_entries(command, entries, uv_settings(python)) is None:
                return
    print("uv did not install the lock: pip does, which takes some minutes more", file=sys.stderr)
    command = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--no-deps"]
    failed = install_entries(command, entries, {})
    if failed is not None:
        stop(failed)


def fetch_uv(python: Path, entries: list[str], tools: Path) -> bool:
    """Put the uv of the lock into a folder, by pip. Whether that succeeded."""
    pinned = [entry for entry in entries if entry.startswith("uv==")]
    if not pinned:
        return False
    tools.parent.joinpath("uv.txt").write_text(pinned[0])
    fetch = ["install", "--quiet", "--no-deps", "--require-hashes", "--target", str(tools)]
    command = [str(python), "-m", "pip", *fetch, "-r", str(tools.parent / "uv.txt")]
    return subprocess.run(command, capture_output=True).returncode == 0


def install_entries(
    command: list[str], entries: list[str], settings: dict[str, str]
) -> subprocess.CompletedProcess[str] | None:
    """Install entries of a lock, some at a time, and say how far it is. Returns the call that failed."""
    with tempfile.TemporaryDirectory() as temporary:
        environment = {**os.environ, **settings}
        for start in range(0, len(entries), BATCH):
            batch = entries[start : start + BATCH]
            show_progress(start + len(batch), len(entries), head_of(batch[-1]))
            requirements = Path(temporary, "batch.txt")
            requirements.write_text("\n".join(batch))
            call = [*command, "--require-hashes", "-r", str(requirements)]
            done = subprocess.run(
                call, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            if done.returncode:
                return done
    return None


def show_progress(number: int, total: int, last: str) -> None:
    """A line of progress; on a terminal it replaces the one before."""
    start, end = ("\r\033[K", "" if number < total else "\n") if sys.stderr.isatty() else ("", "\n")
    print(f"{start}  package {number} of {total}: {last}", end=end, file=sys.stderr, flush=True)


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
    if values.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        settings["UV_NO_INDEX"] = "1"
    # a package that two indexes have: any of them, as pip does it; the hash decides
    return {**settings, "UV_INDEX_STRATEGY": "unsafe-best-match", "UV_NO_CONFIG": "1"}


def pip(python: Path, *arguments: str) -> None:
    """Run `pip install` with a Python; pip's output is shown only if it fails."""
    options = ["--quiet", "--disable-pip-version-check", "--no-input", "--no-deps"]
    run([str(python), "-m", "pip", "install", *options, *arguments])


def run(command: list[str]) -> None:
    """Run a command. If it fails, print its output and end."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        stop(done)


def stop(failed: subprocess.CompletedProcess[str]) -> None:
    """Print the output of a command that failed, and end."""
    print(failed.stdout, file=sys.stderr)
    command = " ".join(map(str, failed.args[:4]))
    sys.exit(f"could not install the environment: {command} ended with code {failed.returncode}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    if len(arguments) == 2 and arguments[0] == "--into":
        fill(arguments[1])
    elif len(arguments) < 2 and not "".join(arguments).startswith("-"):
        main(Path(*arguments) if arguments else Path(".venv"))
    else:
        sys.exit(USAGE)
