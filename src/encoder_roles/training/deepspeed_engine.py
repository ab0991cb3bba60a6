"""Training in many processes with DeepSpeed.

ZeRO-2 (Rajbhandari et al. 2020) partitions the optimizer's state and the gradients among the processes;
ZeRO-3 also partitions the weights. With offload the partitions stay in the CPU's memory. In bf16 the weights
are bf16; the optimizer updates fp32 copies of them, which are saved.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

os.environ.setdefault("DEEPSPEED_LOG_LEVEL", "error")
import deepspeed
import deepspeed.ops
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
    safe_set_local_fp32_param,
    safe_set_local_optimizer_state,
)

from encoder_roles.study.sections import EngineSettings
from encoder_roles.training.distributed import ProcessRank
from encoder_roles.training.engine import BETAS, MOMENTS, Engine, Part

# No operator is compiled. On a CPU, DeepSpeed would compile its shared-memory all-reduce at the first start,
# for most of a minute, and would wait forever for the lock of a build that was killed.
deepspeed.ops.__compatible_ops__ = {}
logging.getLogger("DeepSpeed").setLevel(logging.ERROR)


def deepspeed_config(settings: EngineSettings, accumulation: int, clip_norm: float) -> dict[str, Any]:
    """DeepSpeed's configuration. The loop forms the batches; DeepSpeed only accumulates gradients."""
    zero: dict[str, Any] = {"stage": settings.zero_stage, "overlap_comm": False}
    if settings.offload:
        zero["offload_optimizer"] = {"device": "cpu"}
        if settings.zero_stage == 3:
            zero["offload_param"] = {"device": "cpu"}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": accumulation,
        "gradient_clipping": clip_norm,
        "bf16": {"enabled": settings.precision == "bf16"},
        "communication_data_type": "fp32",  # gradients are summed over processes as exactly as on one
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,  # it would be compiled
        "steps_per_print": 2**62,
    }


class DeepSpeedEngine(Engine):
    """AdamW with ZeRO; parameter groups, learning rates and clipping are those of TorchEngine."""

    def __init__(
        self,
        model: nn.Module,
        parts: Mapping[str, Part],
        weight_decay: float,
        clip_norm: float,
        settings: EngineSettings,
        accumulation: int,
        process: ProcessRank,
    ) -> None:
        super().__init__(parts, process)
        self.stage, self.model = settings.zero_stage, model
        self.accumulation, self.accumulated = accumulation, 0
        rounded = settings.precision == "bf16"
        # these are not copies: DeepSpeed gives a parameter new storage when it rounds it
        exact = {name: value.detach() for name, value in self.named.items()} if rounded else {}
        buffers = {name: value for name, value in model.named_buffers() if value.is_floating_point()}
        tables = {name: value.clone() for name, value in buffers.items() if "language_model" in name}
        optimizer = torch.optim.AdamW(self.groups, betas=BETAS, weight_decay=weight_decay, fused=True)
        config = deepspeed_config(settings, accumulation, clip_norm)
        self.engine: Any = deepspeed.initialize(model=model, optimizer=optimizer, config=config)[0]
        for name, value in exact.items():
            self._set_master(name, value)
        if rounded:
            for name, buffer in model.named_buffers():  # the frequencies of rotary positions must stay fp32
                if name in tables:
                    buffer.data = tables[name].to(self.device)

    def forward(self, batch: Any) -> Tensor:
        loss: Tensor = self.engine(batch)
        return loss

    def backward(self, loss: Tensor) -> None:
        # DeepSpeed averages over processes, but the losses of the processes add up to the batch's loss
        self.engine.backward(loss * self.process.world_size, scale_wrt_gas=False)
        self.accumulated += 1
        if self.accumulated < self.accumulation:
            self.engine.step()  # only counts the micro batch

    def step(self, scale: float) -> float:
        for group, rate in zip(self.engine.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * scale
        self.engine.step()
        self.accumulated = 0
        return float(self.engine.get_global_grad_norm())

    def gather(self, value: Any) -> list[Any]:
        values: list[Any] = [None] * self.process.world_size
        torch.distributed.all_gather_object(values, value)
        return values

    def state(self) -> Iterator[tuple[str, Tensor]]:
        if (steps := self._steps()) is not None:
            self._link_moments()
        for name, parameter in self.named.items():
            yield f"weight/{name}", safe_get_full_fp32_param(parameter)
            if steps is not None:
                yield f"step/{name}", steps.clone()
                for moment in MOMENTS:
                    yield f"{moment}/{name}", safe_get_full_optimizer_state(parameter, moment)

    def set_state(self, key: str, value: Tensor) -> None:
        kind, name = key.split("/", 1)
        if kind == "weight":
            self._set_master(name, value)
            self._set_working(name, value)
            return
        self._make_moments()
        if kind == "step":
            for state in self._flat_states():
                state["step"].copy_(value)
        elif self.stage == 3:
            safe_set_local_optimizer_state(self.named[name], self._slice(name, value), kind)
        else:
            safe_set_full_optimizer_state(self.named[name], value.to(self.device), kind)

    def weights(self) -> dict[str, Tensor] | None:
        trained = {id(parameter): name for name, parameter in self.named.items()}
        tensors: dict[int, Tensor | None] = {}  # None in other processes than the first, which keep nothing
        names: dict[str, int] = {}
        for name, value in self.model.state_dict(keep_vars=True).items():
            names[name] = id(value)
            if id(value) in tensors:  # a tied weight is one tensor
                continue
            tensor = safe_get_full_fp32_param(value) if id(value) in trained else self._gathered(value)
            tensors[id(value)] = tensor.detach().float().cpu() if self.process.rank == 0 else None
            del tensor  # before the next is gathered
        weights = {name: tensors[key] for name, key in names.items()}
        return {name: value for name, value in weights.items() if value is not None} or None

    def _gathered(self, value: Tensor) -> Tensor:
        """A frozen weight or a buffer, gathered from all processes."""
        if self.stage == 3 and isinstance(value, nn.Parameter):
            with deepspeed.zero.GatheredParameters([value]):
                return value.detach().clone()
        return value

    def _set_master(self, name: str, value: Tensor) -> None:
        """Set the optimizer's fp32 copy of a weight."""
        if self.stage == 3:
            safe_set_local_fp32_param(self.named[name], self._slice(name, value))
        else:
            safe_set_full_fp32_param(self.named[name], value.to(self.device))

    def _set_working(self, name: str, value: Tensor) -> None:
        """Set the weight that the forward pass uses."""
        parameter = self.named[name]
        if self.stage == 3:
            with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
                if self.process.rank == 0:
                    parameter.data.copy_(value)
        else:
            parameter.data.copy_(value)

    def _slice(self, name: str, value: Tensor) -> Tensor:
        """This process's slice of a parameter under ZeRO-3; the last slices are padded with zeros."""
        size = self.named[name].ds_tensor.ds_numel  # type: ignore[attr-defined]  # ZeRO-3's own
        padded = torch.zeros(size * self.process.world_size)
        padded[: value.numel()] = value.flatten()
        return padded[size * self.process.rank : size * (self.process.rank + 1)].to(self.device)

    # DeepSpeed (0.19.8) keeps the optimizer's state in flat partitions that have no public names.

    def _flats(self) -> list[Tensor]:
        optimizer = self.engine.optimizer
        flats: list[Tensor] = (
            optimizer.fp32_partitioned_groups_flat
            if self.stage == 3
            else optimizer.single_partition_of_fp32_groups
        )
        return flats

    def _flat_states(self) -> list[dict[str, Tensor]]:
        return [self.engine.optimizer.optimizer.state[flat] for flat in self._flats()]

    def _steps(self) -> Tensor | None:
        """AdamW's number of steps; None before the first."""
        states = self._flat_states()
        return states[0].get("step")

    def _make_moments(self) -> None:
        """Create AdamW's moments if the optimizer has not created them yet."""
        if self._steps() is not None:
            return
        for flat, state in zip(self._flats(), self._flat_states(), strict=True):
            state["step"] = torch.zeros((), dtype=torch.float32, device=flat.device)
            for moment in MOMENTS:
                state[moment] = torch.zeros_like(flat, requires_grad=False)
        self._link_moments()

    def _link_moments(self) -> None:
        """ZeRO-2: link every parameter to its share of the moments.

        DeepSpeed links them after the first step of the first group, when the other groups have no moments.
        """
        if self.stage == 2:
            self.engine.optimizer._hp_optimizer_states_linked = False
            self.engine.optimizer._lazy_init_hp_params_optimizer_state()
