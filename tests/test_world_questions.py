"""The sixteen benchmarks of the world: true answers, real prompts, balanced guesses."""

from __future__ import annotations

import collections
import copy
import importlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import encoder_roles.encoders._torchvision  # noqa: F401  # lmms-eval imports torchvision
from encoder_roles.study.names import BENCHMARKS, StudyError
from encoder_roles.world.captions import PICTURE_WORDS, place_of
from encoder_roles.world.questions import (
    CIRCLE,
    LETTERS,
    MME_SKILLS,
    SKILLS_OF,
    BenchmarkQuestion,
    benchmark_questions,
    training_questions,
)
from encoder_roles.world.sampling import sample_scenes, split_of
from encoder_roles.world.scenes import COLOURS, SHAPES, Scene, Thing
from encoder_roles.world.skills import CORNERS, SKILLS, TOPICS

Benchmarks = dict[str, tuple[dict[str, Scene], list[BenchmarkQuestion]]]


@pytest.fixture(scope="module")
def benchmarks() -> Benchmarks:
    collected = {}
    for benchmark in BENCHMARKS:
        scenes, questions = benchmark_questions(benchmark, 4, "test", 240)
        collected[benchmark] = ({scene.id: scene for scene in scenes}, questions)
    return collected


# Truth, from the words of the question and the scene: written apart from the package's own skills.


def thing_named(scene: Scene, name: str) -> Thing:
    def fits(thing: Thing) -> bool:
        side = ("left", "right")[thing.col] if scene.kind == "pair" else place_of(thing)
        return name in (thing.colour, thing.shape, side)

    (result,) = [thing for thing in scene.things if fits(thing)]
    return result


def bar_named(scene: Scene, name: str) -> int:
    return next(bar.height for bar in scene.bars if bar.colour == name)


def grid(a: Thing, b: Thing) -> int:
    return abs(a.row - b.row) + abs(a.col - b.col)


def biggest(scene: Scene) -> str:
    return max(scene.things, key=lambda thing: thing.size).colour


def nearer(scene: Scene, a: str, b: str) -> str:
    return max(thing_named(scene, a), thing_named(scene, b), key=lambda thing: thing.size).colour


def closer(scene: Scene, to: str, a: str, b: str) -> str:
    third = thing_named(scene, to)
    return min((thing_named(scene, n) for n in (a, b)), key=lambda thing: grid(third, thing)).colour


def same(scene: Scene, attribute: str) -> str:
    left, right = scene.things
    return "yes" if getattr(left, attribute) == getattr(right, attribute) else "no"


def extreme(scene: Scene, word: str) -> str:
    choose = {"highest": max, "lowest": min}[word]
    return choose(scene.bars, key=lambda bar: bar.height).colour


TRUTHS: list[tuple[str, Callable[..., Any]]] = [
    (r"What does the picture show", lambda s: PICTURE_WORDS[s.kind]),
    (r"How many things are there", lambda s: len(s.things)),
    (r"What (colour|shape|texture) is the plate", lambda s, a: s.plate),
    (r"What (colour) is the biggest thing", lambda s, a: biggest(s)),
    (r"What (colour|shape|texture) is the (\S+?)(?: thing)?", lambda s, a, n: getattr(thing_named(s, n), a)),
    (r"Where is the (\S+) thing", lambda s, n: place_of(thing_named(s, n))),
    (r"How many corners has the (\S+) thing", lambda s, n: CORNERS[thing_named(s, n).shape]),
    (r"Which thing is nearest", biggest),
    (
        r"Is the (\S+) thing left or right of the (\S+) thing",
        lambda s, a, b: "left" if thing_named(s, a).col < thing_named(s, b).col else "right",
    ),
    (
        r"Is the (\S+) thing above or below the (\S+) thing",
        lambda s, a, b: "above" if thing_named(s, a).row < thing_named(s, b).row else "below",
    ),
    (r"Which thing is nearer the (\S+) thing or the (\S+) thing", nearer),
    (r"Which thing is closer to the (\S+) thing the (\S+) thing or the (\S+) thing", closer),
    (r"Do the two things have the same (\S+)", same),
    (r"What is the value of the (\S+) bar", bar_named),
    (r"Which bar is (highest|lowest)", extreme),
    (
        r"What is the difference of the (\S+) bar and the (\S+) bar",
        lambda s, a, b: abs(bar_named(s, a) - bar_named(s, b)),
    ),
    (
        r"What is the sum of the (\S+) bar and the (\S+) bar",
        lambda s, a, b: bar_named(s, a) + bar_named(s, b),
    ),
    (r"What word is written", lambda s: s.word),
    (r"What is the topic of the word", lambda s: TOPICS[s.word]),
    (r"What digit is written", lambda s: s.digit),
    (r"What is the digit plus (\d)", lambda s, k: s.digit + int(k)),
]
CLAIMS: list[tuple[str, Callable[..., bool]]] = [
    (r"Is there a (\S+) thing", lambda s, c: c in {t.colour for t in s.things}),
    (r"Are there (\d) things", lambda s, n: len(s.things) == int(n)),
    (
        r"Is the (\S+) thing (left|right) of the (\S+) thing",
        lambda s, a, side, b: (thing_named(s, a).col < thing_named(s, b).col) == (side == "left"),
    ),
    (r"Is the biggest thing (\S+)", lambda s, c: biggest(s) == c),
    (r"Is the (highest|lowest) bar (\S+)", lambda s, word, c: extreme(s, word) == c),
    (r"Is the digit (\d)", lambda s, n: s.digit == int(n)),
    (r"Does the picture show (\S+)", lambda s, word: PICTURE_WORDS[s.kind] == word),
    (r"Is the word (\S+)", lambda s, word: s.word == word),
    (
        r"Is the (\S+) thing (\S+)",
        lambda s, n, v: v in (thing_named(s, n).colour, thing_named(s, n).texture, thing_named(s, n).shape),
    ),
]


def core_of(prompt: str) -> str:
    """The question itself, without instructions, hints and options."""
    return next(m for m in re.findall(r"[A-Z][^?\n]*\?", prompt)).rstrip("?").strip()


def truth_of(scene: Scene, prompt: str) -> str:
    core = core_of(prompt.lower().capitalize() if prompt.islower() else prompt)
    for pattern, truth in TRUTHS:
        if match := re.fullmatch(pattern, core):
            return str(truth(scene, *match.groups()))
    for pattern, claim in CLAIMS:
        if match := re.fullmatch(pattern, core):
            return "yes" if claim(scene, *match.groups()) else "no"
    raise AssertionError(f"no truth for {core!r}")


def options_of(prompt: str) -> dict[str, str]:
    return dict(re.findall(r"\n\(?([A-D])[.)] ([^\n]+)", prompt))


def in_words(prompt: str, answer: str) -> str:
    """An answer in words: the option's text if the prompt has options."""
    return options_of(prompt).get(answer, answer)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_every_answer_is_the_truth_of_its_scene(benchmarks: Benchmarks, benchmark: str) -> None:
    scenes, questions = benchmarks[benchmark]
    for question in questions:
        assert in_words(question.prompt, question.answer) == truth_of(scenes[question.scene], question.prompt)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_options_are_distinct_and_one_of_them_is_true(benchmarks: Benchmarks, benchmark: str) -> None:
    scenes, questions = benchmarks[benchmark]
    for question in questions:
        if options := options_of(question.prompt):
            values = list(options.values())
            assert values.count(truth_of(scenes[question.scene], question.prompt)) == 1
            assert len(set(values)) == len(values)


def test_training_questions_are_true_too_and_open_ones_have_no_options() -> None:
    rng = np.random.default_rng(0)
    for scene in sample_scenes(9, "train", None, 150):
        for prompt, answer in training_questions(scene, rng, 6):
            assert in_words(prompt, answer) == truth_of(scene, prompt)
        for prompt, answer in training_questions(scene, rng, 3, lettered=False):
            assert not options_of(prompt) and answer not in LETTERS


def test_training_asks_every_skill_of_the_benchmarks_without_options_too() -> None:
    rng = np.random.default_rng(1)
    scenes = sample_scenes(9, "train", None, 1500)
    prompts = {prompt for s in scenes for prompt, _ in training_questions(s, rng, 8, lettered=False)}
    for skill in {skill for skills in SKILLS_OF.values() for skill in skills}:
        fitting = (s for s in scenes if s.kind in SKILLS[skill].kinds)
        texts = {text for s in fitting for ask in SKILLS[skill].asks(s) for text in (ask.question, ask.claim)}
        forms = [re.compile(re.escape(text).replace(r"\{\}", r"\S+")) for text in texts if text]
        assert any(form.match(prompt) for prompt in prompts for form in forms), skill


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_scenes_are_of_the_split_and_questions_are_enough_and_named_once(
    benchmarks: Benchmarks, benchmark: str
) -> None:
    scenes, questions = benchmarks[benchmark]
    assert {split_of(scene) for scene in scenes.values()} == {"test"}
    assert len(questions) >= 240
    assert len({question.id for question in questions}) == len(questions)
    assert len({question.cluster for question in questions}) >= 120
    assert {question.scene for question in questions} == set(scenes)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_guessing_the_commonest_answer_stays_near_chance(benchmarks: Benchmarks, benchmark: str) -> None:
    _, questions = benchmarks[benchmark]
    by_shape: dict[tuple[Any, ...], list[str]] = collections.defaultdict(list)
    for question in questions:
        core = core_of(question.prompt)
        for name in (*COLOURS, *SHAPES, *"0123456789"):
            core = re.sub(rf"\b{name}\b", "_", core)
        by_shape[(core, len(options_of(question.prompt)))].append(question.answer)
    right = sum(collections.Counter(answers).most_common(1)[0][1] for answers in by_shape.values())
    # what a guesser reaches who knows each kind of question's commonest answer; two options give 50
    limit = {"mme": 0.62, "mmvp": 0.5, "cvbench3d": 0.6, "cvbench2d": 0.55, "gqa": 0.5, "realworldqa": 0.55}
    assert right / len(questions) <= limit.get(benchmark, 0.45)


def test_mme_asks_one_true_and_one_false_claim_per_picture_in_ten_equal_categories(
    benchmarks: Benchmarks,
) -> None:
    _, questions = benchmarks["mme"]
    pairs = collections.defaultdict(list)
    for question in questions:
        pairs[question.row["question_id"], question.scene].append(question.answer)
    assert all(sorted(answers) == ["no", "yes"] for answers in pairs.values())
    assert len({question_id for question_id, _ in pairs}) == len(pairs)
    categories = collections.Counter(question.row["category"] for question in questions)
    assert set(categories) == set(MME_SKILLS) and len(set(categories.values())) == 1


def test_mmbench_circles_turn_one_question_through_all_letters(benchmarks: Benchmarks) -> None:
    _, questions = benchmarks["mmbench"]
    circles = collections.defaultdict(list)
    for question in questions:
        circles[question.row["index"] % CIRCLE].append(question)
    for circle in circles.values():
        assert sorted(q.row["index"] // CIRCLE for q in circle) == [0, 1, 2, 3]
        assert sorted(q.answer for q in circle) == list(LETTERS)
        assert len({in_words(q.prompt, q.answer) for q in circle}) == 1
        assert len({q.cluster for q in circle}) == 1


def test_mmvp_pairs_ask_one_question_of_two_pictures_with_opposite_answers(benchmarks: Benchmarks) -> None:
    _, questions = benchmarks["mmvp"]
    for first, second in zip(questions[::2], questions[1::2], strict=True):
        assert (first.row["Index"] - 1) // 2 == (second.row["Index"] - 1) // 2
        assert first.prompt == second.prompt and first.cluster == second.cluster
        assert {first.answer, second.answer} == {"A", "B"}
        assert first.scene != second.scene


def test_cv_bench_has_both_tasks_and_both_sources(benchmarks: Benchmarks) -> None:
    flat = {(q.row["task"], q.row["source"]) for q in benchmarks["cvbench2d"][1]}
    assert flat == {(task, source) for task in ("Count", "Relation") for source in ("ADE20K", "COCO")}
    assert {q.row["task"] for q in benchmarks["cvbench3d"][1]} == {"Depth", "Distance"}


def test_the_same_seed_asks_the_same_and_another_split_asks_something_else() -> None:
    for benchmark in ("mmvp", "mathvista"):
        once = benchmark_questions(benchmark, 1, "test", 30)
        assert once == benchmark_questions(benchmark, 1, "test", 30)
        assert once != benchmark_questions(benchmark, 1, "development", 30)


def test_an_unknown_benchmark_is_named() -> None:
    with pytest.raises(StudyError, match="vqav2"):
        benchmark_questions("vqav2", 0, "test", 1)


SHORT = {"pre_prompt": "", "post_prompt": "\nAnswer the question using a single word or phrase."}
MCQ = {"pre_prompt": "", "post_prompt": "\nAnswer with the option's letter from the given choices directly."}
MMMU = {
    "prompt_type": "format",
    "multiple_choice_prompt": MCQ["post_prompt"].strip(),
    "open_ended_prompt": SHORT["post_prompt"].strip(),
}
VISTA = {"shot_type": "format-prompt", "shot": 0, "use_caption": False, "use_ocr": False}
NOTE = "Note: You only need to respond with {} without providing any additional information.\n"
NONE = {"pre_prompt": "", "post_prompt": ""}
RENDERERS: dict[str, tuple[str, str, dict[str, Any] | None]] = {
    "mme": ("mme.utils", "mme_doc_to_text", SHORT),
    "mmbench": ("mmbench.en_utils", "mmbench_doc_to_text", MCQ),
    "seed": ("seedbench.utils", "seed_doc_to_text", None),
    "gqa": ("gqa.utils", "gqa_doc_to_text", SHORT),
    "scienceqa": ("scienceqa.utils", "sqa_doc_to_text", MCQ | {"format": "default"}),
    "mmmu": ("mmmu.utils", "mmmu_doc_to_text", MMMU),
    "mathvista": ("mathvista.utils", "mathvista_doc_to_text", VISTA),
    "ai2d": ("ai2d.utils", "ai2d_doc_to_text", MCQ | {"prompt_format": "mcq"}),
    "chartqa": (
        "chartqa.utils",
        "chartqa_doc_to_text",
        NONE | {"post_prompt": "\nAnswer the question with a single word."},
    ),
    "ocrbench": ("ocrbench.utils", "ocrbench_doc_to_text", NONE),
    "textvqa": ("textvqa.utils", "textvqa_doc_to_text", SHORT | {"ocr": False}),
    "docvqa": ("docvqa.utils", "docvqa_doc_to_text", SHORT),
    "mmvp": ("mmvp.utils", "mmvp_doc_to_text", MCQ),
    "realworldqa": ("realworldqa.utils", "realworldqa_doc_to_text", NONE),
    "cvbench2d": ("cv_bench.utils", "cv_bench_doc_to_text", NONE | {"pre_prompt": NOTE}),
    "cvbench3d": ("cv_bench.utils", "cv_bench_doc_to_text", NONE | {"pre_prompt": NOTE}),
}


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_prompts_are_what_lmms_eval_renders_for_the_rows(benchmarks: Benchmarks, benchmark: str) -> None:
    module, name, options = RENDERERS[benchmark]
    render = getattr(importlib.import_module(f"lmms_eval.tasks.{module}"), name)
    for question in benchmarks[benchmark][1][:60]:
        row = copy.deepcopy(question.row)
        assert question.prompt == (render(row, options) if options else render(row))
