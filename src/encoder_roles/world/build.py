"""The world's data: training pictures with questions and captions, probe pictures, and the sixteen
benchmarks.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from encoder_roles.benchmarks.rows import SCHEMAS, picture_cell, picture_columns, write_rows
from encoder_roles.benchmarks.table import SKILL
from encoder_roles.data.llava import CAPTION_SUFFIX, IMAGE_MARKER
from encoder_roles.provenance import atomic_folder, write_jsonl
from encoder_roles.study.names import BENCHMARKS
from encoder_roles.study.sections import WorldSettings
from encoder_roles.study.stages import read_settings
from encoder_roles.world.drawing import draw
from encoder_roles.world.questions import (
    BenchmarkQuestion,
    benchmark_questions,
    training_caption,
    training_questions,
)
from encoder_roles.world.sampling import sample_scenes
from encoder_roles.world.scenes import SPLITS, Scene, Split

DEVELOPMENT_QUESTIONS = 200  # per benchmark: enough for choices made while the world is developed


def make_world(*, settings: Path, output: Path) -> None:
    """Make all data of the laptop study in folder `output`; `settings` is a WorldSettings.

    Writes train/, probe/, development/ and test/ (scenes and pictures), train/train.jsonl, probe/probe.jsonl
    and benchmarks/{benchmark}/{development,test}.parquet (docs/contracts.md). The settings alone
    determine every byte.
    """
    world = read_settings(settings, WorldSettings)
    questions = world.questions_per_benchmark
    with atomic_folder(output) as folder:
        _make_training(folder / "train", world)
        _make_probe(folder / "probe", world)
        _make_benchmarks(folder, "development", world.seed, min(questions, DEVELOPMENT_QUESTIONS))
        _make_benchmarks(folder, "test", world.seed, questions)


def _make_training(folder: Path, world: WorldSettings) -> None:
    scenes = sample_scenes(world.seed, "train", None, world.train_pictures)
    _write_scenes(folder, scenes)
    for _ in _draw_pictures(folder, scenes, "training pictures"):
        pass
    write_jsonl(
        folder / "train.jsonl",
        (
            record
            for place, scene in enumerate(scenes)
            for record in training_records(scene, world.seed, place, world.questions_per_picture)
        ),
    )


def training_records(scene: Scene, seed: int, place: int, n: int) -> list[dict[str, Any]]:
    """LLaVA-format records of a training picture: the distinct ones among `n` questions, then its caption."""
    rng = np.random.default_rng((seed, SPLITS.index("train"), place, 1))
    questions = dict.fromkeys(training_questions(scene, rng, n))
    named = [(f"{scene.id}-{number}", text) for number, text in enumerate(questions)]
    named.append((f"{scene.id}{CAPTION_SUFFIX}", training_caption(scene, rng)))
    return [
        {
            "id": id,
            "image": _picture_path(scene),
            "conversations": [
                {"from": "human", "value": f"{IMAGE_MARKER}\n{prompt}"},
                {"from": "gpt", "value": answer},
            ],
        }
        for id, (prompt, answer) in named
    ]


def _make_probe(folder: Path, world: WorldSettings) -> None:
    scenes = sample_scenes(world.seed, "probe", None, world.probe_pictures)
    _write_scenes(folder, scenes)
    for _ in _draw_pictures(folder, scenes, "probe pictures"):
        pass
    write_jsonl(folder / "probe.jsonl", ({"id": s.id, "image": _picture_path(s)} for s in scenes))


def _make_benchmarks(folder: Path, split: Split, seed: int, n: int) -> None:
    """Write the sixteen benchmarks of a split, each with at least `n` questions, and the split's pictures."""
    drawn = {name: benchmark_questions(name, seed, split, n) for name in BENCHMARKS}
    all_scenes = [scene for scenes, _ in drawn.values() for scene in scenes]
    _write_scenes(folder / split, all_scenes)
    pictures = dict(_draw_pictures(folder / split, all_scenes, f"{split} pictures"))
    for name, (_, questions) in drawn.items():
        rows = [_with_picture(question, pictures[question.scene]) for question in questions]
        write_rows(folder / "benchmarks" / name / f"{split}.parquet", name, rows)


def _with_picture(question: BenchmarkQuestion, png: bytes) -> dict[str, Any]:
    """The question's row with its skill, and its picture in the same column as in the real benchmark."""
    column = picture_columns(question.benchmark)[0]
    cell = picture_cell(f"{question.scene}.png", png)
    is_list = isinstance(SCHEMAS[question.benchmark][column], list)
    return {**question.row, SKILL: question.skill, column: [cell] if is_list else cell}


def _write_scenes(folder: Path, scenes: Iterable[Scene]) -> None:
    write_jsonl(folder / "scenes.jsonl", (scene.to_json() for scene in scenes))


def _draw_pictures(folder: Path, scenes: list[Scene], what: str) -> Iterator[tuple[str, bytes]]:
    """Write pictures/{scene}.png for every scene and yield (scene id, PNG bytes)."""
    (folder / "pictures").mkdir()
    for scene in tqdm(scenes, desc=what, unit="picture", file=sys.stderr, disable=None):
        buffer = io.BytesIO()
        Image.fromarray(draw(scene)).save(buffer, format="PNG")
        (folder / _picture_path(scene)).write_bytes(buffer.getvalue())
        yield scene.id, buffer.getvalue()


def _picture_path(scene: Scene) -> str:
    return f"pictures/{scene.id}.png"
