"""Packing: several questions share the visual prefix of their picture, with almost no padding.

A picture's prefix (template text and visual tokens) is computed once for all questions about it. Each
question sees the prefix and itself, causally, and its positions continue those of the prefix. Its loss is
therefore that of the question alone (a test checks this to 1e-5).

All tokens of a batch form one row:

    [prefixes of all pictures][questions of 9 tokens][questions of 10 tokens] ...

Attention never reads the keys of another picture or question. It sees the row in one of two ways: as the
`Blocks` above, or as `Trees`, in which the tokens of a sample stand side by side under a mask. Trees need no
padding in the row. A kernel that is called for every block wants fewer of them: `rounding` fills questions up
to a multiple of some tokens, so that more of them share a block.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from encoder_roles.data.prompts import IGNORED, Prompt
from encoder_roles.study.names import StudyError

T = TypeVar("T")
SPREAD = 1.5  # samples attend together if the longest has at most so many times the tokens of the shortest
Indices = npt.NDArray[np.int64]


def move(value: T, device: torch.device) -> T:
    """Move a dataclass of tensors (and of such dataclasses) to a device; on the CPU it stays the same."""
    if device.type == "cpu":
        return value
    row: Any = value
    moved: dict[str, Any] = {}
    for field in fields(row):
        part = getattr(row, field.name)
        if isinstance(part, Tensor):
            moved[field.name] = part.to(device, non_blocking=True)
        elif isinstance(part, Blocks | Trees):
            moved[field.name] = move(part, device)
    moved_row: T = replace(row, **moved)
    return moved_row


@dataclass(frozen=True)
class Sample:
    """Pictures, usually one, and questions about them; all use the ``prefix`` of the first question."""

    pictures: tuple[str, ...]
    questions: tuple[Prompt, ...]

    def prefix_length(self, visual_tokens: int) -> int:
        """Tokens of the prefix, with ``visual_tokens`` tokens per picture."""
        return sum(len(ids) + visual_tokens for ids in self.questions[0].prefix)


@dataclass(frozen=True)
class Blocks:
    """The blocks of N tokens.

    Attributes:
        shapes: (sequences, tokens of each) of every block, in the tokens' order.
        before: for every block, the number of prefix tokens before each of its sequences.
        prefix: the positions of these prefix tokens, sequence by sequence and block by block.
        prefixes: the number of all prefix tokens; they are the first of the row.
    """

    shapes: tuple[tuple[int, int], ...]
    before: tuple[int, ...]
    prefix: Tensor
    prefixes: int

    def split(self, states: Tensor) -> list[Tensor]:
        """(N, ...) -> (sequences, tokens, ...) of every block."""
        parts = states.split([rows * length for rows, length in self.shapes])
        return [part.unflatten(0, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def split_prefixes(self, states: Tensor) -> list[Tensor]:
        """(N, ...) -> (sequences, prefix tokens, ...), the prefixes of every block's sequences."""
        first, _ = states.split([self.prefixes, len(states) - self.prefixes])
        shapes = [(rows, before) for (rows, _), before in zip(self.shapes, self.before, strict=True)]
        parts = first.index_select(0, self.prefix).split([rows * before for rows, before in shapes])
        return [part.unflatten(0, shape) for part, shape in zip(parts, shapes, strict=True)]


@dataclass(frozen=True)
class Trees:
    """The samples of N tokens in few arrays (samples, length), one for samples of similar lengths.

    A sample is a tree: its prefix is the trunk and its questions are the branches. A slot is a place in the
    arrays; shorter samples end in slots without a token.

    Attributes:
        shapes: (samples, length) of every array.
        tokens: (slots,) the token in each slot; any token where there is none.
        branches: (slots,) 0 for a prefix, from 1 the question in its sample, -1 where there is no token.
        slots: (N,) the slot of each token; any slot for padding.
    """

    shapes: tuple[tuple[int, int], ...]
    tokens: Tensor
    branches: Tensor
    slots: Tensor

    def gather(self, states: Tensor) -> list[Tensor]:
        """(N, ...) -> (samples, length, ...) of every array."""
        gathered = states.index_select(0, self.tokens)
        parts = [gathered] if len(self.shapes) == 1 else gathered.split(self._sizes())
        return [part.unflatten(0, shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def scatter(self, arrays: Sequence[Tensor]) -> Tensor:
        """(samples, length, ...) of every array -> (N, ...)."""
        parts = [array.flatten(0, 1) for array in arrays]
        return (parts[0] if len(parts) == 1 else torch.cat(parts)).index_select(0, self.slots)

    def masks(self) -> list[Tensor]:
        """(samples, 1, length, length) fp32 of every array: a token sees the tokens of its prefix and of its
        question up to itself. A slot without a token sees itself, so that no row of the mask is empty.
        """
        masks = []
        for part, (samples, length) in zip(self.branches.split(self._sizes()), self.shapes, strict=True):
            keys, queries = part.view(samples, 1, 1, length), part.view(samples, 1, length, 1)
            seen = ((keys == 0) | (keys == queries)).tril()
            masks.append(torch.zeros(seen.shape, device=seen.device).masked_fill_(~seen, -torch.inf))
        return masks

    def _sizes(self) -> list[int]:
        return [samples * length for samples, length in self.shapes]


@dataclass(frozen=True)
class PackedBatch:
    """Samples in one row of N tokens. All indices count these tokens."""

    ids: Tensor  # (N,) token ids; 0 for visual tokens and padding
    positions: Tensor  # (N,) positions; those of a question continue its prefix
    blocks: Blocks
    trees: Trees
    visual: Tensor  # (pictures * visual tokens,) places of the visual tokens, picture by picture
    predicting: Tensor  # (learnt,) places of the tokens whose next token is learnt
    learnt: Tensor  # (learnt,) ids of those next tokens
    question: Tensor  # (learnt,) for each learnt token the number of its question in the batch
    pictures: tuple[str, ...]  # in the order of ``visual``
    tokens: int  # tokens that are not padding

    def losses(self, logits: Tensor) -> Tensor:
        """Cross-entropy of each learnt token (learnt,) from logits (learnt, vocabulary)."""
        return torch.nn.functional.cross_entropy(logits.float(), self.learnt, reduction="none")

    def unlearnt(self) -> PackedBatch:
        """The same tokens, none of them learnt.

        A process without a sample in a step computes this batch, so that no other process waits for it.
        """
        empty = self.learnt[:0]
        return replace(self, predicting=empty, learnt=empty, question=empty)


class _Row:
    """The one row of a batch while it is filled."""

    def __init__(self) -> None:
        self.ids: list[Indices] = []
        self.positions: list[Indices] = []
        self.shapes: list[tuple[int, int]] = []
        self.prefixes: list[Indices] = []
        self.length = 0

    def add(self, ids: Indices, prefixes: Indices) -> int:
        """Append sequences (rows, length) and the places of their prefixes. Returns the first place."""
        start, (rows, length) = self.length, ids.shape
        before = prefixes.shape[1]
        self.ids.append(ids.reshape(-1))
        self.positions.append(np.tile(np.arange(before, before + length), rows))
        self.shapes.append((rows, length))
        self.prefixes.append(prefixes)
        self.length += rows * length
        return start

    def blocks(self, prefixes: int) -> Blocks:
        """The blocks added so far."""
        before = tuple(prefix.shape[1] for prefix in self.prefixes)
        places = np.concatenate([prefix.reshape(-1) for prefix in self.prefixes])
        return Blocks(tuple(self.shapes), before, torch.from_numpy(places), prefixes)


def _by(keys: Sequence[tuple[int, ...]]) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """The places of each distinct key, sorted by key."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    yield from sorted(places.items())


def _prefix(sample: Sample, visual_tokens: int) -> tuple[Indices, Indices]:
    """A sample's prefix: its ids, with 0 for visual tokens, and the places of visual tokens in it."""
    pieces: list[npt.NDArray[np.bool_]] = []
    ids: list[int] = []
    for piece in sample.questions[0].prefix:
        ids += [*piece, *[0] * visual_tokens]
        pieces += [np.zeros(len(piece), dtype=bool), np.ones(visual_tokens, dtype=bool)]
    is_visual = np.concatenate(pieces) if pieces else np.zeros(0, dtype=bool)
    return np.array(ids, dtype=np.int64), np.flatnonzero(is_visual)


def _add_prefixes(
    row: _Row, samples: Sequence[Sample], visual_tokens: int
) -> tuple[list[Indices], list[Indices]]:
    """Add the blocks of the prefixes. Returns the places of each sample's prefix and visual tokens."""
    prefixes = [_prefix(sample, visual_tokens) for sample in samples]
    tokens: list[Indices] = [np.zeros(0, dtype=np.int64)] * len(samples)
    for (length,), places in _by([(len(ids),) for ids, _ in prefixes]):
        if length:
            ids = np.stack([prefixes[place][0] for place in places])
            start = row.add(ids, np.zeros((len(places), 0), dtype=np.int64))
            for number, place in enumerate(places):
                tokens[place] = np.arange(start + number * length, start + (number + 1) * length)
    return tokens, [places[visual] for places, (_, visual) in zip(tokens, prefixes, strict=True)]


def _add_questions(
    row: _Row, prompts: Sequence[Prompt], prefixes: Sequence[Indices], rounding: int
) -> tuple[list[Indices], list[Indices], list[Indices]]:
    """Add the blocks of the questions. Returns each question's places, predicting places and learnt ids."""
    tokens: list[Indices] = [np.zeros(0, dtype=np.int64)] * len(prompts)
    predicting, learnt = list(tokens), list(tokens)
    rounded = [-(-len(prompt.body) // rounding) * rounding for prompt in prompts]
    for (_, length), places in _by([(len(p), size) for p, size in zip(prefixes, rounded, strict=True)]):
        ids = np.zeros((len(places), length), dtype=np.int64)
        for number, place in enumerate(places):
            body, labels = np.array(prompts[place].body), np.array(prompts[place].labels)
            ids[number, : len(body)] = body
            at = np.flatnonzero(labels != IGNORED)
            if len(at) == 0 or at[0] == 0:
                raise StudyError(
                    "a question must have tokens that are learnt, and its first token must not be one"
                )
            start = row.length + number * length
            tokens[place] = np.arange(start, start + len(body))
            predicting[place] = start + at - 1
            learnt[place] = body[at]
        row.add(ids, np.stack([prefixes[place] for place in places]))
    return tokens, predicting, learnt


def _trees(samples: Sequence[Sequence[Indices]], tokens: int) -> Trees:
    """The trees of a row of `tokens` tokens from the places of each sample's prefix and of its questions."""
    lengths = [sum(map(len, parts)) for parts in samples]
    groups: list[list[int]] = []
    for number in sorted(range(len(samples)), key=lambda number: lengths[number], reverse=True):
        if groups and lengths[groups[-1][0]] <= SPREAD * lengths[number]:
            groups[-1].append(number)
        else:
            groups.append([number])
    shapes = tuple((len(group), lengths[group[0]]) for group in groups)
    count = sum(rows * length for rows, length in shapes)
    places, branches = np.zeros(count, dtype=np.int64), np.full(count, -1)
    slots, start = np.zeros(tokens, dtype=np.int64), 0
    for group, (_, length) in zip(groups, shapes, strict=True):
        for number in group:
            sample, end = np.concatenate(samples[number]), start + lengths[number]
            places[start:end], slots[sample] = sample, np.arange(start, end)
            branches[start:end] = np.repeat(np.arange(len(samples[number])), list(map(len, samples[number])))
            start += length
    return Trees(shapes, *map(torch.from_numpy, (places, branches, slots)))


def pack(samples: Sequence[Sample], visual_tokens: int, rounding: int = 1) -> PackedBatch:
    """A batch of samples.

    Args:
        samples: the pictures and the questions about them.
        visual_tokens: visual tokens per picture; 0 for the blind model.
        rounding: question lengths are filled up to a multiple of it.
    """
    row = _Row()
    prefixes, visual = _add_prefixes(row, samples, visual_tokens)
    prompts = [prompt for sample in samples for prompt in sample.questions]
    owners = [prefix for sample, prefix in zip(samples, prefixes, strict=True) for _ in sample.questions]
    questions, predicting, learnt = _add_questions(row, prompts, owners, rounding)
    rest = iter(questions)
    parts = [
        [prefix, *itertools.islice(rest, len(sample.questions))]
        for sample, prefix in zip(samples, prefixes, strict=True)
    ]
    return PackedBatch(
        ids=torch.from_numpy(np.concatenate(row.ids)),
        positions=torch.from_numpy(np.concatenate(row.positions)),
        blocks=row.blocks(sum(len(prefix) for prefix in prefixes)),
        trees=_trees(parts, row.length),
        visual=torch.from_numpy(np.concatenate(visual)),
        predicting=torch.from_numpy(np.concatenate(predicting)),
        learnt=torch.from_numpy(np.concatenate(learnt)),
        question=torch.from_numpy(np.repeat(np.arange(len(prompts)), [len(ids) for ids in learnt])),
        pictures=tuple(picture for sample in samples for picture in sample.pictures),
        tokens=sum(len(prefix) for prefix in prefixes) + sum(len(prompt.body) for prompt in prompts),
    )
