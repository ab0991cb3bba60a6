"""Engines: what carries a loss to the next weights. The loop is the experiment, the engine is a library."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from encoder_roles.study import StudyError

BETAS = (0.9, 0.95)  # as GPT-3 and nanoGPT: the second moment forgets within a short run
STATE_FILE = "state.safetensors"


@dataclass(frozen=True)
class Part:
    """A part of the model that is trained with a learning rate of its own."""

    module: nn.Module
    learning_rate: float


class Engine(ABC):
    """The hooks of the training loop."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of a scalar loss."""

    @abstractmethod
    def step(self, scale: float) -> float:
        """Clip, update the weights at ``scale`` times each part's learning rate, drop the gradient.

        Returns the gradient's norm before clipping; if it is not finite nothing is updated.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write all a later `load` needs to go on with equal bytes: weights, optimizer and random state."""

    @abstractmethod
    def load(self, folder: Path) -> None:
        """Take up what `save` wrote. Raises StudyError if it belongs to other parameters."""


class TorchEngine(Engine):
    """One process, plain torch: AdamW with one parameter group per part, global clipping."""

    def __init__(self, parts: Mapping[str, Part], weight_decay: float, clip_norm: float) -> None:
        self.clip_norm = clip_norm
        self.rates = [part.learning_rate for part in parts.values()]
        self.named = {
            f"{name}.{key}": parameter
            for name, part in parts.items()
            for key, parameter in part.module.named_parameters()
            if parameter.requires_grad
        }
        groups = [
            {"params": [p for p in part.module.parameters() if p.requires_grad], "lr": part.learning_rate}
            for part in parts.values()
        ]
        self.optimizer = torch.optim.AdamW(groups, betas=BETAS, weight_decay=weight_decay, fused=True)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, scale: float) -> float:
        norm = float(torch.nn.utils.clip_grad_norm_(self.named.values(), self.clip_norm))
        if math.isfinite(norm):
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * scale
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def save(self, folder: Path) -> None:
        tensors = {"random": torch.get_rng_state()}
        for name, parameter in self.named.items():
            tensors[f"weight/{name}"] = parameter.detach()
            for moment, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{moment}/{name}"] = value
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / STATE_FILE)

    def load(self, folder: Path) -> None:
        tensors = load_file(folder / STATE_FILE)
        saved = {key.removeprefix("weight/") for key in tensors if key.startswith("weight/")}
        if saved != set(self.named):
            raise StudyError(f"{folder}: the checkpoint holds other parameters; remove the folder")
        torch.set_rng_state(tensors.pop("random"))
        for key, tensor in tensors.items():
            kind, name = key.split("/", 1)
            if kind == "weight":
                self.named[name].data.copy_(tensor)
            else:
                self.optimizer.state[self.named[name]][kind] = tensor
