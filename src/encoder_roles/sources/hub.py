"""The model and data hub, through huggingface_hub and datasets: names resolved, files verified."""

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

# The files of a model repository that are read, beside its weights (safetensors).
SMALL_FILES = ("*.json", "*.jinja", "merges.txt", "vocab.txt", "tokenizer.model")
BLOCK = 1 << 20


def resolve_source(name: str, source: HubSource) -> LockedSource:
    """The commit of a revision, and the files of it that are read. Raises StudyError if there are none."""
    with _explained(name, source):
        read_info = HfApi().model_info if source.kind == "model" else HfApi().dataset_info
        info = read_info(source.repository, revision=source.revision, files_metadata=True)
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
        commit = str(info.sha)
        chosen = _model_files(siblings, source) if source.kind == "model" else _split_files(source, commit)
    if not chosen:
        wanted = "parquet files of this split"
        if source.kind == "model":
            wanted = f"weights as safetensors ({source.weights})"
            if pickled := sorted(path for path in siblings if Path(path).suffix in PICKLED):
                wanted += f", only {', '.join(pickled)}, and pickled weights are not allowed"
        raise StudyError(
            f"source {name!r}: {source.repository} at {source.revision!r} has no {wanted}; "
            "name a revision or a repository that has them"
        )
    files = {path: _locked_file(siblings[path]) for path in sorted(chosen)}
    return LockedSource(asked=source, commit=commit, files=files)


def fetch_files(name: str, locked: LockedSource, folder: Path) -> list[Path]:
    """Download a locked source's files into `folder`, and check the size and hash of each.

    Files keep their paths in the repository. Raises StudyError for the first that differs from the lock.
    """
    source, fetched = locked.asked, list[Path]()
    with tempfile.TemporaryDirectory(dir=folder) as cache, _explained(name, source):
        for path, expected in locked.files.items():
            download = hf_hub_download(
                source.repository, path, repo_type=source.kind, revision=locked.commit, cache_dir=cache
            )
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(Path(download).resolve(), target)
            check_file(target, expected, f"source {name!r}: {source.repository}@{locked.commit[:12]}/{path}")
            fetched.append(target)
    return fetched


def check_file(file: Path, expected: LockedFile, where: str) -> None:
    """Check a file against the lock. Raises StudyError, which begins with `where`, if it differs."""
    if (size := file.stat().st_size) != expected.size:
        raise StudyError(f"{where}: {size:,} bytes, but {expected.size:,} in the lock; fetch it again")
    digest = sha256_of(file) if expected.algorithm == "sha256" else _git_sha1(file)
    if digest != expected.digest:
        raise StudyError(
            f"{where}: its {expected.algorithm} is {digest[:16]}…, but {expected.digest[:16]}… in the lock; "
            "fetch it again, and do not use it if that fails too"
        )


def _model_files(names: Iterable[str], source: HubSource) -> list[str]:
    """The files of a model repository that are read; empty if it has no weights as safetensors."""
    top = [name for name in names if "/" not in name]
    if not any(fnmatch(name, source.weights) for name in top):
        return []
    read = (source.weights, *SMALL_FILES)
    return [name for name in top if any(fnmatch(name, pattern) for pattern in read)]


def _split_files(source: HubSource, commit: str) -> list[str]:
    """The parquet files of a split, as the data set's card defines it."""
    with tempfile.TemporaryDirectory() as cache:
        builder = datasets.load_dataset_builder(
            source.repository, source.config or None, revision=commit, cache_dir=cache
        )
    data_files = builder.config.data_files or {}
    if source.split not in data_files:
        raise ValueError(f"no split {source.split!r}; it has {sorted(map(str, data_files))}")
    start = f"hf://datasets/{source.repository}@{commit}/"
    paths = [str(path).removeprefix(start) for path in data_files[source.split]]
    return [path for path in paths if path.endswith(".parquet")]


def _locked_file(sibling: RepoSibling) -> LockedFile:
    size = int(sibling.size or 0)
    if sibling.lfs:
        return LockedFile(size=size, algorithm="sha256", digest=sibling.lfs.sha256)
    return LockedFile(size=size, algorithm="git-sha1", digest=str(sibling.blob_id))


def _git_sha1(file: Path) -> str:
    """The SHA-1 that git gives a blob of these bytes."""
    digest = hashlib.sha1(f"blob {file.stat().st_size}\0".encode(), usedforsecurity=False)
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _explained(name: str, source: HubSource) -> Iterator[None]:
    """Turn errors of the libraries into one line that names the source."""
    try:
        yield
    except StudyError:
        raise
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(
            f"source {name!r}: {source.kind} {source.repository} at {source.revision!r}: {reason:.300}"
        ) from error
