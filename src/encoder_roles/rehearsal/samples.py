"""What a rehearsal learns from and answers: the study's longest samples, or made-up ones of that length."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from encoder_roles.data.llava import distinct_pictures
from encoder_roles.data.prompts import PromptRenderer, longest_conversation
from encoder_roles.evaluation.requests import MANIFEST, Request, read_manifest, read_requests
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.provenance import sha256_of, write_json, write_jsonl
from encoder_roles.study.config import Study
from encoder_roles.study.names import StudyError
from encoder_roles.training.batches import TrainingData

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PICTURES = 64  # of predictions and effective ranks
SIZE = (640, 480)  # of a made-up picture, as of many photos
AROUND = 32  # tokens left for a chat template and the line between question and answer


def records_of(study: Study, results: Path, name: str) -> Path | None:
    """The study's staged records for align or tune, or the procedural world's; None if they are not made."""
    own = results / "records" / name / f"{name}.jsonl"
    path = own if study.user_records else results / "data/train/train.jsonl"
    return path if path.is_file() else None


def write_samples(
    study: Study, results: Path, name: str, count: int, language_model: Path, output: Path
) -> int:
    """Write the longest `count` samples for align or tune as training data; returns their number.

    Args:
        study: the study.
        results: results/<study>.
        name: align or tune.
        count: samples to write; fewer are written if the study has fewer.
        language_model: the staged language model.
        output: the JSONL file; made-up pictures are written beside it.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    if (source := records_of(study, results, name)) is None:
        return _write_made_up(study, count, language_model, output)
    longest, visual = _room(study, language_model)
    data = TrainingData(
        source,
        PromptRenderer(load_tokenizer(language_model)),
        longest,
        visual,
        cut=study.training.max_tokens is not None,
        group_by_picture=study.training.group_by_picture,
    )
    places = np.argsort(-data.lengths(), kind="stable")[:count]
    write_jsonl(output, _moved(data, places.tolist(), source.parent, output.parent))
    return len(places)


def _moved(data: TrainingData, places: list[int], before: Path, after: Path) -> Iterator[dict[str, Any]]:
    """The records of some samples, with paths of pictures relative to another folder."""
    with data.path.open("rb") as file:
        for place in places:
            file.seek(data.index.starts[place])
            for line in file.read(data.index.sizes[place]).splitlines():
                row = json.loads(line)
                if row.get("image") is not None:
                    row["image"] = os.path.relpath(before / row["image"], after)
                yield row


def _room(study: Study, language_model: Path) -> tuple[int, int]:
    """The most tokens of a conversation, and the visual tokens among them for the full pool."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(language_model, local_files_only=True, trust_remote_code=False)
    longest = longest_conversation(config, study.training.max_tokens)
    return longest, study.connector.visual_tokens(len(study.pool))


def _write_made_up(study: Study, count: int, language_model: Path, output: Path) -> int:
    """Samples of the greatest length: up to `max_tokens`, or with the plan's mean of text tokens."""
    longest, visual = _room(study, language_model)
    planned = study.plan.text_tokens if study.training.max_tokens is None else longest
    words = max(2, min(planned, longest - visual - AROUND))
    word = known_word(load_tokenizer(language_model))
    question, answer = " ".join([word] * (words // 2)), " ".join([word] * (words - words // 2))
    turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
    distinct = count if study.training.group_by_picture else min(count, PICTURES)
    names = write_pictures(output.parent / "pictures", distinct)
    rows = ({"id": str(n), "image": names[n % distinct], "conversations": turns} for n in range(count))
    write_jsonl(output, rows)
    return count


def known_word(tokenizer: PreTrainedTokenizerFast) -> str:
    """A word that is one token wherever it stands. Raises StudyError if the tokenizer has none."""
    ids = PromptRenderer(tokenizer).ids
    for token in sorted(tokenizer.get_vocab()):
        word = token.strip("\u0120\u2581")  # the spaces of byte-level and sentencepiece tokenizers
        if (
            word.isalpha()
            and len(ids(f" {word} {word}")) == 2
            and tokenizer.unk_token_id not in ids(f" {word}")
        ):
            return word
    raise StudyError(f"{tokenizer.name_or_path}: the tokenizer has no word of a single token")


def write_pictures(folder: Path, count: int) -> list[str]:
    """Made-up photos; returns their paths relative to the folder's parent."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{folder.name}/{number:05d}.jpg" for number in range(count)]
    for name in names:
        coarse = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(folder.parent / name)
    return names


def write_probe(study: Study, results: Path, output: Path) -> int:
    """Write probe.jsonl with the pictures of effective ranks, PICTURES at most; returns their number."""
    own = results / ("records/probe" if study.user_records else "data/probe") / "probe.jsonl"
    output.parent.mkdir(parents=True, exist_ok=True)
    most = min(PICTURES, study.effective_rank.pictures)
    if own.is_file():
        rows = [json.loads(line) for line, _ in zip(own.open(encoding="utf-8"), range(most), strict=False)]
        names = [os.path.relpath(own.parent / row["image"], output.parent) for row in rows]
    else:
        names = write_pictures(output.parent / "pictures", most)
    write_jsonl(output, ({"id": str(number), "image": name} for number, name in enumerate(names)))
    return len(names)


def write_rehearsed_requests(
    study: Study, results: Path, data: Path, language_model: Path, output: Path
) -> bool:
    """Write the questions of a rehearsal; returns whether they can be scored.

    They are all questions of the study's benchmark with the fewest, because scoring wants every answer.
    Without requests there is one made-up question about each of PICTURES training pictures.

    Args:
        study: the study.
        results: results/<study>.
        data: training data, for pictures.
        language_model: the staged language model.
        output: the folder of requests.
    """
    own = results / "requests"
    if (own / MANIFEST).is_file():
        manifest = read_manifest(own)
        name = min(manifest, key=lambda benchmark: int(manifest[benchmark]["n"]))
        _write_requests(output, own, name, read_requests(own, name), manifest[name])
        return True
    word = known_word(load_tokenizer(language_model))
    prompt = " ".join([word] * study.plan.text_tokens)
    pictures = [name for name, _ in zip(distinct_pictures(data), range(PICTURES), strict=False)]
    requests = [
        Request(str(number), str(number), prompt, (name,), study.plan.answer_tokens)
        for number, name in enumerate(pictures)
    ]
    _write_requests(output, data.parent, study.benchmarks[0], requests, {})
    return False


def _write_requests(
    output: Path, before: Path, benchmark: str, requests: list[Request], entry: dict[str, Any]
) -> None:
    file = output / f"{benchmark}.jsonl"
    moved = (
        vars(row) | {"images": [os.path.relpath(before / image, output) for image in row.images]}
        for row in requests
    )
    write_jsonl(file, moved)
    write_json(output / MANIFEST, {benchmark: entry | {"n": len(requests), "sha256": sha256_of(file)}})
