"""Masks on a checkpoint from elsewhere: the answers are those of our own masks, or as computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from benchmark_cases import write_case
from tiny_checkpoints import write_tiny_deepseek_vl, write_tiny_llava
from tiny_study import TinyStudy

from encoder_roles.evaluation.checkpoint import LmmsCheckpoint, calibration_pictures
from encoder_roles.evaluation.mask_checkpoint import mask_checkpoint
from encoder_roles.evaluation.predict import predict_masks, predict_subset
from encoder_roles.evaluation.predict_checkpoint import answer_masks
from encoder_roles.evaluation.requests import read_requests, write_requests
from encoder_roles.models.module_masks import ModuleMask
from encoder_roles.provenance import read_jsonl, write_json
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import MaskedCheckpoint
from encoder_roles.study.stages import CheckpointStage

BENCHMARKS = ("gqa", "mmmu")
ENCODERS = {"clip": "projector_norms.clip", "sam": "projector_norms.sam"}
PICTURES = 16
MASKS = {"batch_tokens": 800, "threads": 1, "calibration_pictures": PICTURES}


@pytest.fixture(scope="module")
def data(study: TinyStudy, model: Path) -> Path:
    """Two benchmarks; the model is right about half of gqa, whose answers are made from its own."""
    folder = study.root / "cases"
    for benchmark in BENCHMARKS:
        write_case(folder, benchmark, 24 if benchmark == "gqa" else 12)
    write_json(folder / "masks.json", MASKS)
    write_json(folder / "predict.json", {key: MASKS[key] for key in ("batch_tokens", "threads")})
    write_json(folder / "requests.json", {"benchmarks": BENCHMARKS})
    write_requests(settings=folder / "requests.json", data=folder, output=folder / "requests")
    answer_masks(
        CheckpointStage(checkpoint=of_project(model, study), threads=1),
        folder / "requests",
        [("clip+sam", "unmasked")],
        folder / "first",
        None,
    )
    texts = answers_in(folder / "first/clip+sam/seed0/clip+sam.unmasked")["gqa"]
    file = folder / "benchmarks/gqa/test.parquet"
    table = pq.read_table(file)
    golds = [text if i % 2 else "elephant" for i, text in enumerate(texts)]
    place = table.column_names.index("answer")
    pq.write_table(table.set_column(place, table.field(place), [golds]), file)
    write_requests(settings=folder / "requests.json", data=folder, output=folder / "requests")
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
    folder = data / "requests"
    rows = list({row.images: row for row in read_requests(folder, "gqa")}.values())[:3]
    removed = frozenset({"clip"})
    seeing = visual_tokens(checkpoint, rows, folder, ModuleMask(frozenset(), "zero"))
    assert seeing.shape[1:] == (4, 24)
    assert len(seeing) == 1 + len(rows) and not torch.allclose(seeing[-2], seeing[-1])

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


def test_masking_either_encoder_of_deepseek_vl_empties_its_input_of_the_aligner_alone(
    data: Path, tmp_path: Path
) -> None:
    settings = MaskedCheckpoint(
        model="image_text_to_text",
        model_args={"pretrained": str(write_tiny_deepseek_vl(tmp_path / "deepseek"))},
        encoders={"siglip": "model.vision_model", "sam": "model.high_res_vision_proj"},
        channels={"sam": 1},
    )
    checkpoint = LmmsCheckpoint(settings)
    folder = data / "requests"
    rows = list({row.images: row for row in read_requests(folder, "gqa")}.values())[:2]
    seen: list[tuple[Any, torch.Tensor]] = []
    aligner = checkpoint.model.model.aligner
    aligner.register_forward_hook(lambda module, inputs, output: seen.append((inputs, output)))

    checkpoint.answer({"gqa": rows}, folder, ModuleMask(frozenset(), "zero"))
    whole = [inputs for inputs, _ in seen]
    assert all((block != 0).any() for block in whole[-1])
    for place, name in enumerate(settings.pool):
        seen.clear()
        checkpoint.answer({"gqa": rows}, folder, ModuleMask(frozenset({name}), "zero"))
        for before, (inputs, output) in zip(whole, seen, strict=True):
            by_hand = [torch.zeros_like(b) if i == place else b for i, b in enumerate(before)]
            assert all(torch.equal(now, wanted) for now, wanted in zip(inputs, by_hand, strict=True))
            with torch.no_grad():
                assert torch.allclose(output, aligner.forward(*by_hand))


def command(folder: Path, study: TinyStudy, data: Path, output: Path, **keys: Any) -> None:
    given = {"model": "encoder_roles", "model_args": f"pretrained={folder}", "encoders": ENCODERS}
    given |= {"data": data, "output": output, "benchmarks": BENCHMARKS, "operators": ("zero", "mean")}
    given |= {"calibration": study.data, "calibration_pictures": PICTURES, "threads": 1}
    mask_checkpoint(**(given | keys))


def test_the_command_ends_in_masked_roles_with_intervals_a_figure_and_a_report(
    data: Path, study: TinyStudy, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(model, study, data, tmp_path / "out")
    printed = capsys.readouterr().out
    assert "Masked roles (zero; information gap" in printed
    roles = pd.read_csv(tmp_path / "out/roles/roles.csv")
    roles = roles[(roles["level"] == "overall") & (roles["operator"] != "retrained")]
    scores = pd.read_csv(tmp_path / "out/scores.csv")
    scores = scores[scores["level"] == "overall"].set_index(["mask", "operator"])["score"]
    for operator in ("zero", "mean"):
        of = roles[roles["operator"] == operator].set_index(["measure", "encoder"])
        full, alone = scores["clip+sam", "unmasked"], scores["clip", operator]
        assert of.loc[("capacity", "clip"), "value"] == pytest.approx(alone, abs=1e-5)
        assert of.loc[("necessity", "sam"), "value"] == pytest.approx(full - alone, abs=1e-5)
        assert {"cur", "information_gap"} <= set(of.index.get_level_values("measure"))
        assert (of["low"] <= of["value"]).all() and (of["low"] < of["high"]).any()
    games = pd.read_csv(tmp_path / "out/roles/games.csv")
    shapley = games[(games["index"] == "shapley") & (games["level"] == "overall")]
    assert set(shapley["operator"]) == {"zero", "mean"}
    page = (tmp_path / "out/roles/report.html").read_text(encoding="utf-8")
    assert "Masked roles: zero" in page and "Masked roles: mean" in page
    assert (tmp_path / "out/roles/figures/masked_roles.svg").is_file()

    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/predictions").rglob("*.jsonl")}
    (tmp_path / "out/predictions/clip+sam/seed0/sam.mean/prediction.json").unlink()
    command(model, study, data, tmp_path / "out", figures=False)
    again = {path for path, at in written.items() if path.stat().st_mtime_ns != at}
    assert {path.parent.name for path in again} == {"sam.mean"}  # the others were not answered again

    swapped = {"clip": ENCODERS["sam"], "sam": ENCODERS["clip"]}
    with pytest.raises(StudyError, match="has answers of another checkpoint, or to other requests"):
        command(model, study, data, tmp_path / "out", encoders=swapped)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"model": "llava_fh"}, "model 'llava_fh': lmms-eval .* has none of this name; did you mean llava"),
        ({"model": "llava"}, "model llava: name 'get_model_name_from_path' is not defined: the package"),
        ({"model": "openai_none:Class"}, "model openai_none:Class: No module named 'openai_none'"),
        ({"model_args": "pretrained=nowhere"}, "model encoder_roles: cannot be loaded with|nowhere"),
        (
            {"encoders": {"clip": "norms.clip"}},
            r"module norms\.clip: the model has no 'norms' \(it has encoders",
        ),
        ({"encoders": {"clip": "encoders.clip"}}, r"module encoders\.clip: was never called for a picture"),
        ({"encoders": {"blind": "encoders.clip"}}, "encoders: 'blind' is a reserved word"),
        ({"channels": {"sam": 1}, "encoders": {"clip": "encoders.clip"}}, "'sam' is none of the encoders"),
        ({"operators": ("mean",), "calibration": None}, "operator mean: needs calibration pictures"),
        ({"operators": ("mean",), "calibration": Path("none")}, "none: no such folder of pictures"),
        ({"benchmarks": ("gqqa",)}, "benchmark 'gqqa' belongs to no group"),
    ],
)
def test_a_fault_is_one_line(
    keys: dict[str, Any], message: str, data: Path, study: TinyStudy, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(StudyError, match=message) as error:
        command(model, study, data, tmp_path / "out", **keys)
    assert "\n" not in str(error.value)
