"""Staging: a source is checked before anything is written, and what is written can be loaded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import tiny_encoders
import torch
from tiny_language_model import CHAT_TEMPLATE, write_tiny_language_model

from encoder_roles.encoders.loading import load_encoder, load_source
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import load_language_model
from encoder_roles.provenance import write_json
from encoder_roles.sources.stage_encoder import copy_source, stage_encoder
from encoder_roles.sources.stage_language_model import stage_language_model
from encoder_roles.study.names import StudyError


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source") / "clip"
    tiny_encoders.write_clip(folder)
    (folder / "README.md").write_text("a model card")
    return folder


@pytest.fixture
def copy(source: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def settings_of(source: Path, folder: Path, **changes: int) -> Path:
    spec = tiny_encoders._spec("transformers", source, 48).model_copy(update=changes)
    write_json(folder / "encoder_clip.json", spec.model_dump(mode="json"))
    return folder / "encoder_clip.json"


def write_sums(folder: Path, leave_out: str = "") -> None:
    names = sorted(f.name for f in folder.iterdir() if f.name not in {"SHA256SUMS", leave_out})
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}\n" for n in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def test_a_staged_encoder_is_its_source_with_its_width(source: Path, tmp_path: Path) -> None:
    stage_encoder(
        settings=settings_of(source, tmp_path), source=source, output=tmp_path / "encoders" / "clip"
    )
    staged = tmp_path / "encoders" / "clip"
    assert sorted(f.name for f in staged.iterdir()) == ["config.json", "encoder.json", "model.safetensors"]
    row = json.loads((staged / "encoder.json").read_text())
    assert (row["width"], row["pixels"], row["source"]) == (16, 48, str(source))
    encoder = load_encoder(staged)
    direct = load_source("clip", encoder.spec, source)
    pixels = encoder.preprocess(tiny_encoders.pictures(2))
    with torch.no_grad():
        assert torch.equal(encoder(pixels), direct(pixels))


def test_a_layer_of_the_settings_decides_the_width_that_is_written(tmp_path: Path) -> None:
    spec = tiny_encoders.write_sam(tmp_path / "source")
    for layer, width in ((-1, 20), (-2, 16)):
        settings = tmp_path / "encoder_sam.json"
        write_json(settings, spec.model_copy(update={"layer": layer}).model_dump(mode="json"))
        stage_encoder(settings=settings, source=tmp_path / "source", output=tmp_path / "sam")
        assert load_encoder(tmp_path / "sam").width == width


def test_checksums_of_the_source_are_held(copy: Path, tmp_path: Path) -> None:
    write_sums(copy)
    stage_encoder(settings=settings_of(copy, tmp_path), source=copy, output=tmp_path / "out" / "clip")
    text = (copy / "config.json").read_text()
    (copy / "config.json").write_text(text + "\n")
    with pytest.raises(StudyError, match=r"config\.json: its SHA-256"):
        stage_encoder(settings=settings_of(copy, tmp_path), source=copy, output=tmp_path / "other" / "clip")
    assert not (tmp_path / "other" / "clip").exists()
    (copy / "config.json").unlink()
    with pytest.raises(StudyError, match=r"config\.json: listed in SHA256SUMS"):
        copy_source(copy, tmp_path / "third")


def test_weights_that_the_checksums_do_not_list_are_refused(copy: Path, tmp_path: Path) -> None:
    write_sums(copy, leave_out="model.safetensors")
    with pytest.raises(StudyError, match=r"model\.safetensors: weights that SHA256SUMS does not list"):
        copy_source(copy, tmp_path / "out")
    (copy / "SHA256SUMS").write_text("no sum\n")
    with pytest.raises(StudyError, match="line 1"):
        copy_source(copy, tmp_path / "out")


def test_pickled_weights_are_left_behind_and_never_enough(copy: Path, tmp_path: Path) -> None:
    (copy / "pytorch_model.bin").write_bytes(b"pickle")
    (tmp_path / "out").mkdir()
    copy_source(copy, tmp_path / "out")
    assert not (tmp_path / "out" / "pytorch_model.bin").exists()
    (copy / "model.safetensors").unlink()
    with pytest.raises(StudyError, match=r"pytorch_model\.bin.*not read"):
        copy_source(copy, tmp_path / "out")


def test_a_source_that_cannot_give_what_is_asked_leaves_nothing(source: Path, tmp_path: Path) -> None:
    output = tmp_path / "encoders" / "clip"
    with pytest.raises(StudyError, match="no such folder"):
        stage_encoder(settings=settings_of(source, tmp_path), source=tmp_path / "nowhere", output=output)
    with pytest.raises(StudyError, match="hidden states"):
        stage_encoder(settings=settings_of(source, tmp_path, layer=7), source=source, output=output)
    with pytest.raises(StudyError, match="position table"):
        stage_encoder(settings=settings_of(source, tmp_path, pixels=64), source=source, output=output)
    assert not output.exists()


def test_a_language_model_is_staged_with_its_tokenizer(tmp_path: Path) -> None:
    source = write_tiny_language_model(tmp_path / "source")
    output, settings = tmp_path / "language_model", tmp_path / "language_model.json"
    write_json(settings, {"chat_template": None})
    stage_language_model(settings=settings, source=source, output=output)
    weights = load_language_model(source).state_dict()
    assert all(torch.equal(weights[k], v) for k, v in load_language_model(output).state_dict().items())
    assert load_tokenizer(output).chat_template == load_tokenizer(source).chat_template
    (source / "tokenizer.json").unlink()
    with pytest.raises(StudyError, match="tokenizer"):
        stage_language_model(settings=settings, source=source, output=tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_studys_chat_template_stands_before_the_tokenizers_own(tmp_path: Path) -> None:
    source = write_tiny_language_model(tmp_path / "source")
    output, settings = tmp_path / "language_model", tmp_path / "language_model.json"
    template = CHAT_TEMPLATE.replace(" <answer>", " answer: <answer>")
    write_json(settings, {"chat_template": template})
    stage_language_model(settings=settings, source=source, output=output)
    assert load_tokenizer(output).chat_template == template
    for message, wrong in (("once each and in this order", "{{ 'hello' }}"), ("no chat template", "")):
        write_json(settings, {"chat_template": wrong})
        with pytest.raises(StudyError, match=message) as error:
            stage_language_model(settings=settings, source=source, output=tmp_path / "again")
        assert str(error.value).startswith(f"{source}: ")
        assert not (tmp_path / "again").exists()
