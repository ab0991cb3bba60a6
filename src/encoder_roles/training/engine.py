"""Engines compute gradients and update the weights. The loop is the experiment; an engine is a library."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from encoder_roles.study.names import StudyError
from encoder_roles.training.distributed import ProcessRank

BETAS = (
    0.9,
    0.95,
)  # as in GPT-3 and nanoGPT: the second moment adapts within a short run
MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's state of a parameter, besides its number of steps
STATE_FILES = "state-*.safetensors"


@dataclass(frozen=True)
class Part:
    """A part of the model that is trained with its own learning rate."""

    module: nn.Module
    learning_rate: float


class Engine(ABC):
    """The hooks of the training loop.

    Every engine writes the same checkpoint: fp32 weights and AdamW's moments as full tensors, by parameter
    name, in one file per process. So a run can continue with another number of processes or another engine.

    Attributes:
        process: the rank of this process.
        device: where batches are computed.
        named: the trained parameters by name.
    """

    def __init__(self, parts: Mapping[str, Part], process: ProcessRank) -> None:
        self.process, self.device = process, process.device
        self.rates = [part.learning_rate for part in parts.values()]
        self.named: dict[str, nn.Parameter] = {
            f"{name}.{key}": parameter
            for name, part in parts.items()
            for key, parameter in part.module.named_parameters()
            if parameter.requires_grad
        }
        self.groups = [
            {"params": [p for p in part.module.parameters() if p.requires_grad], "lr": part.learning_rate}
            for part in parts.values()
        ]

    @abstractmethod
    def forward(self, batch: Any) -> Tensor:
        """The model's summed loss of a micro batch."""

    @abstractmethod
    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of a scalar; gradients are summed over all processes."""

    @abstractmethod
    def step(self, scale: float) -> float:
        """Clip the gradient, update the weights at ``scale`` times each part's learning rate, reset it.

        Returns the gradient's norm over all processes before clipping; if it is not finite, the run must end.
        """

    @abstractmethod
    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Weights, moments and steps of all trained parameters, as full fp32 tensors, by key."""

    @abstractmethod
    def set_state(self, key: str, value: Tensor) -> None:
        """Set one entry of `state`."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor] | None:
        """All weights of the model by name, full fp32 tensors on the CPU; None except on rank 0.

        Call it once, after the last step.
        """

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank, in every process; waits for all processes."""
        return [value]

    def snapshot(self, copy: bool) -> dict[str, Tensor]:
        """This process's part of the checkpoint on the CPU: weights, optimizer, random state.

        All processes call it together.

        Args:
            copy: whether to copy what is on the CPU already, so that later steps do not change it.
        """
        tensors = {f"random/{self.process.rank}": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors[f"device_random/{self.process.rank}"] = torch.cuda.get_rng_state(self.device)
        for number, (key, tensor) in enumerate(self.state()):
            if number % self.process.world_size == self.process.rank:
                tensors[key] = tensor.detach().to("cpu", copy=copy).contiguous()
        return tensors

    def load(self, folder: Path) -> None:
        """Load the files of all processes' snapshots, with any number of processes.

        A process without a random state in the checkpoint seeds it from its rank and the checkpoint's name.
        Raises StudyError if the parameters differ.
        """
        files = sorted(folder.glob(STATE_FILES))
        keys = {key: file for file in files for key in _keys(file)}
        if {key.removeprefix("weight/") for key in keys if key.startswith("weight/")} != set(self.named):
            raise StudyError(f"{folder}: the checkpoint holds other parameters; remove the folder")
        torch.manual_seed(int(folder.name.removeprefix("step")) * 1000 + self.process.rank)
        for file in files:
            with safe_open(file, framework="pt") as tensors:
                for key in tensors.keys():  # noqa: SIM118  # a handle, not a dictionary
                    kind, name = key.split("/", 1)
                    if kind not in ("random", "device_random"):
                        self.set_state(key, tensors.get_tensor(key))
                    elif name != str(self.process.rank):
                        continue
                    elif kind == "random":
                        torch.set_rng_state(tensors.get_tensor(key))
                    elif self.device.type == "cuda":
                        torch.cuda.set_rng_state(tensors.get_tensor(key), self.device)


def state_file(folder: Path, process: ProcessRank) -> Path:
    """The file of a process's snapshot in the folder of a checkpoint."""
    return folder / STATE_FILES.replace("*", f"{process.rank:05d}")


def _keys(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as tensors:
        return list(tensors.keys())


class TorchEngine(Engine):
    """One process, plain torch: AdamW with one parameter group per part, and clipping by the global norm.

    In bf16 the weights stay fp32 and the forward pass runs under autocast.
    """

    def __init__(
        self,
        model: nn.Module,
        parts: Mapping[str, Part],
        weight_decay: float,
        clip_norm: float,
        precision: str = "fp32",
    ) -> None:
        super().__init__(parts, ProcessRank())
        self.model, self.clip_norm, self.precision = model.to(self.device), clip_norm, precision
        self.optimizer = torch.optim.AdamW(self.groups, betas=BETAS, weight_decay=weight_decay, fused=True)

    def forward(self, batch: Any) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss: Tensor = self.model(batch)
        return loss

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

    def state(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self.named.items():
            yield f"weight/{name}", parameter
            for moment, value in self.optimizer.state.get(parameter, {}).items():
                yield f"{moment}/{name}", value

    def set_state(self, key: str, value: Tensor) -> None:
        kind, name = key.split("/", 1)
        parameter = self.named[name]
        if kind == "weight":
            parameter.data.copy_(value)
        else:
            # fused AdamW on a GPU keeps the number of steps on the GPU
            self.optimizer.state[parameter][kind] = value.to(self.device)

    def weights(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = self.model.to("cpu").state_dict()
        return weights
