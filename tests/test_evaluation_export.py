"""A model to give away carries its scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from encoder_roles.evaluation.export import export_model
from encoder_roles.study.names import StudyError

HEAD = "study,subset,seed,mask,operator,level,benchmark,group,score,low,high,n\n"
ROWS = """laptop,clip+sam,0,clip+sam,unmasked,overall,overall,overall,44.44,43.3,45.6,8523
laptop,clip+sam,0,clip+sam,unmasked,benchmark,mme,General,61.0,58.0,64.0,500
laptop,clip+sam,0,clip,zero,overall,overall,overall,11.11,10.0,12.0,8523
laptop,clip+sam,1,clip+sam,unmasked,overall,overall,overall,22.22,21.0,23.0,8523
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "tune"
    folder.mkdir()
    (folder / "training.json").write_text(json.dumps({"subset": "clip+sam", "seed": 0}))
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "README.md").write_text(
        "# clip+sam\n\n## Recipe\n\ntext\n\n## Scores\n\nNot part of this folder.\n"
    )
    (tmp_path / "scores.csv").write_text(HEAD + ROWS)
    return folder


def test_the_card_has_the_models_own_unmasked_scores_and_no_others(model: Path, tmp_path: Path) -> None:
    export_model(model=model, scores=tmp_path / "scores.csv", output=tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert "| **overall** | 44.4 | 43.3–45.6 | 8,523 |" in card and "| mme | 61.0 |" in card
    assert "11.1" not in card and "22.2" not in card and "Not part of this folder" not in card
    assert card.startswith("# clip+sam\n\n## Recipe\n\ntext\n")
    assert (tmp_path / "out/model.safetensors").read_bytes() == b"weights"
    assert "Not part" in (model / "README.md").read_text()  # what the workflow made stays as it is


def test_a_folder_is_replaced_only_by_force_and_never_the_models_own(model: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "thesis.txt").write_text("mine")
    arguments = {"model": model, "scores": tmp_path / "scores.csv"}
    with pytest.raises(StudyError, match="out: exists; name another folder, or replace it with --force"):
        export_model(**arguments, output=output)
    assert (output / "thesis.txt").read_text() == "mine"
    export_model(**arguments, output=output, force=True)
    assert (output / "README.md").is_file() and not (output / "thesis.txt").exists()
    for place in (model, tmp_path):
        with pytest.raises(StudyError, match="holds the model itself"):
            export_model(**arguments, output=place, force=True)
    assert (model / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("scores.csv", HEAD, "no unmasked scores of 'clip[+]sam' seed 0"),
        ("scores.csv", "subset,score\n", "cannot be read as a study's scores.csv"),
        ("tune/README.md", "# another card\n", "no section of scores"),
        ("tune/training.json", "{}", "not the folder of a tuned model"),
    ],
)
def test_what_is_not_a_models_folder_or_scores_is_told_and_nothing_is_written(
    model: Path, tmp_path: Path, file: str, text: str, message: str
) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(StudyError, match=message):
        export_model(model=model, scores=tmp_path / "scores.csv", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
