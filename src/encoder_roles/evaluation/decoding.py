"""Greedy answers to many questions, with shared prefixes and without padding.

The keys and values of a prefix (template text and visual tokens) are computed once per picture and shared by
its questions. A batch has only questions of equal length, so nothing is padded and an answer does not depend
on the other questions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from encoder_roles.data.prompts import Prompt

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedModel

CACHE_BYTES = {"cpu": 2**29, "cuda": 2**32}  # the most bytes of prefixes' keys and values on a device

Pair = tuple[Tensor, Tensor]  # keys and values of one layer, each (pictures, heads, tokens, head size)


@dataclass(frozen=True)
class Question:
    """One prompt, the rows of its pictures among the visual tokens, and its longest answer in tokens."""

    prompt: Prompt
    pictures: tuple[int, ...]
    max_new_tokens: int


def answer(
    language_model: PreTrainedModel, questions: Sequence[Question], visual: Tensor, end: int, batch: int
) -> list[list[int]]:
    """Token ids of the greedy answer to every question, in the questions' order, without the end token.

    Args:
        language_model: a causal language model in evaluation mode.
        questions: the questions; their order does not change the answers.
        visual: visual tokens (pictures, tokens per picture, hidden), on any device; `Question.pictures` are
            rows of it.
        end: id of the end token.
        batch: the most questions computed together; answers do not depend on it.
    """
    answers: list[list[int]] = [[] for _ in questions]
    with torch.inference_mode():
        for prefixes, places in _chunks(language_model, questions, visual):
            rows = {key: row for row, key in enumerate(prefixes)}
            cached = _read_prefixes(language_model, prefixes, visual, batch)
            places.sort(key=lambda place: len(questions[place].prompt.body))
            for _, group in groupby(places, key=lambda place: len(questions[place].prompt.body)):
                of_one_length = list(group)
                for start in range(0, len(of_one_length), batch):
                    chunk = of_one_length[start : start + batch]
                    chosen = torch.tensor([rows[_prefix(questions[place])] for place in chunk])
                    cache = _select(cached, chosen)
                    ids = _decode(language_model, [questions[place] for place in chunk], cache, end)
                    for place, answer_ids in zip(chunk, ids, strict=True):
                        answers[place] = answer_ids
    return answers


Prefix = tuple[tuple[tuple[int, ...], ...], tuple[int, ...]]  # text before each picture, and the pictures


def _prefix(question: Question) -> Prefix:
    return question.prompt.prefix, question.pictures


def _chunks(
    language_model: PreTrainedModel, questions: Sequence[Question], visual: Tensor
) -> Iterator[tuple[list[Prefix], list[int]]]:
    """Distinct prefixes of one length, at most as many as the cache holds, and the questions behind them."""
    owners: dict[Prefix, list[int]] = {}
    for place, question in enumerate(questions):
        owners.setdefault(_prefix(question), []).append(place)
    config = language_model.config.get_text_config()
    width = config.hidden_size // config.num_attention_heads * config.num_key_value_heads
    for length, group in groupby(
        sorted(owners, key=lambda p: _length(p, visual)), lambda p: _length(p, visual)
    ):
        prefixes = list(group)
        size = max(1, length) * width * 2 * config.num_hidden_layers * language_model.dtype.itemsize
        held = max(1, CACHE_BYTES[language_model.device.type] // size)
        for start in range(0, len(prefixes), held):
            chunk = prefixes[start : start + held]
            yield chunk, [place for prefix in chunk for place in owners[prefix]]


def _length(prefix: Prefix, visual: Tensor) -> int:
    return sum(len(ids) + visual.shape[1] for ids in prefix[0])


def _read_prefixes(
    language_model: PreTrainedModel, prefixes: list[Prefix], visual: Tensor, batch: int
) -> list[Pair] | None:
    """Keys and values of every layer for all prefixes, which have equal length; None for length 0."""
    if not _length(prefixes[0], visual):
        return None
    model: Any = language_model
    parts: list[list[Pair]] = []
    for start in range(0, len(prefixes), batch):
        embeddings = torch.stack(
            [_embed(model, prefix, visual) for prefix in prefixes[start : start + batch]]
        )
        cache = model.base_model(inputs_embeds=embeddings, use_cache=True).past_key_values
        parts.append([(layer.keys, layer.values) for layer in cache.layers])
    return [
        (torch.cat([part[layer][0] for part in parts]), torch.cat([part[layer][1] for part in parts]))
        for layer in range(len(parts[0]))
    ]


def _embed(model: Any, prefix: Prefix, visual: Tensor) -> Tensor:
    """Embeddings (tokens, hidden) of a prefix."""
    embed, pieces = model.get_input_embeddings(), []
    for ids, picture in zip(*prefix, strict=True):
        text = embed(torch.tensor(ids, dtype=torch.long, device=model.device))
        pieces += [text, visual[picture].to(text)]
    return torch.cat(pieces)


def _select(cached: list[Pair] | None, rows: Tensor) -> Cache:
    """A new cache with the chosen prefixes."""
    from transformers import DynamicCache

    if cached is None:
        return DynamicCache()
    return DynamicCache([(keys[rows], values[rows]) for keys, values in cached])


def _decode(model: Any, questions: Sequence[Question], cache: Cache, end: int) -> list[list[int]]:
    """Greedy answers to questions of one length after cached prefixes; a row leaves when its answer ends."""
    answers: list[list[int]] = [[] for _ in questions]
    alive = list(range(len(questions)))
    ids = torch.tensor([question.prompt.body for question in questions], device=model.device)
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    while alive:
        start = cache.get_seq_length()
        output = model.base_model(
            inputs_embeds=embed(ids),
            position_ids=torch.arange(start, start + ids.shape[1], device=model.device)[None],
            past_key_values=cache,
            use_cache=True,
        )
        tokens = head(output.last_hidden_state[:, -1]).argmax(-1).tolist()
        kept = []
        for row, token in enumerate(tokens):
            text = answers[alive[row]]
            if token != end:
                text.append(token)
                if len(text) < questions[alive[row]].max_new_tokens:
                    kept.append(row)
        if len(kept) < len(alive):
            cache.batch_select_indices(torch.tensor(kept, dtype=torch.long, device=model.device))
            alive = [alive[row] for row in kept]
        ids = torch.tensor([[tokens[row]] for row in kept], dtype=torch.long, device=model.device)
    return answers
