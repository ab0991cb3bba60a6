"""Staging the language model: checked and copied to where every later stage reads it."""

from __future__ import annotations

from pathlib import Path

from encoder_roles.encoders.staging import copy_source
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import load_language_model
from encoder_roles.provenance import whole_folder
from encoder_roles.study import StudyError


def stage_language_model(*, source: Path, output: Path) -> None:
    """Copy the language model's source folder, weights and tokenizer, to `output`.

    Args:
        source: the folder of the pretrained language model: pinned, fetched, or made by the DAG.
        output: language_model.

    Raises:
        StudyError: the source is missing, damaged, not as its SHA256SUMS say, or has no safetensors, no
            tokenizer or no chat template.
    """
    with whole_folder(output) as folder:
        copy_source(source, folder)
        load_language_model(folder)
        tokenizer = load_tokenizer(folder)
        if not tokenizer.chat_template:
            raise StudyError(f"{source}: its tokenizer has no chat template; prompts cannot be written")
