"""FLOPs of a training, counted by torch while it computes once more: a multiply and an add are two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from encoder_roles.data.packing import move
from encoder_roles.training.engine import Engine
from encoder_roles.training.step import AnswerTask

Shape = Sequence[int]


def _forward_products(query: Shape, key: Shape, value: Shape, *_: Any, **__: Any) -> int:
    """FLOPs of an attention: scores, and their mix of the values."""
    return int(sdpa_flop_count(query, key, value))


def _backward_products(_: Shape, query: Shape, key: Shape, value: Shape, *__: Any, **___: Any) -> int:
    """FLOPs of an attention's backward pass: two products for each of the forward pass."""
    return 2 * int(sdpa_flop_count(query, key, value))


# the fused kernels of a CPU, which torch's counter misses
CPU_ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward_products,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward_products,
}


def count_flops(engine: Engine, task: AnswerTask) -> int:
    """FLOPs of the run: forward and backward of the first micro batch, scaled to all samples.

    The model should attend by `blocks`, which multiply nothing that a mask throws away. It takes no more
    memory than a step.
    """
    batch, samples = task.first()
    with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
        engine.backward(engine.forward(move(batch, engine.device)))
    total: float = counter.get_total_flops() * task.batches.samples / max(1, samples)
    return round(total)
