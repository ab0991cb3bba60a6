"""Trained models in lmms-eval, for any of its tasks:

    lmms-eval --model encoder_roles --model_args pretrained=<a tune folder>,keep=clip+sam --tasks <any task>

lmms-eval finds the model by this package's entry point (`evaluation.plugin`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

import encoder_roles.encoders._torchvision  # must come before lmms-eval
import encoder_roles.evaluation._evaluate  # noqa: F401  # and evaluate

# isort: split

from lmms_eval.api.model import lmms
from tqdm import tqdm

from encoder_roles.benchmarks.table import ANSWER_TOKENS
from encoder_roles.data.pictures import plain_pictures, to_pixels
from encoder_roles.data.prompts import PromptRenderer
from encoder_roles.encoders.compute import choose_device
from encoder_roles.evaluation.decoding import Question, answer
from encoder_roles.evaluation.predict import join, parse_mask, pixel_inputs, project, read_calibrations
from encoder_roles.models.masking import mask_features
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import load_vlm
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import Operator

NAME = "encoder_roles"
REQUESTS_AT_A_TIME = 512  # their pictures are in memory together
BATCH = 256  # questions computed together, by default


class EncoderRoles(lmms):  # type: ignore[misc]  # lmms-eval is untyped
    """A model that train-tune wrote, unmasked or under a mask; it answers greedily.

    Args:
        pretrained: the folder that train-tune wrote.
        keep: the encoders that are kept, in pool order joined with `+`, or `none`; all by default.
        operator: how a removed encoder's features are replaced: zero, mean, shuffle, noise or drop.
        calibration: LLaVA-format JSONL of training pictures, for every operator except zero and drop.
        calibration_pictures: the number of them.
        seed: of shuffle and noise, which draw for every request here, but once per picture in a study.
        batch_size: questions computed together, a number or auto; answers do not depend on it.
        device: cpu, cuda or cuda:N; a GPU, if the machine has any, by default.
        precision: of the computation: fp32 or bf16; in a study `evaluation.precision`.

    Raises:
        StudyError: the folder holds no model, `keep` does not fit it, an operator lacks its calibration,
            the batch size is not a number, or there is no such device or precision.
    """

    def __init__(
        self,
        pretrained: str,
        keep: str | None = None,
        operator: Operator = "zero",
        calibration: str | None = None,
        calibration_pictures: int = 512,
        seed: int = 0,
        batch_size: int | str | None = None,
        device: str | None = None,
        precision: str = "fp32",
        max_batch_size: int | None = None,  # noqa: ARG002  # lmms-eval passes it to every model
        mask: str | None = None,  # the old name of `keep`
    ) -> None:
        super().__init__()
        if mask is not None:
            raise StudyError(f"mask={mask}: is now keep={mask}, because it names the encoders that stay")
        if operator not in get_args(Operator):
            raise StudyError(f"operator {operator!r}: not one of {', '.join(get_args(Operator))}")
        self.vlm = load_vlm(Path(pretrained), precision, choose_device(device))
        self.tokenizer = load_tokenizer(Path(pretrained))
        self.renderer = PromptRenderer(self.tokenizer)
        self.batch, self.seed, self.operator = _batch(batch_size), seed, operator
        encoders = list(self.vlm.encoders)
        self.kept = frozenset(encoders) if keep is None else parse_mask(keep, encoders)
        self.calibrations = None
        if keep is not None and operator not in ("zero", "drop"):
            if calibration is None:
                raise StudyError(
                    f"operator {operator}: needs calibration=<LLaVA-format JSONL of training pictures>"
                )
            self.calibrations = read_calibrations(
                self.vlm, Path(calibration), calibration_pictures, donors=operator == "shuffle"
            )

    def generate_until(self, requests: list[Any]) -> list[str]:
        """The greedy answer to every request, up to the first of its task's stop strings."""
        generator = torch.Generator().manual_seed(self.seed)
        texts: list[str] = []
        for start in tqdm(range(0, len(requests), REQUESTS_AT_A_TIME), desc=NAME, disable=None):
            texts += self._answer(requests[start : start + REQUESTS_AT_A_TIME], generator)
        return texts

    def _answer(self, requests: Sequence[Any], generator: torch.Generator) -> list[str]:
        questions: list[Question] = []
        pictures: list[Tensor] = []
        stops: list[list[str]] = []
        for request in requests:
            prompt, options, doc_to_visual, doc_id, task, split = request.args
            check_greedy(task, options)
            row = plain_pictures(self.task_dict[task][split][doc_id])
            shown = [to_pixels(picture) for picture in doc_to_visual(row)]
            places = tuple(range(len(pictures), len(pictures) + len(shown)))
            pictures += shown
            longest = min(int(options.get("max_new_tokens", ANSWER_TOKENS)), ANSWER_TOKENS)
            questions.append(Question(self.renderer.render(prompt, images=len(shown)), places, longest))
            until = options.get("until", [])
            stops.append([until] if isinstance(until, str) else list(until))
        visual = self._visual_tokens(pictures, generator)
        end = self.tokenizer.eos_token_id
        longest = max(question.tokens(visual.shape[1]) for question in questions)
        ids = answer(self.vlm.language_model, questions, visual, end, self.batch * longest)
        texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [cut(text, until).strip() for text, until in zip(texts, stops, strict=True)]

    def _visual_tokens(self, pictures: Sequence[Tensor], generator: torch.Generator) -> Tensor:
        """Visual tokens (pictures, T, H) under the mask."""
        inputs = join(pixel_inputs(self.vlm, pictures))
        if inputs:
            inputs = mask_features(inputs, self.kept, self.operator, self.calibrations, generator)
        return project(self.vlm, inputs, len(pictures))

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Raises StudyError: likelihoods are not supported."""
        raise StudyError(f"{NAME} generates answers: task {requests[0].task_name} asks for likelihoods")

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Raises StudyError: rounds are not supported."""
        raise StudyError(f"{NAME} answers one question: task {requests[0].task_name} asks in rounds")


def check_greedy(task: str, options: dict[str, Any]) -> None:
    """Raise StudyError if a task samples answers or uses beams."""
    if options.get("do_sample") or (options.get("num_beams") or 1) > 1:
        raise StudyError(
            f"task {task}: {NAME} decodes greedily; its generation options ask for more: {options}"
        )


def _batch(size: int | str | None) -> int:
    """The batch size as a number; lmms-eval's command line gives text, and allows `auto`."""
    if size in (None, "auto"):
        return BATCH
    if not str(size).isdecimal() or int(size) < 1:
        raise StudyError(f"batch_size {size!r}: needs a positive number, or auto")
    return int(size)


def cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop string."""
    return min((text.split(stop)[0] for stop in stops if stop), key=len, default=text)
