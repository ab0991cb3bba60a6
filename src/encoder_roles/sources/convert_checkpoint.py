"""`convert-checkpoint`: pickled weights to safetensors, without running what a pickle may hold."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from encoder_roles.provenance import PICKLED, atomic_folder, sha256_of, versions, write_json, write_text
from encoder_roles.sources.stage_encoder import CHECKSUMS
from encoder_roles.study.names import StudyError

RECORD_FILE = "conversion.json"
INDEX = ".index.json"
WRAPPED = ("state_dict", "model")  # keys under which training scripts keep the weights
NEW_NAMES = {"open_clip_pytorch_model": "open_clip_model"}  # stem of a pickled file -> of safetensors
NOT_WEIGHTS = frozenset(
    {"training_args", "optimizer", "scheduler", "rng_state"}
)  # stems, in any training's folder


def convert_checkpoint(*, source: Path, output: Path) -> None:
    """Convert a folder with pickled weights to one with safetensors, which staging reads.

    Pickles are read with torch.load(weights_only=True), which refuses all that is not tensors. Names that
    share one tensor (tied weights) are written once. All other files are copied. SHA256SUMS has the hash of
    every file, conversion.json those of the pickled files and of what was made of each.

    Args:
        source: the folder of a repository: pytorch_model.bin or its shards, or one file such as
            open_clip_pytorch_model.bin or *.pth, beside the configuration and tokenizer.
        output: the folder to make.

    Raises:
        StudyError: there are no pickled weights, or safetensors beside them; two files that are not shards
            of one checkpoint; a file that is damaged or holds more than tensors.
    """
    files = pickled_files(source)
    with atomic_folder(output) as folder:
        record: dict[str, Any] = {"source": source.name, "files": {}, "tied": {}, "versions": versions()}
        weight_map: dict[str, str] = {}
        for place, file in enumerate(files, 1):
            target = new_name(file, place, len(files))
            weights, tied = untie(read_pickle(file))
            save_file(weights, folder / target, metadata={"format": "pt"})
            weight_map |= dict.fromkeys(weights, target)
            record["tied"] |= tied
            made = {"file": target, "sha256": sha256_of(folder / target)}
            record["files"][file.name] = {"sha256": sha256_of(file), "made": made}
        if len(files) > 1:
            size = sum((folder / name).stat().st_size for name in set(weight_map.values()))
            index = {"metadata": {"total_size": size}, "weight_map": weight_map}
            write_json(folder / f"model.safetensors{INDEX}", index)
        copy_others(source, folder)
        write_json(folder / RECORD_FILE, record)
        made_files = sorted(file for file in folder.rglob("*") if file.is_file())
        sums = (f"{sha256_of(file)}  {file.relative_to(folder).as_posix()}\n" for file in made_files)
        write_text(folder / CHECKSUMS, "".join(sums))
    if (output / "tokenizer.model").is_file() and not (output / "tokenizer.json").is_file():
        print(f"{output}: has no tokenizer.json; add the fast form of its tokenizer.model", file=sys.stderr)


def pickled_files(source: Path) -> list[Path]:
    """The pickled files of a checkpoint: the shards that its index names, or the only one."""
    if not source.is_dir():
        raise StudyError(f"{source}: no such folder; correct --source")
    if made := sorted(source.glob("*.safetensors")):
        raise StudyError(f"{source}: has {made[0].name} already; use the folder as it is")
    indices = [
        file for file in source.glob(f"*{INDEX}") if Path(file.name.removesuffix(INDEX)).suffix in PICKLED
    ]
    if len(indices) == 1:
        return shards_of(indices[0])
    files = sorted(f for f in source.iterdir() if f.suffix in PICKLED and f.stem not in NOT_WEIGHTS)
    if len(files) != 1 or indices:
        listed = ", ".join(file.name for file in (indices or files)) or "none"
        raise StudyError(
            f"{source}: needs one file of pickled weights, or shards with an index; has {listed}"
        )
    return files


def shards_of(index: Path) -> list[Path]:
    """The files that the index of a checkpoint names, in the order of their names."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StudyError(f"{index}: no index of a checkpoint ({error}); fetch it again") from None
    files = [index.parent / name for name in names]
    if missing := [file for file in files if not file.is_file()]:
        raise StudyError(f"{missing[0]}: missing, but {index.name} names it; fetch it again")
    return files


def new_name(file: Path, place: int, count: int) -> str:
    """The name under which transformers, timm or open_clip look for a file of weights."""
    if count > 1:
        return f"model-{place:05d}-of-{count:05d}.safetensors"
    return f"{NEW_NAMES.get(file.stem, 'model')}.safetensors"


def read_pickle(file: Path) -> dict[str, Tensor]:
    """The tensors of a pickled file by name, mapped from disk where its format allows."""
    try:
        mapped = zipfile.is_zipfile(file)  # torch's format since 1.6
        value: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        reason = str(error).split(". ")[0].split("\n")[0]
        raise StudyError(
            f"{file}: holds more than tensors, which could run code when read; it is not converted ({reason})"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise StudyError(f"{file}: damaged ({' '.join(str(error).split()):.200}); fetch it again") from None
    for key in WRAPPED:
        if isinstance(value, Mapping) and isinstance(value.get(key), Mapping):
            value = value[key]
    if not isinstance(value, Mapping) or not value:
        raise StudyError(f"{file}: holds a {type(value).__name__}, not weights by name")
    if wrong := [str(name) for name, weight in value.items() if not isinstance(weight, Tensor)]:
        raise StudyError(f"{file}: {wrong[0]!r} is no tensor; save the weights alone")
    return dict(value)


def untie(weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Contiguous tensors without shared memory, and the names left out: name -> name of the same tensor.

    Of names for one tensor the first stays: a network's input embedding precedes its output layer.
    """
    first: dict[tuple[Any, ...], str] = {}
    tied: dict[str, str] = {}
    for name, weight in weights.items():
        place = (weight.untyped_storage().data_ptr(), weight.storage_offset(), weight.shape, weight.stride())
        kept = first.setdefault(place, name) if weight.numel() else name
        if kept != name:
            tied[name] = kept
    separate = {}
    for name, weight in weights.items():
        if name in tied:
            continue
        partial = weight.untyped_storage().nbytes() != weight.nbytes
        separate[name] = (
            weight.clone(memory_format=torch.contiguous_format) if partial else weight.contiguous()
        )
    return separate, tied


def copy_others(source: Path, folder: Path) -> None:
    """Copy all that is neither pickled nor about pickled files."""
    for file in sorted(source.rglob("*")):
        target = folder / file.relative_to(source)
        about_pickles = file.name == CHECKSUMS or file.name.endswith(
            tuple(f"{end}{INDEX}" for end in PICKLED)
        )
        if file.is_file() and file.suffix not in PICKLED and not about_pickles:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)
