"""Real sizes on one GPU, and what a GPU computes against what a CPU does: `python -m pytest -m cuda`.

The measured steps run at a tiny size anywhere, and so do the comparisons: there of the CPU with itself.
"""

from __future__ import annotations

import json
import runpy
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_encoders
import torch
from child_process import start_process
from PIL import Image
from tiny_study import TinyStudy, write_model, write_tiny_study

from encoder_roles.data.features import extract_features, read_features
from encoder_roles.effective_rank.measure import measure_pretrained_ranks, measure_ranks
from encoder_roles.effective_rank.tables import read_rows
from encoder_roles.encoders.compute import choose_device, device_name, dtype_of
from encoder_roles.evaluation.predict import TrainedModel, file_inputs, join, predict_masks, project
from encoder_roles.provenance import read_jsonl, write_jsonl
from encoder_roles.study.sections import EngineSettings, Operator
from encoder_roles.study.stages import PredictStage

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "performance"))

from training_step import build_step  # noqa: E402

from encoder_roles.training.loop import compute_gradient  # noqa: E402


def train(size: str, steps: int, **engine: object) -> list[float]:
    """Losses of some steps on one batch."""
    machine, task = build_step(size, 2, EngineSettings.model_validate(engine))
    losses = []
    for _ in range(steps):
        losses.append(compute_gradient(machine, task, 0)[0])
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


# The machine's own device; or the CPU, so that a test that no GPU runs is known to run.
DEVICES = [pytest.param(None, marks=pytest.mark.cuda, id="gpu"), pytest.param("cpu", id="cpu")]
EVERY = (*tiny_encoders.WRITERS, *tiny_encoders.MORE_WRITERS)
PREDICT = {"batch_tokens": 800, "threads": 1}
RANK = {"study": "t", "grid": 2, "pictures": 24, "resamples": 20, "level": 0.95, "seed": 0, "threads": 1}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    return write_tiny_study(tmp_path_factory.mktemp("study"), ("clip", "convnext"))


@pytest.fixture(scope="module")
def model(study: TinyStudy) -> Path:
    return write_model(study, "clip+convnext", study.root / "full")


def elsewhere(monkeypatch: pytest.MonkeyPatch, device: str | None) -> str:
    """Have every command compute on a device; its type, which is a GPU's where none is named."""
    chosen = choose_device(device)
    for room in ("data.features", "effective_rank.measure", "evaluation.predict"):
        monkeypatch.setattr(f"encoder_roles.{room}.choose_device", lambda: chosen)
    assert device is not None or chosen.type == "cuda"
    return chosen.type


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", EVERY)
def test_features_are_those_of_the_cpu(
    name: str, device: str | None, study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_encoders.write_pool(tmp_path, (name,))[name]
    collected = []
    for place in ("cpu", device):
        elsewhere(monkeypatch, place)
        output = tmp_path / f"{place}.safetensors"
        settings = study.settings("features", {"grid": 2, "threads": 1})
        extract_features(settings=settings, encoder=folder, data=study.data, output=output)
        collected.append(read_features(output)[1])
    assert collected[1].dtype == torch.float32
    assert float((collected[1] - collected[0]).norm() / collected[0].norm()) < 1e-4  # TF32 would give 1e-3


@pytest.mark.parametrize("device", DEVICES)
def test_effective_ranks_are_those_of_the_cpu(
    study: TinyStudy, model: Path, device: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [{"id": str(n), "image": f"pictures/{n}.png"} for n in range(24)]
    write_jsonl(study.data.parent / "probe.jsonl", pictures)
    shared = {"settings": study.settings("rank", RANK), "data": study.data.parent / "probe.jsonl"}
    tables = []
    for place, requests in enumerate(("cpu", device)):
        elsewhere(monkeypatch, requests)
        names = ("before", "curve", "draws", "spectra", "after", "trained")
        before, curve, draws, spectra, after, trained = (tmp_path / f"{name}{place}" for name in names)
        measure_pretrained_ranks(
            encoders=list(study.encoders.values()),
            output=before,
            curve=curve,
            draws=draws,
            spectra=spectra,
            **shared,
        )
        measured = {"pretrained": before, "draws": draws, "output": after, "spectra": trained}
        measure_ranks(subset="clip+convnext", seed=0, model=model, **measured, **shared)
        tables.append([float(row["erank"]) for table in (before, after) for row in read_rows(table)])
    assert len(tables[0]) == 4
    assert tables[1] == pytest.approx(tables[0], rel=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("precision", "distance", "share"), [("fp32", 1e-4, 0.9), ("bf16", 0.02, 0.5)])
def test_answers_are_those_of_the_cpu(
    study: TinyStudy,
    model: Path,
    device: str | None,
    precision: str,
    distance: float,
    share: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Visual tokens to rounding; most answers, though an untrained model wavers: where two tokens are all but
    equal, rounding decides, and in bf16 a quarter of its answers are others than in fp32.
    """
    texts, tokens = [], []
    for place in ("cpu", device):
        kind = elsewhere(monkeypatch, place)
        stage = PredictStage.model_validate(PREDICT | {"precision": precision})
        candidate = TrainedModel(model, study.requests, stage)
        vlm, pictures = candidate.model, candidate.request_set.pictures
        assert (vlm.device.type, vlm.dtype) == (kind, dtype_of(precision))
        runs = [candidate.answer([lambda inputs: inputs])[0].texts for _ in range(2)]
        assert runs[0] == runs[1]
        texts.append(runs[0])
        tokens.append(project(vlm, join(file_inputs(vlm, pictures)), len(pictures)).float())
    assert float((tokens[1] - tokens[0]).norm() / tokens[0].norm()) < distance
    assert len(set(texts[0])) > 5
    assert sum(one == other for one, other in zip(*texts, strict=True)) >= share * len(texts[0])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("operator", ["zero", "mean", "shuffle", "noise", "drop"])
def test_masks_act_in_bf16_wherever_the_model_is(
    study: TinyStudy,
    model: Path,
    device: str | None,
    operator: Operator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    elsewhere(monkeypatch, device)
    settings = PREDICT | {"precision": "bf16", "calibration_pictures": 16}
    predict_masks(
        settings=study.settings("masks", settings),
        operator=operator,
        requests=study.requests,
        model=model,
        masks=("clip", "convnext", "none"),
        data=study.data,
        output_root=tmp_path,
    )
    result = [
        list(read_jsonl(tmp_path / f"{mask}.{operator}/mme.jsonl")) for mask in ("clip", "convnext", "none")
    ]
    assert result[0] != result[1] != result[2]
    record = json.loads((tmp_path / f"clip.{operator}/prediction.json").read_text())
    assert record["precision"] == "bf16" and record["device"] == device_name(choose_device(device))


@pytest.mark.parametrize("device", DEVICES)
def test_lmms_evals_adapter_answers_on_the_device_what_a_prediction_job_does(
    study: TinyStudy, model: Path, device: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from encoder_roles.evaluation.adapter import EncoderRoles

    kind = elsewhere(monkeypatch, device)
    candidate = TrainedModel(model, study.requests, PredictStage.model_validate(PREDICT))
    expected = candidate.answer([lambda inputs: inputs])[0].texts
    prepared = candidate.request_set.requests["mme"]

    def shown(row: dict[str, str]) -> list[Image.Image]:
        return [Image.open(study.requests / row["image"])]

    adapter = EncoderRoles(pretrained=str(model), device=None if device is None else kind, batch_size=32)
    assert adapter.vlm.device.type == kind
    adapter.task_dict = {"mme": {"test": [{"image": request.images[0]} for request in prepared]}}
    requests = [
        SimpleNamespace(args=(request.prompt, {"max_new_tokens": 5}, shown, place, "mme", "test"))
        for place, request in enumerate(prepared)
    ]
    result = adapter.generate_until(requests)
    same = sum(one == other for one, other in zip(result, expected[: len(result)], strict=True))
    assert same >= 0.9 * len(result)


@pytest.mark.cuda
def test_bf16_answers_of_a_real_size_take_half_the_memory_and_less_time() -> None:
    measured = run_benchmark("prediction_step.py", "--size", "real", "--pictures", "64")
    assert measured["bf16_over_fp32"]["weights_mb"] == pytest.approx(0.5)
    assert measured["bf16_over_fp32"]["peak_memory_mb"] < 0.7
    assert measured["bf16_over_fp32"]["questions_per_second"] > 1.2


def run_benchmark(name: str, *options: str) -> dict[str, Any]:
    """What a benchmark prints, in a process of its own: some set the threads of torch."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "output")
        process = start_process(output, be_benchmark, name, *options)
        process.join()
        assert process.exitcode == 0
        printed: dict[str, Any] = json.loads(output.read_text())
    return printed


def be_benchmark(name: str, *options: str) -> None:
    sys.argv = [name, *options]
    runpy.run_path(str(ROOT / "performance" / name), run_name="__main__")


def test_the_benchmark_of_answers_compares_the_precisions_in_one_run() -> None:
    measured = run_benchmark("prediction_step.py", "--size", "tiny", "--pictures", "4")
    assert measured["bf16_over_fp32"]["weights_mb"] == pytest.approx(0.5)
    rates = [measured[precision]["questions_per_second"] for precision in ("bf16", "fp32")]
    assert measured["bf16_over_fp32"]["questions_per_second"] == pytest.approx(rates[0] / rates[1])


def test_bf16_learns_what_fp32_does_on_any_device():
    losses = {precision: train("tiny", 6, precision=precision) for precision in ("fp32", "bf16")}
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.05)
    assert losses["fp32"][-1] < losses["fp32"][0]


def test_attention_without_a_mask_in_memory_is_the_masked_attention(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    from encoder_roles.training.attention import use_packed_attention

    losses = []
    for way in ("blocks", "flash"):
        machine, task = build_step("tiny", 2, EngineSettings())
        use_packed_attention(machine.model.parts["language_model"], way)
        losses.append(machine.forward(task.micro_batches(0)[0]).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_benchmark_of_a_step_prints_what_it_measured():
    measured = run_benchmark("training_step.py", "--size", "tiny", "--steps", "1")
    assert measured["step_seconds"] > 0 and measured["peak_memory_mb"] > 0
    assert 0 < measured["utilisation"] < 1
