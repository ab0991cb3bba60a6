"""Several questions of a picture behind one visual prefix, several pictures in a row.

A picture's prefix (template text and visual tokens) is computed once and its questions follow one after
another. Each question sees the prefix and itself, causally, and its positions go on where the prefix ends:
its loss is that of the question asked alone (a test holds it to 1e-5). Short pictures share a row, so that
little is padded.

    row of two pictures, T tokens:   [prefix A][question A1][question A2][prefix B][question B1][padding]
    positions:                        0 .. p-1  p ..          p ..        0 .. q-1  q ..
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from encoder_roles.data.prompts import IGNORED, Prompt
from encoder_roles.study import StudyError


@dataclass(frozen=True)
class Sample:
    """One picture (or none) and the questions asked about it; all share ``prefix``."""

    pictures: tuple[str, ...]
    questions: tuple[Prompt, ...]

    def length(self, visual_tokens: int) -> int:
        """Tokens of the sample in a row."""
        prefix = sum(len(ids) + visual_tokens for ids in self.questions[0].prefix)
        return prefix + sum(len(question.body) for question in self.questions)


@dataclass(frozen=True)
class PackedBatch:
    """Samples in R rows of T tokens. Indices count tokens of the flattened rows (R*T)."""

    ids: Tensor  # (R, T) token ids; 0 where a visual token or padding stands
    positions: Tensor  # (R, T), restarted for every question
    mask: Tensor  # (R, 1, T, T) fp32, added to attention scores: 0 or -inf
    visual: Tensor  # (pictures * visual tokens,) where the visual tokens go, picture after picture
    predicting: Tensor  # (learnt,) the tokens whose next token is learnt
    learnt: Tensor  # (learnt,) ids of those next tokens
    question: Tensor  # (learnt,) number of the question in the batch each learnt token belongs to
    pictures: tuple[str, ...]  # in the order of ``visual``
    tokens: int  # tokens that are not padding

    def losses(self, logits: Tensor) -> Tensor:
        """Cross-entropy of each learnt token (learnt,) from logits (learnt, vocabulary)."""
        return torch.nn.functional.cross_entropy(logits.float(), self.learnt, reduction="none")


def assign_rows(lengths: Sequence[int]) -> list[list[int]]:
    """First-fit decreasing: samples to rows no longer than the longest sample. Rows list sample numbers."""
    capacity = max(lengths)
    rows: list[list[int]] = []
    room: list[int] = []
    for sample in sorted(range(len(lengths)), key=lambda s: (-lengths[s], s)):
        row = next((r for r, left in enumerate(room) if left >= lengths[sample]), len(rows))
        if row == len(rows):
            rows.append([])
            room.append(capacity)
        rows[row].append(sample)
        room[row] -= lengths[sample]
    return rows


class _Rows:
    """The arrays of a batch while it is filled."""

    def __init__(self, rows: int, length: int) -> None:
        self.length = length
        self.ids = np.zeros((rows, length), dtype=np.int64)
        self.positions = np.zeros((rows, length), dtype=np.int64)
        self.owner = np.full(
            (rows, length), -1, dtype=np.int64
        )  # sample of a token; padding sees padding only
        self.part = np.zeros(
            (rows, length), dtype=np.int64
        )  # 0 in a prefix, then 1, 2, ... for its questions
        self.visual: dict[int, list[np.ndarray]] = {}
        self.predicting: dict[int, np.ndarray] = {}

    def add(
        self, row: int, start: int, number: int, sample: Sample, visual_tokens: int, question: int
    ) -> int:
        """Write one sample at ``start``; returns where it ends. ``question`` numbers its first question."""
        at = start
        places: list[np.ndarray] = []
        for piece in sample.questions[0].prefix:
            self.ids[row, at : at + len(piece)] = piece
            at += len(piece)
            places.append(row * self.length + np.arange(at, at + visual_tokens))
            at += visual_tokens
        self.visual[number] = places
        self.positions[row, start:at] = np.arange(at - start)
        prefix = at - start
        for part, prompt in enumerate(sample.questions, start=1):
            end = at + len(prompt.body)
            self.ids[row, at:end] = prompt.body
            self.positions[row, at:end] = np.arange(prefix, prefix + end - at)
            self.part[row, at:end] = part
            learnt = np.flatnonzero(np.asarray(prompt.labels) != IGNORED)
            self.predicting[question + part - 1] = row * self.length + at + learnt - 1
            at = end
        self.owner[row, start:at] = number
        return at

    def mask(self) -> Tensor:
        """(R, 1, T, T) fp32, 0 where a token (second to last axis) sees another (last axis), else -inf."""
        owner, part = torch.from_numpy(self.owner), torch.from_numpy(self.part)
        seen = (part[:, None, :] == 0) | (part[:, None, :] == part[:, :, None])
        seen &= owner[:, None, :] == owner[:, :, None]
        seen &= torch.ones(self.length, self.length, dtype=torch.bool).tril()
        return torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)[:, None]


def pack(samples: Sequence[Sample], visual_tokens: int) -> PackedBatch:
    """A batch of samples, each picture standing for ``visual_tokens`` tokens (0 for the blind model)."""
    lengths = [sample.length(visual_tokens) for sample in samples]
    first_question = np.cumsum([0, *(len(sample.questions) for sample in samples)])
    assigned = assign_rows(lengths)
    rows = _Rows(len(assigned), max(lengths))
    for row, numbers in enumerate(assigned):
        at = 0
        for number in numbers:
            question = int(first_question[number])
            at = rows.add(row, at, number, samples[number], visual_tokens, question)
    if any(prompt.labels[0] != IGNORED for sample in samples for prompt in sample.questions):
        raise StudyError("a prompt must start with a token that is not learnt")
    predicting = [rows.predicting[question] for question in range(len(rows.predicting))]
    visual = [place for number in range(len(samples)) for place in rows.visual[number]]
    tokens = np.concatenate(predicting)
    return PackedBatch(
        ids=torch.from_numpy(rows.ids),
        positions=torch.from_numpy(rows.positions),
        mask=rows.mask(),
        visual=torch.from_numpy(np.concatenate(visual) if visual else np.zeros(0, dtype=np.int64)),
        predicting=torch.from_numpy(tokens),
        learnt=torch.from_numpy(rows.ids.reshape(-1)[tokens + 1]),
        question=torch.from_numpy(np.repeat(np.arange(len(predicting)), [len(p) for p in predicting])),
        pictures=tuple(picture for sample in samples for picture in sample.pictures),
        tokens=sum(lengths),
    )
