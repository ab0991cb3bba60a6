"""Masks on any torch model: forward hooks replace what its encoders' modules return.

`models.masking` masks the projector inputs of this project's own models. Here an encoder is any module of
any model, named by its path. What it returns may be a tensor, or tensors in tuples, lists, mappings
(transformers' ModelOutput among them) and data classes. Every floating-point tensor of two or more dimensions
is replaced.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from encoder_roles.models.masking import Calibration, CalibrationSums
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import HookOperator

Replace = Callable[[str, Tensor], Tensor]  # (place in the output, tensor) -> the tensor in its place
React = Callable[[str, Any], Any]  # (encoder, what its module returned) -> what the model gets instead
Calibrations = dict[str, dict[str, Calibration]]  # encoder -> place in its output -> calibration


def find_module(model: nn.Module, path: str) -> nn.Module:
    """The module at a dotted path; a number is a place in a list, which need not be a ModuleList.

    Raises:
        StudyError: there is nothing at the path, or no module.
    """
    place: Any = model
    reached: list[str] = []
    for part in path.split("."):
        try:
            place = place[int(part)] if part.isdecimal() else getattr(place, part)
        except (AttributeError, IndexError, KeyError, TypeError):
            at = ".".join(reached) or "the model"
            raise StudyError(
                f"module {path}: {at} has no {part!r}{_names_in(place)}; correct the path"
            ) from None
        reached.append(part)
    if not isinstance(place, nn.Module):
        raise StudyError(f"module {path}: is a {type(place).__name__}, not a torch module; correct the path")
    return place


def _names_in(place: Any) -> str:
    """The names of a module's parts, for a message; nothing for anything else."""
    if not isinstance(place, nn.Module):
        return ""
    names = [name for name, _ in place.named_children()]
    return f" (it has {', '.join(names[:12])}{', ...' * (len(names) > 12)})" if names else ""


def map_features(output: Any, replace: Replace, place: str = "output") -> Any:
    """A copy of a module's output, in which `replace` has replaced every tensor of features.

    Args:
        output: what the module returned. It is not changed.
        replace: gets each floating-point tensor of two or more dimensions, and the name of its place. Entries
            of a list share one name, because a list has an entry per picture; entries of a tuple do not.
        place: the name of this part of the output.
    """
    if isinstance(output, Tensor):
        return replace(place, output) if output.is_floating_point() and output.dim() > 1 else output
    if isinstance(output, Mapping):
        copied: Any = copy.copy(output)
        for key, value in output.items():
            copied[key] = map_features(value, replace, f"{place}.{key}")
        return copied
    if isinstance(output, list):
        return [map_features(value, replace, f"{place}.*") for value in output]
    if isinstance(output, tuple):
        parts = [map_features(value, replace, f"{place}.{i}") for i, value in enumerate(output)]
        return type(output)(*parts) if hasattr(output, "_fields") else tuple(parts)
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        fields = {field.name: getattr(output, field.name) for field in dataclasses.fields(output)}
        changed = {key: map_features(value, replace, f"{place}.{key}") for key, value in fields.items()}
        return dataclasses.replace(output, **changed)
    return output


@contextmanager
def hooked(model: nn.Module, paths: Mapping[str, str], react: React) -> Iterator[Counter[str]]:
    """Within the block, `react` sees and may change what the encoders' modules return.

    Yields the number of calls of each encoder. The block has to ask about pictures.

    Args:
        model: the model.
        paths: encoder -> path of its module.
        react: called after each call of such a module.

    Raises:
        StudyError: a path names no module; `react` raised one, even if the model swallowed it; or a module
            was never called in the block.
    """
    modules = {encoder: find_module(model, path) for encoder, path in paths.items()}
    calls: Counter[str] = Counter()
    faults: list[StudyError] = []

    def after(encoder: str, module: nn.Module, inputs: Any, output: Any) -> Any:  # noqa: ARG001  # torch's
        calls[encoder] += 1
        try:
            return react(encoder, output)
        except StudyError as error:
            faults.append(StudyError(f"encoder {encoder}: module {paths[encoder]}: {error}"))
            raise

    handles = [module.register_forward_hook(partial(after, name)) for name, module in modules.items()]
    try:
        yield calls
    except Exception:
        if faults:
            raise faults[0] from None
        raise
    finally:
        for handle in handles:
            handle.remove()
    if faults:  # some models log any error and answer with nothing
        raise faults[0]
    if never := [encoder for encoder in paths if not calls[encoder]]:
        raise StudyError(
            f"encoder {never[0]}: module {paths[never[0]]}: was never called for a picture (a hook does "
            "not see calls of its methods); name a module around it or inside it"
        )


class Calibrator:
    """Reads what encoders return on calibration pictures; `hooked` calls it."""

    def __init__(self, channels: Mapping[str, int], keep_donors: bool) -> None:
        """As `ModuleMask`; `keep_donors`: keep all outputs, on the CPU, which shuffle needs."""
        self._channels, self._keep = channels, keep_donors
        self._sums: dict[str, dict[str, CalibrationSums]] = {}
        self._shapes: dict[tuple[str, str], torch.Size] = {}

    def __call__(self, encoder: str, output: Any) -> Any:
        """Add an output, which stays as it is."""
        places = self._sums.setdefault(encoder, {})

        def add(place: str, block: Tensor) -> Tensor:
            sums = places.setdefault(place, CalibrationSums(self._keep))
            rows = _channels_last(block, self._channels.get(encoder, -1))
            if self._keep:
                rows = _by_picture(place, rows).cpu()
                if self._shapes.setdefault((encoder, place), rows.shape[1:]) != rows.shape[1:]:
                    raise StudyError(
                        f"{place} has other shapes for other pictures, and shuffle needs one shape; use zero "
                        "or mean"
                    )
            sums.add(rows)
            return block

        map_features(output, add)
        return output

    @property
    def calibrations(self) -> Calibrations:
        """What was read."""
        return {name: {place: sums.result() for place, sums in of.items()} for name, of in self._sums.items()}


class ModuleMask:
    """Replaces what the removed encoders return; `hooked` calls it.

    Args:
        removed: the encoders whose output is replaced.
        operator: zero: zeros. mean: each channel's mean over all tokens of the calibration pictures. shuffle:
            the output for a calibration picture, drawn for each picture, the same one for all encoders.
        calibrations: of `Calibrator`; zero needs none.
        channels: encoder -> axis of the channels, where it is not the last.
        seed: of the draws of shuffle.
    """

    def __init__(
        self,
        removed: frozenset[str],
        operator: HookOperator,
        calibrations: Calibrations | None = None,
        channels: Mapping[str, int] | None = None,
        seed: int = 0,
    ) -> None:
        if operator != "zero" and removed - (calibrations or {}).keys():
            raise StudyError(f"mask: operator {operator!r} needs calibration pictures")
        self.removed, self.operator = removed, operator
        self._calibrations, self._channels = calibrations or {}, channels or {}
        # a stream per encoder, equal for all: encoders that are called once per picture draw the same donors
        self._streams = {encoder: torch.Generator().manual_seed(seed) for encoder in removed}

    def __call__(self, encoder: str, output: Any) -> Any:
        """What the model gets for an encoder's output. Raises StudyError if nothing in it can be masked."""
        masked = 0
        draws: dict[int, Tensor] = {}  # every part of one output comes from the same calibration pictures

        def replace(place: str, block: Tensor) -> Tensor:
            nonlocal masked
            masked += 1
            return self._replace(encoder, place, block, draws) if encoder in self.removed else block

        replaced = map_features(output, replace)
        if not masked:
            raise StudyError(
                f"returned a {type(output).__name__} without a tensor of features; name another module"
            )
        return replaced

    def _replace(self, encoder: str, place: str, block: Tensor, draws: dict[int, Tensor]) -> Tensor:
        if self.operator == "zero":
            return torch.zeros_like(block)
        axis = self._channels.get(encoder, -1)
        rows = _channels_last(block, axis)
        calibration = self._calibrations[encoder].get(place)
        if calibration is None or calibration.mean.shape[0] != rows.shape[-1]:
            known = "nothing" if calibration is None else f"{calibration.mean.shape[0]} channels"
            raise StudyError(
                f"{place} has {rows.shape[-1]} channels for a question, but {known} for calibration pictures"
            )
        if self.operator == "mean":
            replaced = calibration.mean.to(rows).expand_as(rows)
        else:
            replaced = self._shuffled(encoder, place, rows, calibration, draws)
        return _channels_back(replaced, axis, block)

    def _shuffled(
        self, encoder: str, place: str, rows: Tensor, calibration: Calibration, draws: dict[int, Tensor]
    ) -> Tensor:
        bank, pictures = calibration.donors, _by_picture(place, rows)
        if bank is None or bank.shape[1:] != pictures.shape[1:]:
            shape = "none" if bank is None else tuple(bank.shape[1:])
            raise StudyError(
                f"{place} has shape {tuple(pictures.shape[1:])} for a question, but {shape} for calibration "
                "pictures; shuffle needs one shape; use zero or mean"
            )
        if place.endswith(".*") or len(pictures) not in draws:  # each entry of a list is a picture of its own
            stream, count = self._streams[encoder], len(bank)
            chosen = [torch.randint(count, (1,), generator=stream) for _ in range(len(pictures))]
            draws[len(pictures)] = torch.cat(chosen)
        return bank[draws[len(pictures)]].to(rows).reshape(rows.shape)


def _channels_last(block: Tensor, axis: int) -> Tensor:
    """The tensor with its channels on the last axis; one of fewer than three axes has them there."""
    return block if axis == -1 or block.dim() < 3 else block.movedim(axis, -1)


def _channels_back(rows: Tensor, axis: int, block: Tensor) -> Tensor:
    """The inverse of `_channels_last`, in the memory layout of `block`."""
    moved = rows if axis == -1 or block.dim() < 3 else rows.movedim(-1, axis)
    return torch.empty_like(block).copy_(moved)


def _by_picture(place: str, rows: Tensor) -> Tensor:
    """The tensor with pictures on its first axis.

    A tensor of two axes is (tokens, channels) of one picture in a list, and else (pictures, channels). Raises
    StudyError if it is all that a module returns: tokens of several pictures then may share the first axis.
    """
    if rows.dim() > 2:
        return rows
    if place == "output":
        raise StudyError(
            "returned one row per token, and shuffle has to tell pictures apart; use zero or mean"
        )
    return rows[None] if place.endswith(".*") else rows
