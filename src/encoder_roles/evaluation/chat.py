"""`encoder-roles chat`: ask a trained model about a picture, unmasked and under masks, or every model."""

from __future__ import annotations

import io
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from encoder_roles.benchmarks.table import ANSWER_TOKENS
from encoder_roles.data.llava import text_fault
from encoder_roles.data.prompts import PromptRenderer
from encoder_roles.encoders.compute import choose_device
from encoder_roles.evaluation.decoding import Question, answer
from encoder_roles.evaluation.predict import file_inputs, join, parse_mask, project
from encoder_roles.evaluation.truth import questions_about, study_of, true_answer
from encoder_roles.models.masking import mask_features
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import MultiEncoderVLM, load_vlm
from encoder_roles.study.names import BLIND, NO_MASK, DataError, StudyError
from encoder_roles.study.sections import Precision

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def chat(
    *,
    picture: Path,
    model: Path | None = None,
    models: Path | None = None,
    question: str | None = None,
    keep: tuple[str, ...] = (),
    precision: Precision = "fp32",
    device: str | None = None,
) -> None:
    """Print a model's greedy answer to a question about a picture, then its answer under every mask.

    Where the picture and the question are those of a benchmark of the model's study, the true answer follows.
    About such a picture, a first line on standard error has the benchmarks' own questions.

    Args:
        picture: a picture file.
        model: the folder written by train-tune.
        models: in place of a model, a study's folder of models: each of them answers, one after the other.
        question: the question as the model should read it; without one, each line of standard input is one.
            A line that cannot be answered is named on standard error, and the next one is read.
        keep: the encoders that each mask keeps, in pool order joined with `+`, or `none`; what is removed is
            replaced by zeros at the projector's input.
        precision: what the model computes in; a study's answers are in its `evaluation.precision`.
        device: cpu, cuda or cuda:N; a GPU, if the machine has any, by default.

    Raises:
        StudyError: not one of model and models is given, a folder holds no model, the picture cannot be
            read, a mask does not fit the model, the language model has no token for a word of the question,
            or there is no such device.
    """
    if (model is None) == (models is None):
        raise StudyError("give one of --model (a tune folder) and --models (a study's folder of models)")
    if models is not None:
        if question is None or keep:
            raise StudyError("--models needs --question, and has no --keep: masks are of one --model")
        width = _ask_all(models, picture, question, precision, choose_device(device))
        BenchmarkPicture(picture, study_of(models)).print_truth(question, width)
        return
    assert model is not None
    vlm = load_vlm(model, precision, choose_device(device))
    talk = Conversation(vlm, load_tokenizer(model), picture, keep)
    shown = BenchmarkPicture(picture, study_of(model))
    if question is not None:
        talk.print_answers(question)
        shown.print_truth(question, talk.width)
        return
    shown.print_questions()
    for number, line in _lines():
        try:
            talk.print_answers(line)
            shown.print_truth(line, talk.width)
        except StudyError as error:
            print(f"encoder-roles chat: line {number}: {error}", file=sys.stderr, flush=True)


def _ask_all(models: Path, picture: Path, question: str, precision: Precision, device: torch.device) -> int:
    """Print the answer of every model in a folder, small subsets first, one model in memory at a time.

    Returns the width of the column of names.
    """
    folders = sorted(
        (path.parent for path in models.glob("*/seed*/tune/training.json")),
        key=lambda folder: (folder.parts[-3].count("+") + (folder.parts[-3] != BLIND), folder.parts[-3:-1]),
    )
    if not folders:
        raise StudyError(
            f"{models}: no trained models (<subset>/seed<seed>/tune); name results/<study>/models"
        )
    several = len({folder.parts[-2] for folder in folders}) > 1
    names = [" ".join(folder.parts[-3:-1] if several else folder.parts[-3:-2]) for folder in folders]
    width = max(map(len, names))
    for name, folder in zip(names, folders, strict=True):
        talk = Conversation(load_vlm(folder, precision, device), load_tokenizer(folder), picture, ())
        print(f"{name:>{width}}  {talk.answers(question)[NO_MASK]}", flush=True)
    return width


class BenchmarkPicture:
    """What the benchmarks of a study ask about a picture, and what they hold for true."""

    def __init__(self, picture: Path, study: Path | None) -> None:
        self.study = study
        self.questions = [] if study is None else questions_about(picture, study)

    def print_questions(self) -> None:
        """Print the benchmarks' questions about the picture on standard error, if there are any."""
        texts = dict.fromkeys(known.request.prompt.partition("\n")[0] for known in self.questions)
        if texts:
            print("the benchmarks ask about this picture:", *texts, sep="\n  ", file=sys.stderr, flush=True)

    def print_truth(self, question: str, width: int) -> None:
        """Print the true answer if a benchmark asks this question."""
        for known in self.questions:
            if self.study is not None and known.is_asked_by(question):
                print(
                    f"{'truth':>{width}}  {true_answer(known, self.study)}  ({known.benchmark})", flush=True
                )
                return


class Conversation:
    """A picture that a model, and the model under masks, has seen. Questions do not build on each other."""

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
        inputs = join(file_inputs(self.vlm, [picture]))
        kept = {mask: parse_mask(mask, encoders) for mask in masks}
        views = [inputs, *(mask_features(inputs, names, "zero") for names in kept.values())]
        self.masks = [NO_MASK, *kept]
        self.visual = torch.cat([project(self.vlm, view, 1) for view in views])  # (views, tokens, hidden)
        self.width = max(map(len, self.masks))

    def answers(self, question: str) -> dict[str, str]:
        """The greedy answer as trained (`unmasked`) and under each mask.

        Raises StudyError if the question is no text, or the language model has no token for one of its words.
        """
        if problem := text_fault(question):
            raise DataError(f"question {question!r}: {problem}; write it as UTF-8")
        self._check_words(question)
        prompt = self.renderer.render(question, images=1)
        questions = [Question(prompt, (view,), ANSWER_TOKENS) for view in range(len(self.masks))]
        end: Any = self.tokenizer.eos_token_id
        tokens = len(questions) * questions[0].tokens(self.visual.shape[1])
        ids = answer(self.vlm.language_model, questions, self.visual, end, batch_tokens=tokens)
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return {mask: text.strip() for mask, text in zip(self.masks, texts, strict=True)}

    def print_answers(self, question: str) -> None:
        """Print the answers, one mask a line. Raises StudyError as `answers`."""
        for mask, text in self.answers(question).items():
            print(f"{mask:>{self.width}}  {text}", flush=True)

    def _check_words(self, question: str) -> None:
        """Raise StudyError for an unknown word: a word-level tokenizer has one token for all of them."""
        unknown = self.tokenizer.unk_token_id
        if unknown is None:
            return
        for word in question.split():
            if unknown in self.tokenizer(word, add_special_tokens=False)["input_ids"]:
                raise StudyError(f"question {question!r}: the language model has no token for {word!r}")


def _lines() -> Iterator[tuple[int, str]]:
    """Questions from standard input with their lines' numbers; on a terminal there is a prompt for each."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # a byte that is no text is one question's fault
    for number in itertools.count(1):
        if sys.stdin.isatty():
            print("? ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield number, line.strip()
