"""Strict reading of safetensors: every error is one line that names the tensor and the file."""

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


def read_tensors(path: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors of one file whose names begin with `prefix`. Raises StudyError if it is damaged."""
    if not path.is_file():
        raise StudyError(f"{path}: no such file of weights; stage or train it again")
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
    except SafetensorError as error:
        raise StudyError(f"{path}: truncated or damaged safetensors file ({error}); make it again") from None


def read_weights(folder: Path, name: str = "model.safetensors", prefix: str = "") -> dict[str, torch.Tensor]:
    """The weights of a folder: in the file `name`, or in all files that `name`.index.json lists."""
    index = folder / f"{name}.index.json"
    if not index.is_file():
        return read_tensors(folder / name, prefix)
    tensors: dict[str, torch.Tensor] = {}
    for shard in sorted(set(read_json(index)["weight_map"].values())):
        tensors |= read_tensors(folder / shard, prefix)
    return tensors


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
