"""`encoder-roles chat`: ask a trained model about a picture, as it is and with encoders masked."""

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
        question: the question as the model should read it; without one, each line of standard input is one.
        masks: the kept encoders of each mask, in pool order joined with `+`, or `none`; what is removed is
            replaced by zeros at the projector's input.
        precision: what the model computes in; a study's answers are in its `evaluation.precision`.
        device: cpu, cuda or cuda:N; a GPU, if the machine has any, by default.

    Raises:
        StudyError: the folder holds no model, the picture cannot be read, a mask is none of this model, the
            language model knows no token for a part of the question, or there is no such device.
    """
    vlm = load_vlm(model, precision, choose_device(device))
    talk = Conversation(vlm, load_tokenizer(model), picture, masks)
    for asked in [question] if question is not None else _lines():
        for mask, text in talk.answers(asked).items():
            print(f"{mask:>{talk.width}}  {text}", flush=True)


class Conversation:
    """A picture that a model, and the model under masks, has seen; every question is asked anew."""

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
        """The greedy answer as trained (`unmasked`) and under each mask."""
        self._check_words(question)
        prompt = self.renderer.render(question, images=1)
        questions = [Question(prompt, (view,), ANSWER_TOKENS) for view in range(len(self.masks))]
        end: Any = self.tokenizer.eos_token_id
        ids = answer(self.vlm.language_model, questions, self.visual, end, batch=len(questions))
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return {mask: text.strip() for mask, text in zip(self.masks, texts, strict=True)}

    def _check_words(self, question: str) -> None:
        """A word-level tokenizer reads every strange word as the same token: an answer to it is none."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            return
        for word in question.split():
            if unknown in self.tokenizer(word, add_special_tokens=False)["input_ids"]:
                raise StudyError(f"question {question!r}: the language model has no token for {word!r}")


def _lines() -> Iterable[str]:
    """Questions from standard input, prompted for on a terminal."""
    while True:
        if sys.stdin.isatty():
            print("? ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()
