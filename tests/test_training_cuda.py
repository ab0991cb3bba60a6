"""Real sizes on one GPU: `python -m pytest -m cuda`. The measured step runs at a tiny size anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from encoder_roles.study import EngineSettings

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from training_step import build_step  # noqa: E402

from encoder_roles.training.loop import compute_gradient  # noqa: E402


def train(size: str, steps: int, **engine: object) -> list[float]:
    """Losses of some steps on one batch."""
    machine, task = build_step(size, 2, EngineSettings.model_validate(engine))
    losses = []
    for _ in range(steps):
        losses.append(compute_gradient(machine, task, 0, False, False)[0])
        assert machine.step(1.0) > 0
    return losses


@pytest.mark.cuda
@pytest.mark.parametrize("attention", ["sdpa", "flash"])
def test_a_real_size_learns_in_bf16(attention):
    losses = train("real", 4, precision="bf16", attention=attention)
    assert losses[-1] < losses[0]


@pytest.mark.cuda
def test_flash_and_masked_attention_agree():
    first = [train("real", 1, precision="bf16", attention=kind)[0] for kind in ("sdpa", "flash")]
    assert first[0] == pytest.approx(first[1], abs=0.02)


@pytest.mark.cuda
def test_the_device_computes_what_the_cpu_does():
    from encoder_roles.data.packing import move

    machine, task = build_step("tiny", 2, EngineSettings())
    (batch,) = task.micro_batches(0)
    there = machine.forward(move(batch, machine.device)).item()
    machine.model.to("cpu")
    assert there == pytest.approx(machine.forward(batch).item(), rel=1e-4)


@pytest.mark.cuda
@pytest.mark.parametrize("stage", [2, 3])
def test_zero_runs_on_one_gpu_in_bf16(stage):
    losses = train("real", 4, kind="deepspeed", zero_stage=stage, precision="bf16")
    assert losses[-1] < losses[0]


def test_bf16_learns_what_fp32_does_on_any_device():
    losses = {precision: train("tiny", 6, precision=precision) for precision in ("fp32", "bf16")}
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.05)
    assert losses["fp32"][-1] < losses["fp32"][0]


def test_attention_without_a_mask_in_memory_is_the_masked_attention(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    from encoder_roles.training.attention import use_packed_attention

    losses = []
    for flash in (False, True):
        machine, task = build_step("tiny", 2, EngineSettings())
        use_packed_attention(machine.model.parts["language_model"], flash)
        losses.append(machine.forward(task.micro_batches(0)[0]).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_benchmark_of_a_step_prints_what_it_measured():
    command = [sys.executable, str(ROOT / "benchmarks/training_step.py"), "--size", "tiny", "--steps", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    measured = json.loads(done.stdout)
    assert measured["step_seconds"] > 0 and measured["peak_memory_mb"] > 0
    assert 0 < measured["utilisation"] < 1
