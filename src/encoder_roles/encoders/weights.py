"""Reading safetensors strictly: every fault is one line that names the tensor and the file."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from encoder_roles.study.names import StudyError


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object. Raises StudyError if the file is missing, damaged or something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); stage the folder again") from None
    except ValueError as error:
        raise StudyError(f"{path}: not valid JSON ({error}); stage the folder again") from None
    if not isinstance(value, dict):
        raise StudyError(f"{path}: holds a {type(value).__name__}, not a JSON object")
    return value


def read_tensors(path: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors of one file whose names begin with `prefix`. Raises StudyError if it is not whole."""
    if not path.is_file():
        raise StudyError(f"{path}: no such file of weights; stage or train it again")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
    except SafetensorError as error:
        raise StudyError(f"{path}: truncated or damaged safetensors file ({error}); make it again") from None


def read_weights(folder: Path, name: str = "model.safetensors", prefix: str = "") -> dict[str, torch.Tensor]:
    """The weights of a folder: of the file `name`, or of all the files that `name`.index.json lists."""
    index = folder / f"{name}.index.json"
    if not index.is_file():
        return read_tensors(folder / name, prefix)
    tensors: dict[str, torch.Tensor] = {}
    for shard in sorted(set(read_json(index)["weight_map"].values())):
        tensors |= read_tensors(folder / shard, prefix)
    return tensors


def check_names(missing: Collection[str], unexpected: Collection[str], where: Path) -> None:
    """Raise StudyError for a weight that the network needs and the file lacks, or the other way round."""
    if missing:
        raise StudyError(
            f"{where}: weight {_some(missing)} is missing; the checkpoint is not whole, fetch it again"
        )
    if unexpected:
        raise StudyError(
            f"{where}: weight {_some(unexpected)} has no place in the network; config and weights differ"
        )


def load_strictly(
    module: torch.nn.Module, tensors: Mapping[str, torch.Tensor], where: Path, unused: Collection[str] = ()
) -> None:
    """Copy `tensors` into `module`; every weight must be there, in its shape, and nothing else.

    Args:
        module: the network; tied weights need to be in `tensors` only once.
        tensors: weights by their names in the module's state dictionary.
        where: the file or folder to name in an error.
        unused: names that the file may hold and the network does not read (parts of it that were cut off).

    Raises:
        StudyError: a weight is missing, unexpected or of another shape.
    """
    own = module.state_dict(keep_vars=True)
    given = {id(own[name]) for name in tensors if name in own}
    missing = [name for name, weight in own.items() if name not in tensors and id(weight) not in given]
    check_names(missing, [name for name in tensors if name not in own and name not in unused], where)
    with torch.no_grad():
        for name, value in tensors.items():
            if name not in own:
                continue
            if own[name].shape != value.shape:
                raise StudyError(
                    f"{where}: weight {name!r} has shape {list(value.shape)}, the network's is "
                    f"{list(own[name].shape)}; config and weights differ"
                )
            own[name].copy_(value)


@contextmanager
def without_weights() -> Iterator[None]:
    """Networks built in it have weights without memory, on the meta device; buffers, which a file need not
    hold, are as ever. `give_memory` and `load_strictly` make them whole.
    """
    register = nn.Module.register_parameter

    def register_on_meta(module: nn.Module, name: str, weight: nn.Parameter | None) -> None:
        if weight is not None and not weight.is_meta:  # a tied one already is, and stays the same
            weight = nn.Parameter(weight.to("meta"), weight.requires_grad)
        register(module, name, weight)

    nn.Module.register_parameter = register_on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def give_memory(module: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Give weights of the meta device memory of this type, not initialised, on `device`; tied ones stay tied.
    Buffers move there as they are.
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
