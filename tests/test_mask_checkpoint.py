"""Masks on a checkpoint from elsewhere: the answers are those of our own masks, or as computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmark_cases import write_case
from tiny_llava import write_tiny_llava
from tiny_study import TinyStudy

from encoder_roles.evaluation.checkpoint import LmmsCheckpoint, calibration_pictures
from encoder_roles.evaluation.mask_checkpoint import answer_masks
from encoder_roles.evaluation.predict import predict_masks, predict_subset
from encoder_roles.evaluation.requests import read_requests, write_requests
from encoder_roles.models.module_masks import ModuleMask
from encoder_roles.provenance import read_jsonl, write_json
from encoder_roles.study.sections import MaskedCheckpoint
from encoder_roles.study.stages import CheckpointStage

BENCHMARKS = ("gqa", "mmmu")
ENCODERS = {"clip": "projector_norms.clip", "sam": "projector_norms.sam"}
PICTURES = 16
MASKS = {"batch_tokens": 800, "threads": 1, "calibration_pictures": PICTURES}


@pytest.fixture(scope="module")
def data(study: TinyStudy) -> Path:
    folder = study.root / "cases"
    for benchmark in BENCHMARKS:
        write_case(folder, benchmark, 12)
    write_json(folder / "requests.json", {"benchmarks": BENCHMARKS})
    write_requests(settings=folder / "requests.json", data=folder, output=folder / "requests")
    write_json(folder / "masks.json", MASKS)
    write_json(folder / "predict.json", {key: MASKS[key] for key in ("batch_tokens", "threads")})
    return folder


def of_project(model: Path, study: TinyStudy, **keys: Any) -> MaskedCheckpoint:
    """Hooks on a model of this project, whose data calibrate them."""
    named = {"model": "encoder_roles", "model_args": f"pretrained={model}", "encoders": ENCODERS}
    calibrated = {"calibration": str(study.data), "calibration_pictures": PICTURES, "batch_size": 3}
    return MaskedCheckpoint.model_validate(named | calibrated | keys)


def answers_in(folder: Path) -> dict[str, list[str]]:
    return {name: [row["text"] for row in read_jsonl(folder / f"{name}.jsonl")] for name in BENCHMARKS}


@pytest.mark.parametrize("operator", ["zero", "mean", "shuffle"])
def test_hooks_on_a_model_of_this_project_give_the_answers_of_its_own_masks(
    operator: str, data: Path, study: TinyStudy, model: Path, tmp_path: Path
) -> None:
    settings = of_project(model, study, operators=(operator,))
    stage = CheckpointStage(checkpoint=settings, threads=1)
    answer_masks(stage, data / "requests", settings.runs, tmp_path / "hooks", study.data)
    predict_masks(
        settings=data / "masks.json",
        operator=operator,
        requests=data / "requests",
        model=model,
        masks=settings.masks,
        data=study.data,
        output_root=tmp_path / "own",
    )
    predict_subset(
        settings=data / "predict.json",
        requests=data / "requests",
        model=model,
        subset="clip+sam",
        output=tmp_path / "own/clip+sam.unmasked",
    )
    hooks = tmp_path / "hooks/clip+sam/seed0"
    own = {mask: answers_in(tmp_path / f"own/{mask}.{by}") for mask, by in settings.runs}
    assert own["clip+sam"] != own["none"]  # the masks do something
    compared = settings.runs if operator != "shuffle" else settings.runs[:1]  # draws come in another order
    assert {m: answers_in(hooks / f"{m}.{by}") for m, by in compared} == {m: own[m] for m, _ in compared}
    assert answers_in(hooks / f"none.{operator}") != own["clip+sam"]


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> MaskedCheckpoint:
    """A tiny LLaVA with one encoder, as lmms-eval's llava_hf loads it."""
    folder = write_tiny_llava(tmp_path_factory.mktemp("llava"))
    return MaskedCheckpoint(
        model="llava_hf",
        model_args=f"pretrained={folder},dtype=float32",
        encoders={"clip": "model.vision_tower"},
        operators=("zero", "mean"),
    )


def visual_tokens(checkpoint: LmmsCheckpoint, rows: Any, folder: Path, mask: ModuleMask) -> torch.Tensor:
    """What the projector gives for the pictures of some requests (calls, tokens, width)."""
    seen: list[torch.Tensor] = []
    projector = checkpoint.model.model.multi_modal_projector
    handle = projector.register_forward_hook(lambda module, inputs, output: seen.append(output.detach()))
    checkpoint.answer({"gqa": rows}, folder, mask)
    handle.remove()
    return torch.cat(seen)


def test_masking_the_encoder_of_a_llava_changes_its_visual_tokens_as_computed_by_hand(
    llava: MaskedCheckpoint, data: Path, study: TinyStudy
) -> None:
    checkpoint = LmmsCheckpoint(llava)
    rows, folder = read_requests(data / "requests", "gqa")[:3], data / "requests"
    removed = frozenset({"clip"})
    seeing = visual_tokens(checkpoint, rows, folder, ModuleMask(frozenset(), "zero"))
    assert seeing.shape[1:] == (4, 24)
    assert not torch.allclose(seeing[1], seeing[2])

    first, second = (getattr(checkpoint.model.model.multi_modal_projector, f"linear_{i}") for i in (1, 2))
    zero = visual_tokens(checkpoint, rows, folder, ModuleMask(removed, "zero"))
    of_zeros = torch.nn.functional.gelu(first.bias) @ second.weight.T + second.bias
    assert torch.allclose(zero, of_zeros.expand_as(zero), atol=1e-5)

    paths = calibration_pictures(study.data, 6)
    outputs: list[torch.Tensor] = []
    tower = checkpoint.model.model.vision_tower
    handle = tower.register_forward_hook(lambda module, i, output: outputs.append(output.hidden_states[-2]))
    calibrations = checkpoint.calibrate(paths, keep_donors=False)
    handle.remove()
    assert len(outputs) == 6
    mean = torch.cat(outputs).flatten(0, 1).mean(0)
    masked = visual_tokens(checkpoint, rows, folder, ModuleMask(removed, "mean", calibrations))
    hidden = torch.nn.functional.gelu(mean @ first.weight.T + first.bias)
    by_hand = hidden @ second.weight.T + second.bias
    assert torch.allclose(masked, by_hand.expand_as(masked), atol=1e-4)
