"""Every conversation of a file of records is rendered once before any training, in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from encoder_roles.data.llava import Record
from encoder_roles.data.prompts import Prompt, PromptRenderer, fit_prompt, longest_conversation
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.study.names import DataError
from encoder_roles.study.stages import TextLimit

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # must come before transformers
from transformers import AutoConfig

TOO_LONG = "too long"
NOT_LEARNABLE = "not learnable"  # nothing of an answer is learnt, or the tokenizer lacks a word


class ConversationError(DataError):
    """A conversation that cannot be learnt from; `reason` is TOO_LONG or NOT_LEARNABLE."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class ConversationCheck:
    """Renders conversations with the study's tokenizer.

    Args:
        language_model: the staged language model; its weights are not read.
        limits: of the trainings that read the records. A conversation must fit them all, so that every
            model is trained on the same records.

    Raises:
        StudyError: the language model has no tokenizer, or its chat template cannot render prompts.
    """

    def __init__(self, language_model: Path, limits: Sequence[TextLimit]) -> None:
        self.renderer = PromptRenderer(load_tokenizer(language_model))
        config = AutoConfig.from_pretrained(language_model, local_files_only=True, trust_remote_code=False)
        self.limits = [
            (longest_conversation(config, each.max_tokens), each.visual_tokens, each.max_tokens is not None)
            for each in limits
        ]

    def check(self, record: Record) -> None:
        """Raise ConversationError if a training could not learn from the record."""
        prompt = self._render(record)
        for longest, visual_tokens, cut in self.limits:
            try:
                fit_prompt(prompt, longest, visual_tokens, cut)
            except DataError as error:
                raise ConversationError(TOO_LONG, str(error)) from None

    def _render(self, record: Record) -> Prompt:
        try:
            return self.renderer.render_turns(record.turns, 0 if record.image is None else 1)
        except DataError as error:
            raise ConversationError(NOT_LEARNABLE, str(error)) from None
