"""Which pictures and questions each step sees: a function of the seed alone.

With one seed, every subset is trained on the same questions about the same pictures in the same order, so
models differ only in their encoders. A step sees the same samples for any number of processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from encoder_roles.data.llava import PictureIndex, PictureRecords
from encoder_roles.data.packing import Sample
from encoder_roles.data.prompts import Prompt, PromptRenderer, fit_prompt
from encoder_roles.study.names import StudyError

STAGES = {"align": 0, "tune": 1}  # numbers that keep the stages' random streams apart
_ORDER, _CHOICE = 0, 1  # the two streams of a stage
REMEMBERED = 8192  # pictures whose prompts are kept for the next epoch: at most some 60 MB
GROUP = 50  # batches that are sorted by length together: enough for similar lengths, few enough to stay mixed

Order = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PicturePrompts:
    """The rendered captions and questions about one picture; a text-only record has questions only."""

    pictures: tuple[str, ...]
    captions: tuple[Prompt, ...]
    questions: tuple[Prompt, ...]


class Pictures(Protocol):
    """The pictures that batches are drawn from."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> PicturePrompts: ...

    def lengths(self) -> Order:
        """A number for each picture that grows with its tokens."""


class TrainingData:
    """The pictures of a training file, each read and rendered when it is first needed.

    Args:
        path: LLaVA-format JSONL.
        renderer: renders the language model's prompts.
        longest: the most tokens that the language model reads, visual tokens included.
        visual_tokens: visual tokens per picture.
        cut: whether a longer conversation is truncated, as in LLaVA's training; otherwise it is an error.
        group_by_picture: whether consecutive records about a picture are one sample, or one sample each.

    Raises:
        StudyError: a record is wrong, too long, or has no token to learn; names file and line.
    """

    def __init__(
        self,
        path: Path,
        renderer: PromptRenderer,
        longest: int,
        visual_tokens: int,
        cut: bool = False,
        group_by_picture: bool = True,
    ) -> None:
        self.index = PictureIndex(path, group_by_picture)
        self.path, self.renderer, self.longest, self.visual_tokens = path, renderer, longest, visual_tokens
        self.cut = cut
        self._rendered = lru_cache(REMEMBERED)(self._render)

    def __len__(self) -> int:
        return len(self.index)

    def lengths(self) -> Order:
        """Bytes of each picture's records; a text-only record is shorter than all others, so that it shares
        batches with its kind.
        """
        sizes = np.frombuffer(self.index.sizes, dtype=np.int64)
        pictured = np.frombuffer(self.index.pictured, dtype=np.uint8)
        lengths: Order = sizes + pictured * (sizes.max() + 1)
        return lengths

    def __getitem__(self, position: int) -> PicturePrompts:
        return self._rendered(position)

    def _render(self, position: int) -> PicturePrompts:
        picture: PictureRecords = self.index[position]
        images = 0 if picture.image is None else 1
        captions: list[Prompt] = []
        questions: list[Prompt] = []
        for record in picture.records:
            try:
                prompt = self.renderer.render_turns(record.turns, images)
                prompt = fit_prompt(prompt, self.longest, self.visual_tokens, self.cut)
            except StudyError as error:
                raise StudyError(f"{self.path}, line {record.line}: {error}") from error
            (captions if record.is_caption else questions).append(prompt)
        pictures = () if picture.image is None else (picture.image,)
        return PicturePrompts(pictures, tuple(captions), tuple(questions))


class Batches:
    """The batches of a run, by step.

    Every epoch is a permutation of the pictures. The epochs form one stream, which is cut into batches of
    ``batch_pictures``; the last batch may be smaller. A sample has one caption of its picture and up to
    ``questions`` questions. With ``length_grouped`` the pictures of a batch have similar lengths.
    """

    def __init__(
        self,
        pictures: Pictures,
        *,
        samples: int,
        batch_pictures: int,
        questions: int,
        seed: int,
        stage: str,
        length_grouped: bool = False,
    ) -> None:
        self.pictures, self.samples, self.batch_pictures = pictures, samples, batch_pictures
        self.questions, self.key, self.length_grouped = questions, (seed, STAGES[stage]), length_grouped
        self._orders: dict[int, list[int]] = {}

    def __len__(self) -> int:
        return math.ceil(self.samples / self.batch_pictures)

    def _order(self, epoch: int) -> list[int]:
        random = np.random.default_rng((*self.key, _ORDER, epoch))
        order = random.permutation(len(self.pictures))
        if self.length_grouped:
            order = group_by_length(order, self.pictures.lengths(), self.batch_pictures, random)
        return [int(position) for position in order]

    def _picture(self, position: int) -> PicturePrompts:
        epoch, at = divmod(position, len(self.pictures))
        if epoch not in self._orders:
            self._orders = {epoch: self._order(epoch)}
        return self.pictures[self._orders[epoch][at]]

    def _sample(self, position: int) -> Sample:
        picture = self._picture(position)
        random = np.random.default_rng((*self.key, _CHOICE, position))
        captions = random.permutation(len(picture.captions))[:1]
        questions = np.sort(random.permutation(len(picture.questions))[: self.questions])
        prompts = [picture.captions[i] for i in captions] + [picture.questions[i] for i in questions]
        return Sample(picture.pictures, tuple(prompts))

    def _positions(self, step: int) -> range:
        first = step * self.batch_pictures
        return range(first, min(first + self.batch_pictures, self.samples))

    def __getitem__(self, step: int) -> list[Sample]:
        return [self._sample(position) for position in self._positions(step)]

    def share(self, step: int, part: int, parts: int) -> list[Sample]:
        """Share number ``part`` of ``parts`` of a batch; the shares in order are the batch.

        Their sizes differ by one at most. Some are empty if the last batch has fewer samples than parts.
        """
        positions = self._positions(step)
        first, last = part * len(positions) // parts, (part + 1) * len(positions) // parts
        return [self._sample(position) for position in positions[first:last]]


def group_by_length(order: Order, lengths: Order, batch: int, random: np.random.Generator) -> Order:
    """Reorder pictures so that those of a batch have similar lengths, and shuffle the batches.

    A smaller last batch stays the last.
    """
    size = batch * GROUP
    groups = [order[start : start + size] for start in range(0, len(order), size)]
    joined = np.concatenate([group[np.argsort(lengths[group], kind="stable")] for group in groups])
    full = len(joined) // batch * batch  # pictures in full batches
    shuffled = random.permutation(joined[:full].reshape(-1, batch), axis=0).reshape(-1)
    return np.concatenate([shuffled, joined[full:]])
