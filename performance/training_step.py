"""One training step of a multi-encoder model of real size: time, share of the device's peak, memory.

Run from the root, on a GPU: `python performance/training_step.py --size real --precision bf16`. The
peak that model FLOPs are divided by is measured in the same run, with large matrix products.
`--size tiny` runs anywhere. Weights and pictures are random: only shapes matter. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # must come before transformers
import numpy as np
import torch
from torch import Tensor

from encoder_roles.data.prompts import IGNORED, Prompt
from encoder_roles.encoders.compute import device_name, peak_memory_mb
from encoder_roles.models.vlm import MultiEncoderConfig, MultiEncoderVLM
from encoder_roles.study.sections import EngineSettings
from encoder_roles.training.attention import use_packed_attention
from encoder_roles.training.batches import Batches, PicturePrompts
from encoder_roles.training.distributed import ProcessRank, join_processes
from encoder_roles.training.engine import Engine, Part, TorchEngine
from encoder_roles.training.flops import count_flops
from encoder_roles.training.loop import compute_gradient
from encoder_roles.training.stages import prepare
from encoder_roles.training.step import AnswerModel, AnswerTask
from encoder_roles.training.tune import model_parts

TEXT = 64  # tokens of a question and its answer, half of them learnt
SIZES: dict[str, dict[str, Any]] = {
    "real": {  # CLIP-L/14-336, DINOv2-L and a language model of half a billion parameters
        "clip": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
        | {"num_attention_heads": 16, "image_size": 336, "patch_size": 14},
        "dinov2": {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
        | {"image_size": 336, "patch_size": 14},
        "language_model": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
        | {"num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151_936},
        "pixels": 336,
        "grid": 24,
    },
    "tiny": {
        "clip": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
        | {"num_attention_heads": 2, "image_size": 56, "patch_size": 14},
        "dinov2": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        | {"image_size": 56, "patch_size": 14},
        "language_model": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        | {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 500},
        "pixels": 56,
        "grid": 4,
    },
}


def build_model(size: str) -> MultiEncoderVLM:
    """CLIP and DINOv2 before a Qwen2, with random weights."""
    shape = SIZES[size]
    spec = {"library": "transformers", "source": "random", "pixels": shape["pixels"]}
    spec |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    kinds = {"clip": "clip_vision_model", "dinov2": "dinov2"}
    encoders = [
        {"name": name, "spec": spec, "library_config": shape[name] | {"model_type": kind}}
        for name, kind in kinds.items()
    ]
    language_model = shape["language_model"] | {"model_type": "qwen2", "tie_word_embeddings": True}
    torch.manual_seed(0)
    return MultiEncoderVLM(
        MultiEncoderConfig(encoders, {"kind": "mlp", "layers": 2, "grid": shape["grid"]}, language_model)
    )


class RandomPictures:
    """One picture, again and again, with a question of TEXT tokens."""

    def __init__(self, vocabulary: int) -> None:
        ids = tuple(int(n) for n in np.random.default_rng(0).integers(10, vocabulary, TEXT))
        labels = (IGNORED,) * (TEXT // 2) + ids[TEXT // 2 :]
        self.picture = PicturePrompts(("random",), (), (Prompt(((1, 2, 3),), ids, labels),))

    def __len__(self) -> int:
        return 1 << 20

    def __getitem__(self, place: int) -> PicturePrompts:
        return self.picture

    def lengths(self) -> np.ndarray:
        return np.full(len(self), TEXT)


class PlainPictures:
    """Visual tokens of pictures of one colour, so that the device alone is timed (`training.step.Visual`)."""

    def __init__(self, model: MultiEncoderVLM, pixels: int) -> None:
        self.model, self.picture = model, torch.full((3, pixels, pixels), 100, dtype=torch.uint8)

    def begin(self, pictures: Iterable[str]) -> None:
        """Nothing is read."""

    def __call__(self, pictures: Sequence[str]) -> Tensor:
        """The same picture, as often as there are names."""
        return self.model.visual_tokens(self.model.features([self.picture] * len(pictures)))


def build_step(
    size: str, batch: int, settings: EngineSettings, model: MultiEncoderVLM | None = None
) -> tuple[Engine, AnswerTask]:
    """An engine and a task whose every step is a batch of random pictures."""
    model, shape = model or build_model(size), SIZES[size]
    parts = model_parts(model)
    prepare(parts, settings)
    trained = {name: Part(part.train(), 1e-5) for name, part in parts.items()}
    step = AnswerModel(parts, PlainPictures(model, shape["pixels"]))
    engine: Engine
    if settings.kind == "torch":
        engine = TorchEngine(step, trained, 0.0, 1.0, settings.precision)
    else:
        from encoder_roles.training.deepspeed_engine import DeepSpeedEngine

        engine = DeepSpeedEngine(step, trained, 0.0, 1.0, settings, 1, join_processes(settings))
    pictures = RandomPictures(shape["language_model"]["vocab_size"])
    batches = Batches(pictures, samples=batch, batch_pictures=batch, questions=1, seed=0, stage="tune")
    return engine, AnswerTask("benchmark", batches, shape["grid"] ** 2, 1, ProcessRank(), step.visual)


def synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matmul_peak(device: torch.device, precision: str) -> float:
    """FLOP/s of a large matrix product, the best of some."""
    side = 8192 if device.type == "cuda" else 1024
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left = torch.randn(side, side, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        synchronise()
        started = time.perf_counter()
        left @ left
        synchronise()
        best = min(best, time.perf_counter() - started)
    return 2 * side**3 / best


def measure(size: str, batch: int, steps: int, settings: EngineSettings) -> dict[str, Any]:
    """Median seconds of a step, its model FLOPs over the measured peak, and the most memory used."""
    model = build_model(size)
    engine, task = build_step(size, batch, settings, model)
    seconds = []
    for _ in range(steps + 1):
        synchronise()
        started = time.perf_counter()
        loss, _ = compute_gradient(engine, task, 0)
        engine.step(1.0)
        synchronise()
        seconds.append(time.perf_counter() - started)
    median, memory = float(np.median(seconds[1:])), peak_memory_mb()  # the first step also warms up
    peak = matmul_peak(engine.device, settings.precision)
    flops = None
    if not settings.gradient_checkpointing:  # it would count twice
        use_packed_attention(model.language_model, "blocks")
        flops = count_flops(engine, task)
    return {
        "device": device_name(engine.device),
        "size": size,
        "batch": batch,
        "engine": settings.model_dump(),
        "step_seconds": round(median, 2),
        "model_flops": flops,
        "matmul_flops_per_second": peak,
        "utilisation": flops and round(flops / median / peak, 3),
        "peak_memory_mb": memory,
        "loss": loss,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="real")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--engine", choices=["torch", "deepspeed"], default="torch")
    parser.add_argument("--zero-stage", type=int, choices=[2, 3], default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--attention", choices=["sdpa", "flash"], default="sdpa")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    chosen = parser.parse_args()
    settings = EngineSettings(
        kind=chosen.engine,
        zero_stage=chosen.zero_stage,
        precision=chosen.precision,
        attention=chosen.attention,
        gradient_checkpointing=chosen.gradient_checkpointing,
    )
    print(json.dumps(measure(chosen.size, chosen.batch, chosen.steps, settings), indent=2))


if __name__ == "__main__":
    main()
