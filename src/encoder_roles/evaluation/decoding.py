"""Greedy answers to many questions, with shared prefixes and without padding.

The keys and values of a prefix (template text and visual tokens) are computed once for all questions that
share it; a question that is alone with its pictures is computed in one pass with its prefix. A batch has only
questions of equal length, so nothing is padded and an answer does not depend on the other questions.

Which questions are batched together depends on no visual token: `AnswerPlan` is made once, and answers the
same questions under every mask.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from encoder_roles.data.prompts import Prompt

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

CACHE_BYTES = {"cpu": 2**29, "cuda": 2**32}  # the most bytes of prefixes' keys and values on a device

Pair = tuple[Tensor, Tensor]  # keys and values of one layer, each (pictures, heads, tokens, head size)
Text = tuple[tuple[int, ...], ...]  # token ids before each picture
Item = TypeVar("Item")


@dataclass(frozen=True)
class Question:
    """One prompt, the rows of its pictures among the visual tokens, and its longest answer in tokens."""

    prompt: Prompt
    pictures: tuple[int, ...]
    max_new_tokens: int

    def tokens(self, per_picture: int) -> int:
        """Its tokens, visual ones included, without the answer's."""
        return _length(self.prompt.prefix, per_picture) + len(self.prompt.body)


@dataclass(frozen=True)
class Batch:
    """Questions of equal length, answered together.

    Attributes:
        places: of the questions in the plan.
        limits: tokens of their longest answers.
        ids: token ids after the prefix (questions, tokens).
        rows: each question's row in the pictures of its chunk (questions,).
    """

    places: list[int]
    limits: list[int]
    ids: Tensor
    rows: Tensor


@dataclass(frozen=True)
class Chunk:
    """Questions with the same text before their pictures.

    Attributes:
        text: token ids before each picture.
        pictures: rows of visual tokens (prefixes, pictures of a question), each combination once.
        prefixes: prefixes that are computed together, as slices of `pictures`; none if each has one question.
        batches: the questions.
    """

    text: Text
    pictures: Tensor
    prefixes: list[slice]
    batches: list[Batch]


class AnswerPlan:
    """The batches in which a language model answers questions."""

    def __init__(
        self,
        language_model: PreTrainedModel,
        questions: Sequence[Question],
        tokens_per_picture: int,
        batch_tokens: int,
    ) -> None:
        """Divide the questions into batches.

        Args:
            language_model: a causal language model in evaluation mode.
            questions: the questions; their order does not change the answers.
            tokens_per_picture: visual tokens of a picture.
            batch_tokens: the most tokens computed together, unless one question has more; answers do not
                depend on it.
        """
        self.model: Any = language_model
        self.questions, self.tokens_per_picture = questions, tokens_per_picture
        self.batch_tokens = batch_tokens
        with torch.inference_mode():
            self.chunks = list(self._chunks())

    def answer(self, visual: Tensor, end: int) -> list[list[int]]:
        """Token ids of the greedy answer to every question, in the questions' order, without the end token.

        Args:
            visual: visual tokens (pictures, tokens per picture, hidden), on any device; `Question.pictures`
                are rows of it.
            end: id of the end token.
        """
        answers: list[list[int]] = [[] for _ in self.questions]
        with torch.inference_mode():
            for chunk in self.chunks:
                cached = self._read_prefixes(chunk, visual)
                for batch in chunk.batches:
                    embeddings = self.model.get_input_embeddings()(batch.ids)
                    if not cached:
                        prefix = self._embed(chunk, batch.rows, visual)
                        embeddings = torch.cat([*prefix, embeddings], dim=1)
                    ids = _decode(self.model, embeddings, _select(cached, batch.rows), batch.limits, end)
                    for place, answer_ids in zip(batch.places, ids, strict=True):
                        answers[place] = answer_ids
        return answers

    def _chunks(self) -> Iterator[Chunk]:
        """All questions; prefixes that several share are in chunks that the cache can hold."""
        asked = Counter((question.prompt.prefix, question.pictures) for question in self.questions)

        def key(place: int) -> tuple[Text, bool]:
            text, pictures = self.questions[place].prompt.prefix, self.questions[place].pictures
            return text, asked[text, pictures] > 1 and _length(text, self.tokens_per_picture) > 0

        for (text, shared), places in _grouped(range(len(self.questions)), key):
            length = _length(text, self.tokens_per_picture)
            owners: dict[tuple[int, ...], list[int]] = {}
            for place in places:
                owners.setdefault(self.questions[place].pictures, []).append(place)
            most = (
                max(1, CACHE_BYTES[self.model.device.type] // (length * self._token_bytes)) if shared else 0
            )
            for pictures in _divided(list(owners), most or len(owners)):
                prefixes = _slices(len(pictures), self.batch_tokens // length) if shared else []
                of_chunk = [place for row in pictures for place in owners[row]]
                batches = list(self._batches(of_chunk, pictures, length))
                shape = (len(pictures), len(text))
                yield Chunk(text, torch.tensor(pictures, dtype=torch.long).view(shape), prefixes, batches)

    @property
    def _token_bytes(self) -> int:
        """Bytes of the keys and values of one token."""
        config = self.model.config.get_text_config()
        width = config.hidden_size // config.num_attention_heads * config.num_key_value_heads
        return int(width * 2 * config.num_hidden_layers * self.model.dtype.itemsize)

    def _batches(
        self, places: Iterable[int], pictures: Sequence[tuple[int, ...]], prefix: int
    ) -> Iterator[Batch]:
        """Questions about these pictures, after a prefix of this many tokens."""
        rows = {shown: row for row, shown in enumerate(pictures)}
        for length, equal in _grouped(places, lambda place: len(self.questions[place].prompt.body)):
            for some in _divided(equal, self.batch_tokens // (prefix + length)):
                chosen = [self.questions[place] for place in some]
                yield Batch(
                    list(some),
                    [question.max_new_tokens for question in chosen],
                    torch.tensor([q.prompt.body for q in chosen], device=self.model.device),
                    torch.tensor([rows[q.pictures] for q in chosen]),
                )

    def _read_prefixes(self, chunk: Chunk, visual: Tensor) -> list[Pair]:
        """Keys and values of every layer for the chunk's shared prefixes; [] if none is shared."""
        parts: list[list[Pair]] = []
        for part in chunk.prefixes:
            embeddings = torch.cat(self._embed(chunk, part, visual), dim=1)
            cache = self.model.base_model(inputs_embeds=embeddings, use_cache=True).past_key_values
            parts.append([(layer.keys, layer.values) for layer in cache.layers])
        return [
            (torch.cat([keys for keys, _ in layer]), torch.cat([values for _, values in layer]))
            for layer in zip(*parts, strict=True)
        ]

    def _embed(self, chunk: Chunk, rows: Tensor | slice, visual: Tensor) -> list[Tensor]:
        """Embeddings of the chunk's prefixes in these rows, each (rows, tokens, hidden)."""
        embed, pieces = self.model.get_input_embeddings(), []
        for ids, picture in zip(chunk.text, chunk.pictures[rows].T, strict=True):
            text = embed(torch.tensor(ids, dtype=torch.long, device=self.model.device))
            pieces += [text.expand(len(picture), -1, -1), visual[picture].to(text)]
        return pieces


def answer(
    language_model: PreTrainedModel,
    questions: Sequence[Question],
    visual: Tensor,
    end: int,
    batch_tokens: int,
) -> list[list[int]]:
    """The answers of an `AnswerPlan` that is used once."""
    return AnswerPlan(language_model, questions, visual.shape[1], batch_tokens).answer(visual, end)


def _length(text: Text, per_picture: int) -> int:
    """Tokens of a prefix, from the text before each picture."""
    return sum(len(ids) + per_picture for ids in text)


def _grouped(places: Iterable[int], key: Any) -> Iterator[tuple[Any, list[int]]]:
    """Places with equal keys, in order of the keys."""
    for value, group in groupby(sorted(places, key=key), key):
        yield value, list(group)


def _slices(count: int, most: int) -> list[slice]:
    """All of `count` rows in slices of at most `most`, but at least one."""
    step = max(1, most)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _divided(items: Sequence[Item], most: int) -> list[Sequence[Item]]:
    return [items[part] for part in _slices(len(items), most)]


def _select(cached: list[Pair], rows: Tensor) -> Cache:
    """A new cache with the chosen prefixes; an empty one if nothing is cached."""
    from transformers import DynamicCache

    return DynamicCache([(keys[rows], values[rows]) for keys, values in cached])


def _decode(model: Any, embeddings: Tensor, cache: Cache, limits: Sequence[int], end: int) -> list[list[int]]:
    """Greedy answers of at most `limits` tokens to embeddings (questions, tokens, hidden) after cached ones.

    A row leaves when its answer ends.
    """
    answers: list[list[int]] = [[] for _ in limits]
    alive = list(range(len(limits)))
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    while alive:
        start = cache.get_seq_length()
        output = model.base_model(
            inputs_embeds=embeddings,
            position_ids=torch.arange(start, start + embeddings.shape[1], device=model.device)[None],
            past_key_values=cache,
            use_cache=True,
        )
        tokens = head(output.last_hidden_state[:, -1]).argmax(-1).tolist()
        kept = []
        for row, token in enumerate(tokens):
            text = answers[alive[row]]
            if token != end:
                text.append(token)
                if len(text) < limits[alive[row]]:
                    kept.append(row)
        if len(kept) < len(alive):
            cache.batch_select_indices(torch.tensor(kept, dtype=torch.long, device=model.device))
            alive = [alive[row] for row in kept]
        embeddings = embed(
            torch.tensor([[tokens[row]] for row in kept], dtype=torch.long, device=model.device)
        )
    return answers
