"""Which pictures and which of their questions each step sees: a function of the seed, and of nothing else.

Every subset of a seed is trained on the same questions of the same pictures in the same order, so that models
differ in their encoders only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from encoder_roles.data.llava import PictureRecords, read_pictures
from encoder_roles.data.packing import Sample
from encoder_roles.data.prompts import Prompt, PromptRenderer
from encoder_roles.study import StudyError

STAGES = {"align": 0, "tune": 1}  # numbers that keep the stages' random streams apart
_ORDER, _CHOICE = 0, 1  # the two streams of a stage


@dataclass(frozen=True, slots=True)
class PicturePrompts:
    """The rendered captions and questions of one picture."""

    pictures: tuple[str, ...]
    captions: tuple[Prompt, ...]
    questions: tuple[Prompt, ...]


def render_picture(path: Path, renderer: PromptRenderer, picture: PictureRecords) -> PicturePrompts:
    """Token ids of all records of a picture. Raises StudyError with file and line if one cannot be learnt."""
    images = 0 if picture.image is None else 1
    captions: list[Prompt] = []
    questions: list[Prompt] = []
    for record in picture.records:
        try:
            prompt = renderer.render(record.question, record.answer, images)
        except StudyError as error:
            raise StudyError(f"{path}, line {record.line}: {error}") from error
        (captions if record.is_caption else questions).append(prompt)
    return PicturePrompts(
        (picture.image,) * images if picture.image else (), tuple(captions), tuple(questions)
    )


class Batches:
    """The batches of a run, by step.

    Epochs are permutations of the pictures, joined into one stream that is cut into batches of
    ``batch_pictures``; the last batch may be smaller. Of each picture up to ``questions`` questions and one
    caption are drawn.
    """

    def __init__(
        self,
        pictures: list[PicturePrompts],
        *,
        samples: int,
        batch_pictures: int,
        questions: int,
        seed: int,
        stage: str,
    ) -> None:
        self.pictures, self.samples, self.batch_pictures = pictures, samples, batch_pictures
        self.questions, self.key = questions, (seed, STAGES[stage])
        self._orders: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return math.ceil(self.samples / self.batch_pictures)

    def _picture(self, place: int) -> PicturePrompts:
        epoch, at = divmod(place, len(self.pictures))
        if epoch not in self._orders:
            order = np.random.default_rng((*self.key, _ORDER, epoch)).permutation(len(self.pictures)).tolist()
            self._orders = {epoch: order}
        return self.pictures[self._orders[epoch][at]]

    def _sample(self, place: int) -> Sample:
        picture = self._picture(place)
        random = np.random.default_rng((*self.key, _CHOICE, place))
        captions = random.permutation(len(picture.captions))[:1]
        questions = np.sort(random.permutation(len(picture.questions))[: self.questions])
        prompts = [picture.captions[i] for i in captions] + [picture.questions[i] for i in questions]
        return Sample(picture.pictures, tuple(prompts))

    def __getitem__(self, step: int) -> list[Sample]:
        first = step * self.batch_pictures
        return [self._sample(place) for place in range(first, min(first + self.batch_pictures, self.samples))]


def read_prompts(
    path: Path, renderer: PromptRenderer, longest: int, visual_tokens: int
) -> list[PicturePrompts]:
    """All pictures of a training file, rendered.

    Raises StudyError if a question is longer than the ``longest`` sequence the language model takes.
    """
    pictures = [render_picture(path, renderer, picture) for picture in read_pictures(path)]
    for picture in pictures:
        prompts = (*picture.captions, *picture.questions)
        length = Sample((), prompts).prefix_length(visual_tokens) + max(
            len(prompt.body) for prompt in prompts
        )
        if length > longest:
            raise StudyError(
                f"{path}: a question about {picture.pictures} has {length} tokens, "
                f"the language model takes {longest}"
            )
    return pictures
