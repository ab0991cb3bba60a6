"""A trained model answers a person's question about a picture, as it is and under masks."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_study import TinyStudy

import encoder_roles.evaluation.chat
from encoder_roles.encoders.framing import Frame
from encoder_roles.evaluation.chat import chat
from encoder_roles.evaluation.predict import predict_masks, predict_subset
from encoder_roles.models.vlm import MultiEncoderVLM
from encoder_roles.provenance import read_jsonl
from encoder_roles.study.names import DataError, StudyError

PICTURE = 3  # of the tiny study's requests: a red square
QUESTION = "is the circle red ?"
STAGE = {"batch_tokens": 100, "threads": 1, "calibration_pictures": 4}


@pytest.fixture
def picture(study: TinyStudy) -> Path:
    return study.requests / "images" / f"{PICTURE}.png"


def answer_in(folder: Path) -> str:
    """The prediction job's answer to QUESTION about PICTURE: the row that asks it."""
    (text,) = (row["text"] for row in read_jsonl(folder / "mme.jsonl") if row["id"] == str(2 * PICTURE))
    return str(text)


def test_the_answers_are_those_of_the_prediction_jobs(
    study: TinyStudy,
    model: Path,
    picture: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(encoder_roles.evaluation.chat, "ANSWER_TOKENS", 5)  # as the requests ask for
    masks = study.settings("masks", STAGE)
    predict = study.settings("predict", {key: STAGE[key] for key in ("batch_tokens", "threads")})
    folder = study.root / "predictions"
    inputs = {"requests": study.requests, "model": model}
    predict_subset(settings=predict, subset="clip+sam", output=folder / "unmasked", **inputs)
    kept = ("clip", "sam", "none")
    predict_masks(settings=masks, operator="zero", masks=kept, data=study.data, output_root=folder, **inputs)
    expected = {mask: answer_in(folder / f"{mask}.zero") for mask in kept}
    expected = {"unmasked": answer_in(folder / "unmasked"), **expected}
    assert len(set(expected.values())) > 1  # else a mask that does nothing would pass

    chat(model=model, picture=picture, question=QUESTION, keep=kept)
    output = [line.strip().split("  ", 1) for line in capsys.readouterr().out.splitlines()]
    assert {mask: text.strip() for mask, text in output} == expected


def test_a_person_may_choose_device_and_precision(
    model: Path, picture: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, load = [], encoder_roles.evaluation.chat.load_vlm

    def load_and_note(*given: Any) -> MultiEncoderVLM:
        loaded.append(load(*given))
        return loaded[-1]

    monkeypatch.setattr(encoder_roles.evaluation.chat, "load_vlm", load_and_note)
    chat(model=model, picture=picture, question=QUESTION, precision="bf16", device="cpu")
    chat(model=model, picture=picture, question=QUESTION)
    assert [vlm.dtype for vlm in loaded] == [torch.bfloat16, torch.float32]
    rounded, exact = capsys.readouterr().out.splitlines()
    assert rounded and rounded == exact
    with pytest.raises(StudyError, match="device 'cuda:9'"):
        chat(model=model, picture=picture, question=QUESTION, device="cuda:9")


def test_without_a_question_every_line_of_standard_input_is_one(
    model: Path, picture: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chat(model=model, picture=picture, question=QUESTION)
    alone = capsys.readouterr().out
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{QUESTION}\n\n  {QUESTION}\n"))
    chat(model=model, picture=picture)
    assert capsys.readouterr().out == 2 * alone


def test_a_word_the_language_model_has_no_token_for_is_named(model: Path, picture: Path) -> None:
    with pytest.raises(StudyError, match="no token for 'zebra'"):
        chat(model=model, picture=picture, question="is the zebra red ?")


def test_a_line_that_cannot_be_answered_is_named_and_the_next_is_read(
    model: Path, picture: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chat(model=model, picture=picture, question=QUESTION)
    alone = capsys.readouterr().out
    lines = f"is the zebra red ?\n{QUESTION}\n".encode() + "is the café red ?\n".encode("latin-1")
    stdin = io.TextIOWrapper(io.BytesIO(lines + f"\n{QUESTION}".encode()), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", stdin)
    chat(model=model, picture=picture)
    out, errors = capsys.readouterr()
    assert out == 2 * alone
    first, second = errors.splitlines()
    assert first.startswith("encoder-roles chat: line 1: ") and "no token for 'zebra'" in first
    assert second.startswith("encoder-roles chat: line 3: ") and "half a character" in second


def test_a_question_that_is_no_text_is_one_line(model: Path, picture: Path) -> None:
    with pytest.raises(StudyError, match=r"question 'caf\\udce9': no text: '\\udce9' at character 3"):
        chat(model=model, picture=picture, question="caf\udce9")


def test_a_picture_that_cannot_be_framed_is_named(
    model: Path, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: int) -> None:
        raise DataError("too long")

    monkeypatch.setattr(Frame, "_check_area", refuse)
    with pytest.raises(DataError, match=rf"{picture.name}: too long"):
        chat(model=model, picture=picture, question=QUESTION)


def test_a_mask_of_another_pool_is_named(model: Path, picture: Path) -> None:
    with pytest.raises(StudyError, match="mask 'dinov2'"):
        chat(model=model, picture=picture, question=QUESTION, keep=("dinov2",))


def test_every_model_of_a_study_answers_in_turn(
    model: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat(model=model, picture=picture, question=QUESTION)
    alone = capsys.readouterr().out.removeprefix("unmasked").strip()
    for subset in ("clip+sam", "sam", "clip", "blind"):
        (tmp_path / f"{subset}/seed0").mkdir(parents=True)
        (tmp_path / f"{subset}/seed0/tune").symlink_to(model.resolve())
    chat(models=tmp_path, picture=picture, question=QUESTION)
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines == [[subset, alone] for subset in ("blind", "clip", "sam", "clip+sam")]


def test_what_a_chat_needs_is_one_line(picture: Path, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="give one of --model"):
        chat(picture=picture, question=QUESTION)
    with pytest.raises(StudyError, match="--models needs --question, and has no --keep"):
        chat(models=tmp_path, picture=picture)
    with pytest.raises(StudyError, match="no trained models"):
        chat(models=tmp_path, picture=picture, question=QUESTION)


def test_a_damaged_picture_is_named(model: Path, picture: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.png"
    cut.write_bytes(picture.read_bytes()[:100])
    with pytest.raises(StudyError, match=r"cut\.png: damaged picture"):
        chat(model=model, picture=cut, question=QUESTION)
