"""The model and data hub, through huggingface_hub and datasets: what a name means; its files, verified."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

import datasets
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from huggingface_hub.hf_api import RepoSibling

from encoder_roles.provenance import PICKLED, sha256_of
from encoder_roles.sources.locked import LockedFile, LockedSource
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import HubSource

# What is read of a model repository beside its weights, which are safetensors.
SMALL_FILES = ("*.json", "*.jinja", "merges.txt", "vocab.txt", "tokenizer.model")
BLOCK = 1 << 20


def resolve_source(name: str, asked: HubSource) -> LockedSource:
    """Ask the hub which commit a revision is, and which files of it are read. Raises StudyError."""
    with _explained(name, asked):
        ask = HfApi().model_info if asked.kind == "model" else HfApi().dataset_info
        info = ask(asked.repository, revision=asked.revision, files_metadata=True)
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        commit = str(info.sha)
        chosen = _model_files(siblings, asked) if asked.kind == "model" else _split_files(asked, commit)
    if not chosen:
        wanted = "parquet files of this split"
        if asked.kind == "model":
            wanted = f"weights as safetensors ({asked.weights})"
            if pickled := sorted(path for path in siblings if Path(path).suffix in PICKLED):
                wanted += f", only {', '.join(pickled)}, and pickled weights are not read"
        raise StudyError(
            f"source {name!r}: {asked.repository} at {asked.revision!r} has no {wanted}; "
            "name a revision or a repository that has them"
        )
    files = {path: _locked_file(siblings[path]) for path in sorted(chosen)}
    return LockedSource(asked=asked, commit=commit, files=files)


def fetch_files(name: str, locked: LockedSource, folder: Path) -> list[Path]:
    """Download a locked source's files into `folder`, each held against its size and hash.

    Files keep their paths in the repository. Raises StudyError for the first that is not as locked.
    """
    asked, fetched = locked.asked, []
    with tempfile.TemporaryDirectory(dir=folder) as cache, _explained(name, asked):
        for path, expected in locked.files.items():
            found = hf_hub_download(
                asked.repository, path, repo_type=asked.kind, revision=locked.commit, cache_dir=cache
            )
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(Path(found).resolve(), target)
            check_file(target, expected, f"source {name!r}: {asked.repository}@{locked.commit[:12]}/{path}")
            fetched.append(target)
    return fetched


def check_file(file: Path, expected: LockedFile, where: str) -> None:
    """Hold a file against the lock. Raises StudyError that begins with `where`."""
    if (size := file.stat().st_size) != expected.size:
        raise StudyError(f"{where}: {size:,} bytes, the lock says {expected.size:,}; fetch it again")
    digest = sha256_of(file) if expected.algorithm == "sha256" else _git_sha1(file)
    if digest != expected.digest:
        raise StudyError(
            f"{where}: its {expected.algorithm} is {digest[:16]}…, the lock says {expected.digest[:16]}…; "
            "fetch it again, and do not use it if that does not help"
        )


def _model_files(names: Iterable[str], asked: HubSource) -> list[str]:
    """The files of a model repository that are read; none if it lacks the weights as safetensors."""
    top = [name for name in names if "/" not in name]
    if not any(fnmatch(name, asked.weights) for name in top):
        return []
    read = (asked.weights, *SMALL_FILES)
    return [name for name in top if any(fnmatch(name, pattern) for pattern in read)]


def _split_files(asked: HubSource, commit: str) -> list[str]:
    """The parquet files of a data set's split, as the data set's own card divides them."""
    with tempfile.TemporaryDirectory() as cache:
        builder = datasets.load_dataset_builder(
            asked.repository, asked.config or None, revision=commit, cache_dir=cache
        )
    data_files = builder.config.data_files or {}
    if asked.split not in data_files:
        raise ValueError(f"no split {asked.split!r}, it has {sorted(map(str, data_files))}")
    start = f"hf://datasets/{asked.repository}@{commit}/"
    paths = [str(path).removeprefix(start) for path in data_files[asked.split]]
    return [path for path in paths if path.endswith(".parquet")]


def _locked_file(sibling: RepoSibling) -> LockedFile:
    size = int(sibling.size or 0)
    if sibling.lfs:
        return LockedFile(size=size, algorithm="sha256", digest=sibling.lfs.sha256)
    return LockedFile(size=size, algorithm="git-sha1", digest=str(sibling.blob_id))


def _git_sha1(file: Path) -> str:
    """What git calls a blob of these bytes."""
    digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _explained(name: str, asked: HubSource) -> Iterator[None]:
    """Turn the libraries' errors into one line that names the source."""
    try:
        yield
    except StudyError:
        raise
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(
            f"source {name!r}: {asked.kind} {asked.repository} at {asked.revision!r}: {reason:.300}"
        ) from error
