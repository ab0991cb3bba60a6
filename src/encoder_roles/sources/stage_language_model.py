"""Staging the language model: check it, and copy it to where later stages read it."""

from __future__ import annotations

from pathlib import Path

from encoder_roles.data.prompts import PromptRenderer
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import load_language_model
from encoder_roles.provenance import atomic_folder, write_text
from encoder_roles.sources.stage_encoder import copy_source
from encoder_roles.study.names import StudyError
from encoder_roles.study.stages import LanguageModelStage, read_settings

TEMPLATE_FILE = "chat_template.jinja"  # transformers prefers it to the one in tokenizer_config.json


def stage_language_model(*, settings: Path, source: Path, output: Path) -> None:
    """Copy the language model's weights and tokenizer to `output`, with the study's chat template.

    Args:
        settings: settings/language_model.json.
        source: the folder of the pretrained language model: pinned, fetched, or made by the DAG.
        output: language_model.

    Raises:
        StudyError: the source is missing, damaged or differs from its SHA256SUMS; or it has no safetensors,
            no tokenizer, or no chat template that can render prompts.
    """
    template = read_settings(settings, LanguageModelStage).chat_template
    with atomic_folder(output) as folder:
        copy_source(source, folder)
        load_language_model(folder)
        if template is not None:
            write_text(folder / TEMPLATE_FILE, template)
        tokenizer = load_tokenizer(folder)
        if not tokenizer.chat_template:
            raise StudyError(
                f"{source}: its tokenizer has no chat template; set language_model.chat_template"
            )
        try:
            PromptRenderer(tokenizer).render("question")
        except StudyError as error:
            raise StudyError(f"{source}: {str(error).removeprefix(f'{folder}: ')}") from None
