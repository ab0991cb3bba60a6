"""`encoder-roles chat`: ask a trained model about a picture, unmasked and under masks."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from encoder_roles.benchmarks.table import ANSWER_TOKENS
from encoder_roles.data.pictures import read_picture
from encoder_roles.data.prompts import PromptRenderer
from encoder_roles.encoders.compute import choose_device
from encoder_roles.evaluation.decoding import Question, answer
from encoder_roles.evaluation.predict import join, parse_mask, pixel_inputs, project
from encoder_roles.models.masking import mask_features
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import MultiEncoderVLM, load_vlm
from encoder_roles.study.names import NO_MASK, StudyError
from encoder_roles.study.sections import Precision

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def chat(
    *,
    model: Path,
    picture: Path,
    question: str | None = None,
    masks: tuple[str, ...] = (),
    precision: Precision = "fp32",
    device: str | None = None,
) -> None:
    """Print a model's greedy answer to a question about a picture, then its answer under every mask.

    Args:
        model: the folder written by train-tune.
        picture: a picture file.
        question: the question as the model reads it; by default each line of standard input is a question.
        masks: the kept encoders of each mask, in pool order joined with `+`, or `none`; the projector inputs
            of the other encoders are zeros.
        precision: of the computation; in a study `evaluation.precision`.
        device: cpu, cuda or cuda:N; a GPU, if the machine has any, by default.

    Raises:
        StudyError: the folder holds no model, the picture cannot be read, a mask does not fit the model, the
            language model has no token for a word of the question, or there is no such device.
    """
    vlm = load_vlm(model, precision, choose_device(device))
    conversation = Conversation(vlm, load_tokenizer(model), picture, masks)
    for line in [question] if question is not None else _lines():
        for mask, text in conversation.answers(line).items():
            print(f"{mask:>{conversation.width}}  {text}", flush=True)


class Conversation:
    """A picture's visual tokens, unmasked and under each mask; every question is independent."""

    def __init__(
        self,
        vlm: MultiEncoderVLM,
        tokenizer: PreTrainedTokenizerFast,
        picture: Path,
        masks: Iterable[str],
    ) -> None:
        self.vlm, self.tokenizer = vlm, tokenizer
        self.renderer = PromptRenderer(self.tokenizer)
        encoders = list(self.vlm.encoders)
        inputs = join(pixel_inputs(self.vlm, [read_picture(picture)]))
        kept = {mask: parse_mask(mask, encoders) for mask in masks}
        views = [inputs, *(mask_features(inputs, names, "zero") for names in kept.values())]
        self.masks = [NO_MASK, *kept]
        self.visual = torch.cat([project(self.vlm, view, 1) for view in views])  # (views, tokens, hidden)
        self.width = max(map(len, self.masks))

    def answers(self, question: str) -> dict[str, str]:
        """The greedy answer without a mask (`unmasked`) and under each mask."""
        self._check_words(question)
        prompt = self.renderer.render(question, images=1)
        questions = [Question(prompt, (view,), ANSWER_TOKENS) for view in range(len(self.masks))]
        end: Any = self.tokenizer.eos_token_id
        ids = answer(self.vlm.language_model, questions, self.visual, end, batch=len(questions))
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return {mask: text.strip() for mask, text in zip(self.masks, texts, strict=True)}

    def _check_words(self, question: str) -> None:
        """Raise StudyError for an unknown word: a word-level tokenizer reads all of them as one token."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            return
        for word in question.split():
            if unknown in self.tokenizer(word, add_special_tokens=False)["input_ids"]:
                raise StudyError(f"question {question!r}: the language model has no token for {word!r}")


def _lines() -> Iterable[str]:
    """Questions from standard input, with a prompt on a terminal."""
    while True:
        if sys.stdin.isatty():
            print("? ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
