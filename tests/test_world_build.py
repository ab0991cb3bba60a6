"""The world's data: whole, repeatable, in the public schemas, and answerable."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from encoder_roles.benchmarks.table import TASKS
from encoder_roles.data.llava import PictureIndex
from encoder_roles.evaluation.chat import BenchmarkPicture
from encoder_roles.evaluation.judge import Judge
from encoder_roles.evaluation.requests import read_requests, write_requests
from encoder_roles.evaluation.truth import study_of
from encoder_roles.provenance import read_jsonl, sha256_of
from encoder_roles.study.names import BENCHMARKS
from encoder_roles.world.build import make_world
from encoder_roles.world.drawing import draw
from encoder_roles.world.questions import benchmark_questions
from encoder_roles.world.scenes import scene_from_json

SETTINGS = {
    "seed": 3,
    "train_pictures": 20,
    "questions_per_picture": 4,
    "probe_pictures": 6,
    "questions_per_benchmark": 12,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    (folder / "world.json").write_text(json.dumps(SETTINGS))
    (folder / "requests.json").write_text(json.dumps({"benchmarks": BENCHMARKS}))
    make_world(settings=folder / "world.json", output=folder / "data")
    write_requests(settings=folder / "requests.json", data=folder / "data", output=folder / "requests")
    return folder


def files_of(folder: Path) -> dict[str, str]:
    return {str(f.relative_to(folder)): sha256_of(f) for f in sorted(folder.rglob("*")) if f.is_file()}


def test_the_same_settings_make_the_same_bytes(world: Path, tmp_path: Path) -> None:
    make_world(settings=world / "world.json", output=tmp_path / "again")
    assert files_of(tmp_path / "again") == files_of(world / "data")


def test_lmms_eval_renders_the_prompts_that_the_language_model_was_taught(world: Path) -> None:
    for benchmark in BENCHMARKS:
        _, questions = benchmark_questions(benchmark, SETTINGS["seed"], "test", 12)
        requests = read_requests(world / "requests", benchmark)
        assert [r.prompt for r in requests] == [q.prompt for q in questions], benchmark


def test_recipes_are_chosen_on_other_questions_than_those_of_the_results(world: Path, tmp_path: Path) -> None:
    settings = tmp_path / "requests.json"
    settings.write_text(json.dumps({"benchmarks": ["mme"], "split": "development"}))
    write_requests(settings=settings, data=world / "data", output=tmp_path / "requests")
    _, questions = benchmark_questions("mme", SETTINGS["seed"], "development", 12)
    chosen_on = read_requests(tmp_path / "requests", "mme")
    assert [r.prompt for r in chosen_on] == [q.prompt for q in questions]
    reported = read_requests(world / "requests", "mme")
    assert not {r.images for r in chosen_on} & {r.images for r in reported}


def test_right_answers_score_a_hundred_and_wrong_ones_do_not(world: Path) -> None:
    for benchmark in BENCHMARKS:
        _, questions = benchmark_questions(benchmark, SETTINGS["seed"], "test", 12)
        judge = Judge(TASKS[benchmark], world / "data/benchmarks" / benchmark / "test.parquet")
        scores, weights, unparsable = judge.judge([q.answer for q in questions])
        assert np.average(scores, weights=weights) == pytest.approx(100), benchmark
        assert not unparsable.any(), benchmark
        scores, weights, unparsable = judge.judge(["mauve"] * len(questions))
        assert np.average(scores, weights=weights) == 0, benchmark


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_chat_shows_the_true_answer_to_a_benchmarks_question(
    world: Path, benchmark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, questions = benchmark_questions(benchmark, SETTINGS["seed"], "test", 12)
    requests = read_requests(world / "requests", benchmark)
    request, question = next((r, q) for r, q in zip(requests, questions, strict=True) if len(r.images) == 1)
    shown = BenchmarkPicture(world / "requests" / request.images[0], study_of(world / "models/clip"))
    shown.print_truth(f"{request.prompt}\n", 6)
    printed = re.sub(r"  \((\w)\)  ", r"  \1  ", capsys.readouterr().out)  # CV-Bench writes (A)
    assert printed.lower() == f" truth  {question.answer}  ({benchmark})\n".lower()
    shown.print_truth("What is the meaning of it?", 6)
    shown.print_questions()
    out, errors = capsys.readouterr()
    assert out == "" and f"  {request.prompt.splitlines()[0]}\n" in errors


def test_a_picture_of_no_benchmark_and_a_model_of_no_study_have_no_true_answer(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert study_of(tmp_path / "models/clip") is None
    picture = min((world / "data/train/pictures").glob("*.png"))
    for study in (None, world):
        BenchmarkPicture(picture, study).print_questions()
    assert capsys.readouterr() == ("", "")


def test_clusters_hold_the_questions_of_one_picture_pair_or_circle(world: Path) -> None:
    for benchmark in BENCHMARKS:
        _, questions = benchmark_questions(benchmark, SETTINGS["seed"], "test", 12)
        requests = read_requests(world / "requests", benchmark)
        pairs = {(r.cluster, q.cluster) for r, q in zip(requests, questions, strict=True)}
        # equal pictures of two scenes (a sign drawn twice) may join clusters, nothing may split one
        assert len(pairs) == len({theirs for _, theirs in pairs}), benchmark


def test_pictures_show_their_scenes_and_requests_show_the_pictures(world: Path) -> None:
    for split in ("train", "probe", "development", "test"):
        for row in list(read_jsonl(world / "data" / split / "scenes.jsonl"))[:10]:
            with Image.open(world / "data" / split / "pictures" / f"{row['id']}.png") as picture:
                assert np.array_equal(np.asarray(picture), draw(scene_from_json(row)))
    _, questions = benchmark_questions("seed", SETTINGS["seed"], "test", 12)
    for request, question in zip(read_requests(world / "requests", "seed"), questions, strict=True):
        shown = np.asarray(Image.open(world / "requests" / request.images[0]))
        drawn = np.asarray(Image.open(world / "data/test/pictures" / f"{question.scene}.png"))
        assert np.array_equal(shown, drawn)


def test_training_records_are_llava_records_with_one_caption_a_picture(world: Path) -> None:
    pictures = list(PictureIndex(world / "data/train/train.jsonl", group_by_picture=True))
    assert len(pictures) == SETTINGS["train_pictures"]
    for picture in pictures:
        assert picture.image and (world / "data/train" / picture.image).is_file()
        assert [r.is_caption for r in picture.records] == [False] * (len(picture.records) - 1) + [True]
        turns = [r.turns for r in picture.records]
        assert len(turns) > 2 and len(set(turns)) == len(turns)


def test_no_scene_of_one_split_is_in_another(world: Path) -> None:
    seen: dict[str, str] = {}
    for split in ("train", "probe", "development", "test"):
        for row in read_jsonl(world / "data" / split / "scenes.jsonl"):
            content = json.dumps({k: v for k, v in row.items() if k not in ("id", "kind")}, sort_keys=True)
            assert seen.setdefault(content, split) == split
