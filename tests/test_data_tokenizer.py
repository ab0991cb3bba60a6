"""A saved tokenizer comes back as it was, beside whatever model it lies."""

from __future__ import annotations

import pytest
from tiny_language_model import tiny_tokenizer, write_tiny_language_model

from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.study.names import StudyError


def test_a_word_level_tokenizer_beside_a_qwen2_model_keeps_its_words(tmp_path):
    loaded, made = load_tokenizer(write_tiny_language_model(tmp_path)), tiny_tokenizer()
    text = "what colour is the circle ?"
    assert loaded(text)["input_ids"] == made(text)["input_ids"]
    assert loaded.chat_template == made.chat_template
    assert loaded.eos_token_id == made.eos_token_id


def test_a_missing_or_damaged_tokenizer_is_named(tmp_path):
    folder = write_tiny_language_model(tmp_path / "lm")
    (folder / "tokenizer.json").write_text('{"version"')
    with pytest.raises(StudyError, match="lm"):
        load_tokenizer(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(StudyError, match=r"tokenizer\.json: no such file"):
        load_tokenizer(folder)
