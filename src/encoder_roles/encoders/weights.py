"""Strict reading of safetensors: every error is one line that names the tensor and the file."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from encoder_roles.study.names import StudyError

REMAPPED = 2**28  # bytes of a file that are read through one map of it


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises StudyError if the file is missing, damaged or something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); stage the folder again") from None
    except ValueError as error:
        raise StudyError(f"{path}: not valid JSON ({error}); stage the folder again") from None
    if not isinstance(value, dict):
        raise StudyError(f"{path}: holds a {type(value).__name__}, not a JSON object")
    return value


class StoredWeights(Mapping[str, torch.Tensor]):
    """The tensors of safetensors files by name, each read when it is asked for.

    Files are mapped to memory, and pages that were read stay in a process while its map is there. So the map
    is made anew after every REMAPPED bytes: who copies the tensors one by one holds no second copy of them.

    Args:
        files: the files.
        prefix: only tensors whose names begin with it; it is left out of the names.

    Raises:
        StudyError: a file is missing, truncated or damaged.
    """

    def __init__(self, files: Iterable[Path], prefix: str = "") -> None:
        self.prefix = prefix
        self.files: dict[str, Path] = {}
        self._path, self._file, self._read = Path(), cast(Any, None), 0
        for path in files:
            for name in self._open(path).keys():  # noqa: SIM118
                if name.startswith(prefix):
                    self.files[name.removeprefix(prefix)] = path

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __contains__(self, name: object) -> bool:  # without reading the tensor
        return name in self.files

    def __getitem__(self, name: str) -> torch.Tensor:
        path = self.files[name]
        if path != self._path or self._read >= REMAPPED:
            self._open(path)
        try:
            tensor: torch.Tensor = self._file.get_tensor(self.prefix + name)
        except SafetensorError as error:
            raise _damaged(path, error) from None
        self._read += tensor.nbytes
        return tensor

    def _open(self, path: Path) -> Any:
        if not path.is_file():
            raise StudyError(f"{path}: no such file of weights; stage or train it again")
        try:
            self._path, self._file, self._read = path, safe_open(path, framework="pt"), 0
        except SafetensorError as error:
            raise _damaged(path, error) from None
        return self._file


def _damaged(path: Path, error: SafetensorError) -> StudyError:
    return StudyError(f"{path}: truncated or damaged safetensors file ({error}); make it again")


def read_tensors(path: Path, prefix: str = "") -> StoredWeights:
    """The tensors of one file whose names begin with `prefix`, by their names without it."""
    return StoredWeights([path], prefix)


def read_weights(folder: Path, name: str = "model.safetensors", prefix: str = "") -> StoredWeights:
    """The weights of a folder: in the file `name`, or in all files that `name`.index.json lists.

    Raises StudyError if a file is missing, truncated or damaged. For `prefix` see `StoredWeights`.
    """
    index = folder / f"{name}.index.json"
    if not index.is_file():
        return read_tensors(folder / name, prefix)
    shards = sorted(set(read_json(index)["weight_map"].values()))
    return StoredWeights([folder / shard for shard in shards], prefix)


def check_names(missing: Collection[str], unexpected: Collection[str], where: Path) -> None:
    """Raise StudyError if the network needs a weight that the file lacks, or the other way round."""
    if missing:
        raise StudyError(
            f"{where}: weight {_some(missing)} is missing; the checkpoint is incomplete, fetch it again"
        )
    if unexpected:
        raise StudyError(
            f"{where}: weight {_some(unexpected)} has no place in the network; config and weights differ"
        )


def load_strictly(
    module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], where: Path, unused: Collection[str] = ()
) -> None:
    """Copy `tensors` into `module`; every weight must be given, in its shape, and no other.

    Args:
        module: the network; a tied weight needs only one name in `tensors`.
        tensors: weights by their names in the module's state dictionary.
        where: the file or folder, for errors.
        unused: names that the file may hold but the network does not read (parts that were cut off).

    Raises:
        StudyError: a weight is missing, unexpected or of another shape.
    """
    state = module.state_dict(keep_vars=True)
    given = {id(state[name]) for name in tensors if name in state}
    missing = [name for name, weight in state.items() if name not in tensors and id(weight) not in given]
    check_names(missing, [name for name in tensors if name not in state and name not in unused], where)
    with torch.no_grad():
        for name, value in tensors.items():
            if name not in state:
                continue
            if state[name].shape != value.shape:
                raise StudyError(
                    f"{where}: weight {name!r} has shape {list(value.shape)}, the network's is "
                    f"{list(state[name].shape)}; config and weights differ"
                )
            state[name].copy_(value)


@contextmanager
def without_weights() -> Iterator[None]:
    """Within the block, new networks have weights on the meta device, without memory; buffers are as usual.

    Afterwards call `give_memory` and `load_strictly`.
    """
    register = nn.Module.register_parameter

    def register_on_meta(module: nn.Module, name: str, weight: nn.Parameter | None) -> None:
        if weight is not None and not weight.is_meta:  # a tied weight already is one
            weight = nn.Parameter(weight.to("meta"), weight.requires_grad)
        register(module, name, weight)

    nn.Module.register_parameter = register_on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def give_memory(module: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Give weights of the meta device uninitialised memory of this type on `device`; tied ones stay tied.

    Buffers move there without a conversion.
    """
    made: dict[nn.Parameter, nn.Parameter] = {}
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None and weight.is_meta:
                if weight not in made:
                    memory = torch.empty(weight.shape, dtype=dtype, device=device)
                    made[weight] = nn.Parameter(memory, weight.requires_grad)
                part._parameters[name] = made[weight]
    module.to(device)


def _some(names: Collection[str]) -> str:
    first, *others = sorted(names)
    return f"{first!r}" + (f" (and {len(others)} more)" if others else "")
