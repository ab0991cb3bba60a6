"""The multi-encoder VLM: saved and loaded whole, one function whatever the pool's order, blind without it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import tiny_encoders
import torch
from safetensors.torch import load_file, save_file
from tiny_language_model import write_tiny_language_model
from torch import Tensor

from encoder_roles.encoders.encoder import Encoder
from encoder_roles.encoders.loading import read_spec
from encoder_roles.models import vlm
from encoder_roles.models.connector import projector_inputs
from encoder_roles.models.connectors.channels import ChannelConcat
from encoder_roles.models.connectors.factory import KINDS
from encoder_roles.models.grid import grid_features
from encoder_roles.models.masking import calibrate, mask_features
from encoder_roles.models.vlm import MultiEncoderConfig, MultiEncoderVLM, load_trained_encoders, load_vlm
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import CONNECTORS, ConnectorSettings

POOL = ("clip", "siglip", "dinov2", "convnext", "sam")
FILES = ["config.json", "model.safetensors"]
SETTINGS = ConnectorSettings(kind="mlp", layers=2, grid=4)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sources")
    return tiny_encoders.write_pool(folder / "encoders") | {
        "language_model": write_tiny_language_model(folder / "language_model")
    }


def build(
    sources: dict[str, Path],
    names: tuple[str, ...] = POOL,
    settings: ConnectorSettings = SETTINGS,
    seed: int = 0,
) -> MultiEncoderVLM:
    encoders = {name: sources[name] for name in names}
    return MultiEncoderVLM.from_sources(encoders, sources["language_model"], settings, seed)


def answer(model: MultiEncoderVLM, pictures: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(model.visual_tokens(model.features(pictures))).logits
    return logits


def test_a_saved_model_answers_the_same_with_its_sources_gone(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    copies = tiny_encoders.write_pool(tmp_path / "encoders")
    model = build(copies | {"language_model": sources["language_model"]})
    with torch.no_grad():
        for weight in model.parameters():  # trained weights differ from every source
            weight.add_(0.01 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))
    model.save_pretrained(tmp_path / "tune")
    for folder in copies.values():
        for file in folder.iterdir():
            file.unlink()
    again = load_vlm(tmp_path / "tune")
    pictures = tiny_encoders.pictures(3)
    features, reloaded = model.features(pictures), again.features(pictures)
    assert list(reloaded) == list(POOL)
    for name in POOL:
        assert torch.equal(features[name], reloaded[name])
    assert torch.equal(answer(model, pictures), answer(again, pictures))
    assert list(model.state_dict()) == list(again.state_dict())
    again.save_pretrained(tmp_path / "twice")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "tune" / file).read_bytes() == (tmp_path / "twice" / file).read_bytes()


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_is_written_as_save_pretrained_writes_it(
    sources: dict[str, Path], tmp_path: Path, tied: bool
) -> None:
    model = build(sources)
    if not tied:
        row = model.config.language_model | {"tie_word_embeddings": False}
        model = MultiEncoderVLM(MultiEncoderConfig(model.config.encoders, model.config.connector, row))
    head, embeddings = model.language_model.lm_head, model.language_model.get_input_embeddings()
    assert (head.weight is embeddings.weight) == tied
    (tmp_path / "written").mkdir()
    model.write(tmp_path / "written", model.state_dict())
    load_vlm(tmp_path / "written").save_pretrained(tmp_path / "saved")
    for folder in ("written", "saved"):
        assert sorted(file.name for file in (tmp_path / folder).iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / "written" / name).read_bytes() == (tmp_path / "saved" / name).read_bytes(), name


def test_an_output_layer_of_its_own_is_kept_although_the_config_ties_it(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    folder = write_tiny_language_model(tmp_path / "language_model")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"]
    model = MultiEncoderVLM.from_sources({}, folder, ConnectorSettings(), seed=0)
    (tmp_path / "blind").mkdir()
    model.write(tmp_path / "blind", model.state_dict())
    again: Any = load_vlm(tmp_path / "blind").language_model
    assert torch.equal(again.lm_head.weight, weights["lm_head.weight"])
    assert torch.equal(again.model.embed_tokens.weight, weights["model.embed_tokens.weight"])


def test_a_library_that_looks_for_deepspeed_prints_no_warning_of_it() -> None:
    warning, error = (
        logging.LogRecord("DeepSpeed", level, "", 0, "no GPU", None, None)
        for level in (logging.WARNING, logging.ERROR)
    )
    assert not logging.getLogger("DeepSpeed").filter(warning)
    assert logging.getLogger("DeepSpeed").filter(error)


def test_trained_encoders_are_read_without_the_rest(sources: dict[str, Path], tmp_path: Path) -> None:
    model = build(sources, ("clip", "convnext"))
    with torch.no_grad():
        for weight in model.encoders.parameters():
            weight.mul_(1.1)
    model.save_pretrained(tmp_path)
    encoders, grid = load_trained_encoders(tmp_path)
    assert (list(encoders), grid) == (["clip", "convnext"], 4)
    pictures = tiny_encoders.pictures(2)
    for name, encoder in encoders.items():
        pixels = encoder.preprocess(pictures)
        with torch.no_grad():
            assert torch.equal(encoder(pixels), model.encoders[name](pixels))


def test_weights_are_saved_once_and_all_of_them(sources: dict[str, Path], tmp_path: Path) -> None:
    model = build(sources, ("sam",))
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    own = model.state_dict()
    tied = set(own) - set(saved)
    assert tied == {"language_model.lm_head.weight"}
    for name, weight in saved.items():
        assert torch.equal(weight, own[name])


@pytest.mark.parametrize("kind", ["missing", "unexpected", "shape", "truncated", "no weights", "no config"])
def test_a_checkpoint_that_is_not_whole_is_refused(
    sources: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    build(sources, ("siglip",)).save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    name = "connector.layers.0.weight"
    if kind == "missing":
        del weights[name]
    elif kind == "unexpected":
        weights[name := "connector.layers.9.weight"] = torch.zeros(2)
    elif kind == "shape":
        weights[name] = weights[name][:, 1:].contiguous()
    save_file(weights, path)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
    elif kind == "no weights":
        path.unlink()
    elif kind == "no config":
        (tmp_path / "config.json").unlink()
    with pytest.raises(StudyError) as caught:
        load_vlm(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    if kind in {"missing", "unexpected", "shape"}:
        assert name in str(caught.value)


def test_a_folder_of_something_else_is_refused(sources: dict[str, Path]) -> None:
    with pytest.raises(StudyError, match="not a multi-encoder VLM"):
        load_vlm(sources["clip"])


def test_the_order_of_the_pool_changes_nothing(sources: dict[str, Path]) -> None:
    order = ("sam", "convnext", "clip", "dinov2", "siglip")
    one, other = build(sources), build(sources, order)
    with torch.no_grad():
        source, target = one.connector.layers[0], other.connector.layers[0]
        blocks = dict(zip(POOL, source.weight.split(list(one.widths.values()), dim=1), strict=True))
        target.weight.copy_(torch.cat([blocks[name] for name in order], dim=1))
        target.bias.copy_(source.bias)
        other.connector.layers[2].load_state_dict(one.connector.layers[2].state_dict())
    pictures = tiny_encoders.pictures(3)
    assert torch.allclose(answer(one, pictures), answer(other, pictures), atol=1e-5)
    inputs, permuted = (projector_inputs(m.features(pictures)) for m in (one, other))
    for name in POOL:
        kept = frozenset({name})
        masked = [m.project(mask_features(i, kept, "zero")) for m, i in ((one, inputs), (other, permuted))]
        assert torch.allclose(*masked, atol=1e-5)


def test_the_blind_model_reads_no_picture(sources: dict[str, Path], tmp_path: Path) -> None:
    model = build(sources, ())
    model.save_pretrained(tmp_path)
    model = load_vlm(tmp_path)
    assert model.connector is None
    assert model.tokens_per_picture == 0
    assert model.features(tiny_encoders.pictures(2)) == {}
    assert model.visual_tokens({}, pictures=2).shape == (2, 0, model.hidden)
    with pytest.raises(StudyError, match="number of pictures"):
        model.visual_tokens({})
    assert not [name for name in model.state_dict() if not name.startswith("language_model.")]


def test_the_seed_alone_decides_a_new_connector(sources: dict[str, Path]) -> None:
    torch.manual_seed(1)
    one = build(sources, ("clip", "sam"), seed=3).connector.state_dict()
    torch.manual_seed(2)
    again = build(sources, ("clip", "sam"), seed=3).connector.state_dict()
    other = build(sources, ("clip", "sam"), seed=4).connector.state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(("kind", "layers", "count"), [("linear", 1, 1), ("mlp", 2, 2), ("mlp", 3, 3)])
def test_a_connector_has_the_layers_it_is_asked_for(kind: str, layers: int, count: int) -> None:
    settings = ConnectorSettings.model_validate({"kind": kind, "layers": layers, "grid": 2})
    connector = ChannelConcat({"clip": (5,), "sam": (3,)}, settings, 7, seed=0)
    linear = [m for m in connector.layers if isinstance(m, torch.nn.Linear)]
    assert [m.in_features for m in linear] == [8, *[7] * (count - 1)]
    assert {m.out_features for m in linear} == {7}
    inputs = {"clip": torch.randn(2, 2, 2, 5), "sam": torch.randn(2, 2, 2, 3)}
    assert connector(inputs).shape == (2, 4, 7)


def test_gradients_reach_every_trained_weight_of_the_vision_side(sources: dict[str, Path]) -> None:
    model = build(sources)
    model(model.visual_tokens(model.features(tiny_encoders.pictures(2)))).logits.square().sum().backward()
    unused = {"encoders.dinov2.trunk.embeddings.mask_token"}  # DINOv2's own: stands for masked patches only
    for name, weight in model.named_parameters():
        if name not in unused and not name.startswith("language_model"):
            assert weight.grad is not None, name


def test_features_of_a_picture_do_not_depend_on_its_batch(sources: dict[str, Path]) -> None:
    model = build(sources)
    pictures = tiny_encoders.pictures(4)
    with torch.no_grad():
        whole, alone = model.features(pictures), model.features(pictures[2:3])
    for name in POOL:
        assert torch.allclose(whole[name][2:3], alone[name], atol=1e-5)


def test_a_config_names_no_folder_of_this_machine_but_the_source(
    sources: dict[str, Path], tmp_path: Path
) -> None:
    build(sources, ("clip",)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (row,) = config["encoders"]
    assert "name_or_path" not in json.dumps(row["library_config"]) + json.dumps(config["language_model"])


def test_means_replace_a_removed_encoder_by_what_it_says_on_average(sources: dict[str, Path]) -> None:
    model = build(sources, ("clip", "sam"))
    with torch.no_grad():
        batches = [projector_inputs(model.features(tiny_encoders.pictures(4, seed))) for seed in (1, 2)]
        result = calibrate(batches, keep_donors=True)
    for name in ("clip", "sam"):
        rows = torch.cat([b[name] for b in batches]).flatten(0, -2)
        assert torch.allclose(result[name].mean, rows.mean(0), atol=1e-5)
        assert torch.allclose(result[name].std, rows.std(0, correction=0), atol=1e-5)
        assert result[name].donors is not None
        assert result[name].donors.shape == (8, 4, 4, model.widths[name])


MIXED = {
    "clip": {"aspect": "pad"},
    "siglip": {"aspect": "crop"},
    "sam": {"aspect": "longest"},
    "pix2struct": {},
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Encoders that each frame pictures in their own way; two have two levels."""
    folder = tmp_path_factory.mktemp("mixed")
    staged = tiny_encoders.write_pool(folder, tuple(MIXED))
    for name, changes in MIXED.items():
        spec, _ = read_spec(staged[name])
        levels = {"layer": (1, -1)} if name in ("clip", "sam") else {}
        tiny_encoders.stage(staged[name], spec.model_copy(update=changes | levels))
    return staged | {"language_model": write_tiny_language_model(folder / "language_model")}


@pytest.mark.parametrize(("height", "width"), [(40, 70), (70, 40)])
def test_an_encoder_is_fed_the_same_whatever_else_is_in_the_subset(
    mixed: dict[str, Path], height: int, width: int
) -> None:
    pictures = tiny_encoders.pictures(2, size=80)[..., :height, :width]
    whole = build(mixed, tuple(MIXED))
    with torch.no_grad():
        result = whole.features(pictures)
        for name in MIXED:
            alone = build(mixed, (name,)).features(pictures)[name]
            assert torch.equal(result[name], alone)
            assert result[name].shape == (2, 4, 4, whole.widths[name])


def test_an_encoder_reads_together_what_its_frame_brings_to_one_size(
    mixed: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = ((40, 70), (70, 40), (40, 70), (56, 56))
    pictures = [tiny_encoders.pictures(4, size=80)[i, :, :h, :w] for i, (h, w) in enumerate(shapes)]
    model, passes = build(mixed, tuple(MIXED)), []
    read = grid_features

    def read_and_note(encoder: Encoder, pixels: Tensor, grid: int) -> Tensor:
        passes.append((encoder.name, len(pixels)))
        return read(encoder, pixels, grid)

    monkeypatch.setattr(vlm, "grid_features", read_and_note)
    with torch.no_grad():
        result = model.features(pictures)
        for name, count in passes:
            whole = model.encoders[name].frame.aspect in ("squash", "pad", "crop")
            assert count == 4 if whole else count < 4, "one pass for all where all become one size"
        alone = [model.features([picture]) for picture in pictures]
    for name, block in result.items():
        torch.testing.assert_close(block, torch.cat([one[name] for one in alone]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_every_connector_is_saved_and_loaded_whole(
    mixed: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    sizes = {"depth": 1, "heads": 2, "queries": 3, "query_grid": 2, "groups": 2}
    row = {"kind": kind, "grid": 4} | {key: sizes[key] for key in CONNECTORS[kind]}
    model = build(mixed, tuple(MIXED), ConnectorSettings.model_validate(row), seed=1)
    model.save_pretrained(tmp_path)
    again, pictures = load_vlm(tmp_path), tiny_encoders.pictures(2)
    assert torch.equal(answer(model, pictures), answer(again, pictures))
    assert again.levels["clip"] == (16, 16)
    assert again.levels["sam"] == (16, 20)
    with torch.no_grad():
        tokens = again.visual_tokens(again.features(pictures))
    assert tokens.shape == (2, again.tokens_per_picture, again.hidden)
    encoders, grid = load_trained_encoders(tmp_path)
    assert grid == 4
    assert encoders["sam"].widths == (16, 20)
