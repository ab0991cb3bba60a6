"""Engines: what carries a loss to the next weights. The loop is the experiment, the engine is a library."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from encoder_roles.study import Optimizer, StudyError

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


def linear_matrices(module: nn.Module) -> list[nn.Parameter]:
    """The trained weights of linear layers that are no embedding's: what Muon is made for."""
    embeddings = {id(layer.weight) for layer in module.modules() if isinstance(layer, nn.Embedding)}
    weights = [layer.get_parameter("weight") for layer in module.modules() if isinstance(layer, nn.Linear)]
    return [weight for weight in weights if weight.requires_grad and id(weight) not in embeddings]


class TorchEngine(Engine):
    """One process, plain torch: one parameter group per part, global clipping.

    AdamW alone, or Muon for the matrices of linear layers and AdamW for all else. Muon's updates are scaled
    to the size of AdamW's (Liu et al. 2025, arXiv 2502.16982), so both take the same learning rates.
    """

    def __init__(
        self, parts: Mapping[str, Part], optimizer: Optimizer, weight_decay: float, clip_norm: float
    ) -> None:
        self.clip_norm = clip_norm
        self.named = {
            f"{name}.{key}": parameter
            for name, part in parts.items()
            for key, parameter in part.module.named_parameters()
            if parameter.requires_grad
        }
        matrices: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for part in parts.values():
            chosen = linear_matrices(part.module) if optimizer == "muon" else []
            ids = {id(parameter) for parameter in chosen}
            rest = [p for p in part.module.parameters() if p.requires_grad and id(p) not in ids]
            for groups, parameters in ((matrices, chosen), (others, rest)):
                if parameters:
                    groups.append(
                        {"params": parameters, "lr": part.learning_rate, "rate": part.learning_rate}
                    )
        self.optimizers: list[torch.optim.Optimizer] = []
        if others:
            self.optimizers.append(
                torch.optim.AdamW(others, betas=BETAS, weight_decay=weight_decay, fused=True)
            )
        if matrices:
            self.optimizers.append(
                torch.optim.Muon(matrices, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            )
        self.owner = {
            parameter: optimizer
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self, scale: float) -> float:
        norm = float(torch.nn.utils.clip_grad_norm_(self.named.values(), self.clip_norm))
        if math.isfinite(norm):
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["rate"] * scale
                optimizer.step()
        for parameter in self.named.values():
            parameter.grad = None
        return norm

    def save(self, folder: Path) -> None:
        tensors = {"random": torch.get_rng_state()}
        for name, parameter in self.named.items():
            tensors[f"weight/{name}"] = parameter.detach()
            for moment, value in self.owner[parameter].state[parameter].items():
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
                parameter = self.named[name]
                self.owner[parameter].state[parameter][kind] = tensor
