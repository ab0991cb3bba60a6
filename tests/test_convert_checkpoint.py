"""Pickled checkpoints become safetensors that staging reads, with the same weights; no pickle runs code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import tiny_encoders
import torch
from safetensors.torch import load_file
from tiny_language_model import write_tiny_language_model

from encoder_roles.encoders.loading import load_source
from encoder_roles.models.vlm import load_language_model
from encoder_roles.provenance import sha256_of
from encoder_roles.sources.convert_checkpoint import convert_checkpoint
from encoder_roles.sources.stage_encoder import copy_source
from encoder_roles.study.names import StudyError


def pickle_weights(folder: Path, made: str, old: str = "model.safetensors", **options: Any) -> dict[str, Any]:
    """Replace a folder's safetensors by a pickled file of the same weights."""
    weights = load_file(folder / old)
    torch.save(weights, folder / made, **options)
    (folder / old).unlink()
    return weights


@pytest.mark.parametrize(
    ("name", "made", "old", "zipped"),
    [
        ("clip", "pytorch_model.bin", "model.safetensors", True),
        ("clip", "pytorch_model.bin", "model.safetensors", False),  # torch's format before 1.6
        ("timm", "pytorch_model.bin", "model.safetensors", True),
        ("convnext", "open_clip_pytorch_model.bin", "open_clip_model.safetensors", True),
    ],
)
def test_a_converted_encoder_has_the_weights_of_its_pickle(
    tmp_path: Path, name: str, made: str, old: str, zipped: bool
) -> None:
    source, output, staged = tmp_path / "source", tmp_path / "converted", tmp_path / "staged"
    spec = getattr(tiny_encoders, f"write_{name}")(source)
    before = load_source(name, spec, source).state_dict()
    pickle_weights(source, made, old, _use_new_zipfile_serialization=zipped)
    with pytest.raises(StudyError, match="encoder-roles convert-checkpoint"):
        copy_source(source, staged)
    convert_checkpoint(source=source, output=output)
    staged.mkdir()
    copy_source(output, staged)  # checks SHA256SUMS
    after = load_source(name, spec, staged).state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    record = json.loads((staged / "conversion.json").read_text())["files"][made]
    assert record == {
        "sha256": sha256_of(source / made),
        "made": {"file": old, "sha256": sha256_of(staged / old)},
    }


def test_shards_of_a_language_model_with_tied_weights_are_converted_one_by_one(tmp_path: Path) -> None:
    source, output = write_tiny_language_model(tmp_path / "source"), tmp_path / "converted"
    model = load_language_model(source)
    weights = model.state_dict()
    assert "lm_head.weight" in weights and model.config.tie_word_embeddings
    shards = {"pytorch_model-00001-of-00002.bin": {}, "pytorch_model-00002-of-00002.bin": {}}
    for key, weight in weights.items():
        first = "embed" in key or "lm_head" in key
        shards[f"pytorch_model-0000{1 if first else 2}-of-00002.bin"][key] = weight
    for name, shard in shards.items():
        torch.save(shard, source / name)
    weight_map = {key: name for name, shard in shards.items() for key in shard}
    (source / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (source / "model.safetensors").unlink()
    convert_checkpoint(source=source, output=output)
    after = load_language_model(output).state_dict()
    assert all(torch.equal(weights[key], after[key]) for key in weights)
    record = json.loads((output / "conversion.json").read_text())
    assert record["tied"] == {"lm_head.weight": "model.embed_tokens.weight"}
    assert not list(output.glob("*.bin*")) and (output / "tokenizer.json").is_file()


def test_weights_below_a_key_of_a_training_script_and_parts_of_one_memory_are_read(tmp_path: Path) -> None:
    (source := tmp_path / "source").mkdir()
    memory = torch.arange(12.0)
    weights = {"a": memory[:4], "b": memory[2:8].view(2, 3).T}
    torch.save({"model": weights, "epoch": 3}, source / "sam_vit.pth")
    convert_checkpoint(source=source, output=tmp_path / "converted")
    after = load_file(tmp_path / "converted/model.safetensors")
    assert after.keys() == weights.keys() and all(torch.equal(after[key], weights[key]) for key in weights)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"pytorch_model.bin": {"a": Harmful()}}, r"pytorch_model\.bin: holds more than tensors"),
        ({"pytorch_model.bin": {"a": torch.zeros(1), "b": 3}}, r"pytorch_model\.bin: 'b' is no tensor"),
        ({"pytorch_model.bin": [torch.zeros(1)]}, r"holds a list, not weights by name"),
        ({"pytorch_model.bin": b"PK\x03\x04 cut off"}, r"pytorch_model\.bin: (damaged|holds more)"),
        ({}, r"needs one file of pickled weights, or shards with an index; has none"),
        ({"a.pth": {"a": torch.zeros(1)}, "b.pth": {"a": torch.zeros(1)}}, r"has a\.pth, b\.pth"),
        ({"model.safetensors": b""}, r"has model\.safetensors already"),
        (
            {"pytorch_model.bin.index.json": b'{"weight_map": {"a": "one.bin"}}'},
            r"one\.bin: missing, but pytorch_model\.bin\.index\.json names it",
        ),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (source := tmp_path / "source").mkdir()
    for name, value in files.items():
        if isinstance(value, bytes):
            (source / name).write_bytes(value)
        else:
            torch.save(value, source / name)
    with pytest.raises(StudyError, match=message) as fault:
        convert_checkpoint(source=source, output=tmp_path / "converted")
    assert "\n" not in str(fault.value)
    assert not (tmp_path / "converted").exists() and not (tmp_path / "harm").exists()
