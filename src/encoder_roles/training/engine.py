"""Engines: what carries a loss to the next weights. The loop is the experiment, the engine is a library."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from encoder_roles.study.names import StudyError
from encoder_roles.training.distributed import ProcessRank

BETAS = (0.9, 0.95)  # as GPT-3 and nanoGPT: the second moment forgets within a short run
MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's state of a parameter, beside its number of steps
STATE_FILES = "state-*.safetensors"


@dataclass(frozen=True)
class Part:
    """A part of the model that is trained with a learning rate of its own."""

    module: nn.Module
    learning_rate: float


class Engine(ABC):
    """The hooks of the training loop.

    Every engine writes the same checkpoint: fp32 weights and AdamW's moments by the parameters' names, whole
    tensors, spread over one file per process. So a run can go on with another number of processes, or another
    engine.

    Attributes:
        process: this process among the processes.
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
        """Accumulate the gradient of a scalar; over all processes gradients are summed."""

    @abstractmethod
    def step(self, scale: float) -> float:
        """Clip, update the weights at ``scale`` times each part's learning rate, drop the gradient.

        Returns the gradient's norm before clipping, over all processes; the run must end if it is not finite.
        """

    @abstractmethod
    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Weights, moments and steps of all trained parameters, fp32, whole: `weight/<name>` and so on."""

    @abstractmethod
    def set_state(self, key: str, value: Tensor) -> None:
        """Take up one entry of `state`."""

    @abstractmethod
    def weights(self) -> dict[str, Tensor] | None:
        """All weights of the model by their names in it, fp32, whole, on the CPU; on rank 0 alone.
        Training is over then.
        """

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in their order, on every rank; none goes on before all are here."""
        return [value]

    def save(self, folder: Path) -> None:
        """Write this rank's part of all that `load` needs to go on: weights, optimizer, random state."""
        tensors = {f"random/{self.process.rank}": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors[f"device_random/{self.process.rank}"] = torch.cuda.get_rng_state(self.device)
        for number, (key, tensor) in enumerate(self.state()):
            if number % self.process.world_size == self.process.rank:
                tensors[key] = tensor.detach().cpu().contiguous()
        save_file(tensors, folder / STATE_FILES.replace("*", f"{self.process.rank:05d}"))

    def load(self, folder: Path) -> None:
        """Take up what `save` wrote, with any number of processes.

        Raises StudyError if the parameters differ. A process that the checkpoint
        does not know seeds its random numbers from its own rank and the checkpoint's name.
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


def _keys(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as tensors:
        return list(tensors.keys())


class TorchEngine(Engine):
    """One process, plain torch: AdamW with one parameter group per part, global clipping.

    In bf16 the weights stay fp32 and the forward pass is autocast.
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
            # AdamW on a GPU keeps the number of steps there when it is fused
            self.optimizer.state[parameter][kind] = value.to(self.device)

    def weights(self) -> dict[str, Tensor]:
        weights: dict[str, Tensor] = self.model.to("cpu").state_dict()
        return weights
