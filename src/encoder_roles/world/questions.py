"""Sixteen small benchmarks of the world, one for each of Cambrian-1's, in the schema of the real one.

A `BenchmarkQuestion` holds a row with the real benchmark's columns (without the picture), the prompt that
lmms-eval 0.7.3 renders for that row, and the correct answer. `SKILLS_OF` lists the skills of each benchmark.
To keep guessing near chance, option letters are random, and half of the yes/no questions are true. Where a
scene allows several answers, each is equally likely.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from encoder_roles.study.names import BENCHMARKS, StudyError
from encoder_roles.world.captions import CAPTION_PROMPT, caption
from encoder_roles.world.sampling import Rng, pick, sample_scene
from encoder_roles.world.scenes import SPLITS, Kind, Scene, Split
from encoder_roles.world.skills import SKILLS, Ask

LETTERS = "ABCD"
SHORT = "\nAnswer the question using a single word or phrase."
SINGLE_WORD = "\nAnswer the question with a single word."
LETTER = "\nAnswer with the option's letter from the given choices directly."
INTEGER = "\nAnswer the question using a single integer number."
ONLY_LETTER = "Please answer directly with only the letter of the correct option and nothing else."
ONLY_WORD = "Please answer directly with a single word or number."
OPTIONS = "There are several options:"
SELECT = "Select from the following choices."
NOTE = "Note: You only need to respond with {} without providing any additional information.\n\n"
YES_NO = " Please answer yes or no."
IMAGE_1 = "<image 1> "
CIRCLE = 1_000_000  # MMBench: rotation k of question i has the index i + k million

# MME's ten perception categories and the skill that stands for each
MME_SKILLS = {
    "existence": "presence",
    "count": "count",
    "position": "horizontal",
    "color": "colour_at",
    "posters": "highest_bar",
    "celebrity": "digit",
    "scene": "picture",
    "landmark": "biggest",
    "artwork": "texture",
    "OCR": "word",
}
# the skills of every benchmark, in equal parts (a name that appears twice has two parts)
SKILLS_OF: dict[str, tuple[str, ...]] = {
    "mme": tuple(MME_SKILLS.values()),
    "mmbench": ("shape", "picture", "count", "colour_at", "side_shape", "side_colour"),
    "seed": ("shape", "count", "colour_at", "place", "side_colour", "picture"),
    "gqa": ("shape", "texture", "colour_at", "colour_of", "horizontal", "side_texture"),
    "scienceqa": ("corners", "nearest", "topic", "digit_plus"),
    "mmmu": ("corners", "topic", "digit_plus", "bar_difference", "count"),
    "mathvista": ("count", "bar_sum", "bar_difference", "digit_plus", "lowest_bar", "corners"),
    "ai2d": ("colour_at", "place", "highest_bar", "lowest_bar", "bar_value"),
    "chartqa": ("bar_value", "bar_value", "highest_bar", "lowest_bar"),
    "ocrbench": ("word", "digit", "bar_value", "plate"),
    "textvqa": ("word", "word", "digit"),
    "docvqa": ("word", "digit", "bar_value"),
    "mmvp": ("same_shape", "same_colour", "same_texture", "side_texture", "side_shape"),
    "realworldqa": ("horizontal", "vertical", "count", "biggest", "same_texture"),
    "cvbench2d": ("count", "horizontal", "vertical"),
    "cvbench3d": ("depth", "distance"),
}
HINTS = {
    "corners": "The corners are circle 0, triangle 3, square 4, star 5.",
    "nearest": "The biggest thing is the nearest.",
    "topic": "",
    "digit_plus": "",
}
SUBJECTS = {
    "corners": "Math",
    "topic": "Literature",
    "digit_plus": "Physics",
    "bar_difference": "Finance",
    "count": "Geography",
}
OCR_TYPES = {
    "word": "Regular Text Recognition",
    "digit": "Handwriting Recognition",
    "bar_value": "Doc-oriented VQA",
    "plate": "Scene Text-centric VQA",
}
OPEN_SKILLS = {  # skills that a benchmark of both forms asks without options
    "mmmu": ("count",),
    "mathvista": ("count", "bar_sum", "bar_difference", "digit_plus"),
    "realworldqa": ("count", "same_texture"),
}
# parts of a format in training, where one part is too few: relations are learnt last
TRAINING_PARTS = {"cvbench2d": 2, "cvbench3d": 3, "mmmu": 2}
OPEN_PARTS = 2  # parts, in training's open questions, of the skills that benchmarks ask with options only
OPEN_BENCHMARKS = ("mme", "gqa", "chartqa", "ocrbench", "textvqa", "docvqa")


@dataclass(frozen=True)
class BenchmarkQuestion:
    """One benchmark row: `scene` is the id of its picture's scene, `answer` the correct text."""

    benchmark: str
    skill: str
    id: str
    scene: str
    row: dict[str, Any]
    prompt: str
    answer: str
    cluster: str


@dataclass(frozen=True)
class _Item:
    """An ask to be put into a format: its skill and its number in the benchmark."""

    skill: str
    ask: Ask
    number: int
    rng: Rng


Form = Callable[[_Item], tuple[dict[str, Any], str, str]]  # -> row, prompt, answer


def _lettered(item: _Item, most: int = len(LETTERS)) -> tuple[list[str], str]:
    """Options in random order, at most `most`, and the letter of the answer."""
    ask, rng = item.ask, item.rng
    wrong = [ask.wrong[int(i)] for i in rng.permutation(len(ask.wrong))][: most - 1]
    place = int(rng.integers(len(wrong) + 1))
    return [*wrong[:place], ask.answer, *wrong[place:]], LETTERS[place]


def _lines(options: list[str], form: str = "{}. {}") -> str:
    return "\n".join(form.format(letter, option) for letter, option in zip(LETTERS, options, strict=False))


def _mme(item: _Item) -> tuple[dict[str, Any], str, str]:
    """Even numbers ask about a true claim, odd numbers about a false one."""
    truth = item.number % 2 == 0
    claim = item.ask.claim.format(item.ask.answer if truth else pick(item.rng, item.ask.wrong))
    category = next(c for c, skill in MME_SKILLS.items() if skill == item.skill)
    answer = "yes" if truth else "no"
    row = {
        "question_id": f"{category}/{item.number // 2:05d}.png",
        "question": claim + YES_NO,
        "answer": answer.capitalize(),
        "category": category,
    }
    return row, claim + SHORT, answer


def _mmbench(item: _Item) -> tuple[dict[str, Any], str, str]:
    options, letter = _lettered(item)
    return _mmbench_row(item.number, item.ask.question, options, letter, item.skill)


def _mmbench_row(
    index: int, question: str, options: list[str], letter: str, skill: str
) -> tuple[dict[str, Any], str, str]:
    row = {
        "index": index,
        "question": question,
        "hint": "nan",
        **dict(zip(LETTERS, options, strict=True)),
        "answer": letter,
        "category": skill,
        "L2-category": SKILLS[skill].kinds[0] if len(SKILLS[skill].kinds) == 1 else "any",
        "source": "world",
        "split": "dev",
    }
    return row, f"{question} {OPTIONS}\n{_lines(options)}\n{LETTER}", letter


def _seed(item: _Item) -> tuple[dict[str, Any], str, str]:
    options, letter = _lettered(item)
    row = {
        "question": item.ask.question,
        **{f"choice_{name.lower()}": option for name, option in zip(LETTERS, options, strict=True)},
        "answer": letter,
        "data_type": "image",
        "question_id": str(item.number),
    }
    return row, f"{item.ask.question}\n{_lines(options)}{LETTER}", letter


def _gqa(item: _Item) -> tuple[dict[str, Any], str, str]:
    row = {"id": str(item.number), "imageId": str(item.number), "question": item.ask.question}
    return {**row, "answer": item.ask.answer}, item.ask.question + SHORT, item.ask.answer


def _scienceqa(item: _Item) -> tuple[dict[str, Any], str, str]:
    options, letter = _lettered(item)
    hint = HINTS[item.skill]
    row = {"hint": hint, "question": item.ask.question, "choices": options, "answer": LETTERS.index(letter)}
    context = f"Context: {hint}\n" if hint else ""
    return row, f"{context}{item.ask.question}\n{_lines(options)}{LETTER}", letter


def _mmmu(item: _Item) -> tuple[dict[str, Any], str, str]:
    is_open = item.skill in OPEN_SKILLS["mmmu"]
    options, letter = ([], item.ask.answer) if is_open else _lettered(item)
    question = IMAGE_1 + item.ask.question
    row = {
        "id": f"validation_{SUBJECTS[item.skill]}_{item.number + 1}",
        "question": question,
        "options": repr(options),
        "answer": letter,
        "question_type": "open" if is_open else "multiple-choice",
    }
    prompt = f"{question}\n{SHORT}" if is_open else f"{question}\n{_lines(options)}\n{LETTER}"
    return row, prompt, letter


def _mathvista(item: _Item) -> tuple[dict[str, Any], str, str]:
    is_open = item.skill in OPEN_SKILLS["mathvista"]
    options, letter = ([], item.ask.answer) if is_open else _lettered(item)
    question = item.ask.question
    prompt = question + INTEGER if is_open else f"{question}\n{_lines(options)}{LETTER}"
    row = {
        "pid": str(item.number + 1),
        "question": question,
        "query": prompt,
        "choices": options or None,
        "unit": "",
        "precision": 0.0,
        "answer": item.ask.answer,
        "question_type": "free_form" if is_open else "multi_choice",
        "answer_type": "integer" if is_open else "text",
        "metadata": {
            "split": "testmini",
            "language": "english",
            "source": "world",
            "category": "general-vqa",
            "task": item.skill,
            "context": SKILLS[item.skill].kinds[0],
            "grade": "elementary school",
            "skills": [item.skill],
        },
    }
    return row, prompt, letter


def _ai2d(item: _Item) -> tuple[dict[str, Any], str, str]:
    options, letter = _lettered(item)
    row = {"question": item.ask.question, "options": options, "answer": str(LETTERS.index(letter))}
    return row, f"{item.ask.question}\n{_lines(options)}{LETTER}", letter


def _chartqa(item: _Item) -> tuple[dict[str, Any], str, str]:
    kind = "augmented_test" if item.skill == "bar_value" else "human_test"
    row = {"type": kind, "question": item.ask.question, "answer": item.ask.answer}
    return row, item.ask.question + SINGLE_WORD, item.ask.answer


def _ocrbench(item: _Item) -> tuple[dict[str, Any], str, str]:
    row = {
        "dataset": "world",
        "question": item.ask.question,
        "question_type": OCR_TYPES[item.skill],
        "answer": [item.ask.answer],
    }
    return row, item.ask.question, item.ask.answer


def _textvqa(item: _Item) -> tuple[dict[str, Any], str, str]:
    row = {
        "question_id": item.number,
        "question": item.ask.question.lower(),
        "answers": [item.ask.answer] * 10,
    }
    return row, item.ask.question.capitalize() + SHORT, item.ask.answer


def _docvqa(item: _Item) -> tuple[dict[str, Any], str, str]:
    row = {"questionId": str(item.number), "question": item.ask.question, "answers": [item.ask.answer]}
    return row, item.ask.question + SHORT, item.ask.answer


def _mmvp(item: _Item) -> tuple[dict[str, Any], str, str]:
    options, letter = _lettered(item, most=2)
    return _mmvp_row(item.number, item.ask.question, options, letter)


def _mmvp_row(index: int, question: str, options: list[str], letter: str) -> tuple[dict[str, Any], str, str]:
    row = {
        "Index": index,
        "Question": question,
        "Options": f"(a) {options[0]} (b) {options[1]}",
        "Correct Answer": f"({letter.lower()})",
    }
    return row, f"{question}\n{_lines(options)}{LETTER}", letter


def _realworldqa(item: _Item) -> tuple[dict[str, Any], str, str]:
    if item.skill in OPEN_SKILLS["realworldqa"]:
        question = f"{item.ask.question} {ONLY_WORD}"
        return {"question": question, "answer": item.ask.answer}, question, item.ask.answer
    options, letter = _lettered(item, most=3)
    question = f"{item.ask.question}\n{_lines(options)}\n{ONLY_LETTER}"
    return {"question": question, "answer": letter}, question, letter


def _cvbench(item: _Item) -> tuple[dict[str, Any], str, str]:
    task = {"count": "Count", "depth": "Depth", "distance": "Distance"}.get(item.skill, "Relation")
    flat = task in ("Count", "Relation")
    options, letter = _lettered(item)
    prompt = f"{item.ask.question} {SELECT}\n{_lines(options, '({}) {}')}"
    row = {
        "idx": item.number,
        "type": "2D" if flat else "3D",
        "task": task,
        "source": ("ADE20K", "COCO")[item.number % 2] if flat else "Omni3D",
        "question": item.ask.question,
        "choices": options,
        "answer": f"({letter})",
        "prompt": prompt,
    }
    return row, NOTE.format(", ".join(LETTERS[: len(options)])) + prompt, letter


FORMS: dict[str, Form] = {
    "mme": _mme,
    "mmbench": _mmbench,
    "seed": _seed,
    "gqa": _gqa,
    "scienceqa": _scienceqa,
    "mmmu": _mmmu,
    "mathvista": _mathvista,
    "ai2d": _ai2d,
    "chartqa": _chartqa,
    "ocrbench": _ocrbench,
    "textvqa": _textvqa,
    "docvqa": _docvqa,
    "mmvp": _mmvp,
    "realworldqa": _realworldqa,
    "cvbench2d": _cvbench,
    "cvbench3d": _cvbench,
}


def benchmark_questions(
    benchmark: str, seed: int, split: Split, n: int
) -> tuple[list[Scene], list[BenchmarkQuestion]]:
    """The scenes and at least `n` questions of a benchmark, determined by (benchmark, seed, split).

    Each question has its scene, with three exceptions. MME asks two questions about a scene, MMVP one
    question about two scenes, and MMBench four rotations of one question. MMBench has n / 2
    circles, so that it has as many clusters as MME and MMVP.

    Raises StudyError for an unknown benchmark or split.
    """
    if benchmark not in BENCHMARKS or split not in SPLITS:
        raise StudyError(f"benchmark {benchmark!r}, split {split!r}: not among {BENCHMARKS} and {SPLITS}")
    rng = np.random.default_rng((seed, SPLITS.index(split), BENCHMARKS.index(benchmark), 1))
    skills = SKILLS_OF[benchmark]
    build = {"mme": _mme_pair, "mmbench": _mmbench_circle, "mmvp": _mmvp_pair}.get(benchmark, _single)
    per_draw = 2 if benchmark in ("mme", "mmbench", "mmvp") else 1
    draws = -(-n // (per_draw * len(skills))) * len(skills)  # each skill in proportion to its parts
    scenes: list[Scene] = []
    questions: list[BenchmarkQuestion] = []
    for number in range(draws):
        name = f"{split}-{benchmark}-{seed}-{number:05d}"
        new_scenes, new_questions = build(benchmark, skills[number % len(skills)], number, name, split, rng)
        scenes += new_scenes
        questions += new_questions
    return scenes, questions


def _sample_ask(skill: str, name: str, split: Split, rng: Rng) -> tuple[Scene, Ask]:
    """A scene of the split that the skill can ask about, and an ask."""
    while True:
        scene = sample_scene(name, pick(rng, SKILLS[skill].kinds), split, rng)
        if ask := SKILLS[skill].draw(scene, rng):
            return scene, ask


def _question(benchmark: str, item: _Item, scene: Scene, id: str, cluster: str) -> BenchmarkQuestion:
    row, prompt, answer = FORMS[benchmark](item)
    return BenchmarkQuestion(benchmark, item.skill, id, scene.id, row, prompt, answer, cluster)


def _single(
    benchmark: str, skill: str, number: int, name: str, split: Split, rng: Rng
) -> tuple[list[Scene], list[BenchmarkQuestion]]:
    scene, ask = _sample_ask(skill, name, split, rng)
    return [scene], [_question(benchmark, _Item(skill, ask, number, rng), scene, str(number), scene.id)]


def _mme_pair(
    benchmark: str, skill: str, number: int, name: str, split: Split, rng: Rng
) -> tuple[list[Scene], list[BenchmarkQuestion]]:
    """A true and a false claim about one scene, under one question_id."""
    scene, ask = _sample_ask(skill, name, split, rng)
    rows = (2 * number, 2 * number + 1)
    items = [_Item(skill, ask, row, rng) for row in rows]
    return [scene], [_question(benchmark, i, scene, str(i.number), scene.id) for i in items]


def _mmbench_circle(
    benchmark: str, skill: str, number: int, name: str, split: Split, rng: Rng
) -> tuple[list[Scene], list[BenchmarkQuestion]]:
    """One question with its options in four rotations; the circle scores if all four answers are right."""
    scene, ask = _sample_ask(skill, name, split, rng)
    options, _ = _lettered(_Item(skill, ask, number, rng))
    questions = []
    for turn in range(len(LETTERS)):
        turned = options[turn:] + options[:turn]
        index, letter = number + turn * CIRCLE, LETTERS[turned.index(ask.answer)]
        row, prompt, answer = _mmbench_row(index, ask.question, turned, letter, skill)
        questions.append(
            BenchmarkQuestion(benchmark, skill, str(index), scene.id, row, prompt, answer, scene.id)
        )
    return [scene], questions


def _mmvp_pair(
    benchmark: str, skill: str, number: int, name: str, split: Split, rng: Rng
) -> tuple[list[Scene], list[BenchmarkQuestion]]:
    """Two scenes in which one question has the two opposite answers, in random order."""
    first, ask = _sample_ask(skill, f"{name}-a", split, rng)
    while True:
        second, other = _sample_ask(skill, f"{name}-b", split, rng)
        if other.question == ask.question and other.answer != ask.answer:
            break
    options = [ask.answer, other.answer] if rng.random() < 0.5 else [other.answer, ask.answer]
    questions = []
    for k, (scene, answer) in enumerate(((first, ask.answer), (second, other.answer))):
        index, letter = 2 * number + k + 1, LETTERS[options.index(answer)]
        row, prompt, answer = _mmvp_row(index, ask.question, options, letter)
        questions.append(BenchmarkQuestion(benchmark, skill, str(index), scene.id, row, prompt, answer, name))
    return [first, second], questions


def training_questions(scene: Scene, rng: Rng, n: int, lettered: bool = True) -> list[tuple[str, str]]:
    """`n` (prompt, answer) about a scene in the benchmarks' formats that fit its kind.

    Pairs of format and skill are drawn in proportion to their parts. `lettered=False` leaves out the formats
    that are answered with a letter.
    """
    forms = training_forms(scene.kind, lettered)
    questions: list[tuple[str, str]] = []
    while len(questions) < n:
        benchmark, skill = pick(rng, forms)
        if question := ask_in_form(benchmark, skill, scene, rng):
            questions.append(question)
    return questions


def ask_in_form(benchmark: str, skill: str, scene: Scene, rng: Rng) -> tuple[str, str] | None:
    """A (prompt, answer) of a skill in a benchmark's format; None if the scene does not allow one."""
    if ask := SKILLS[skill].draw(scene, rng):
        _, prompt, answer = FORMS[benchmark](_Item(skill, ask, int(rng.integers(2)), rng))
        return prompt, answer
    return None


@functools.cache
def training_forms(kind: Kind, lettered: bool = True) -> tuple[tuple[str, str], ...]:
    """The (benchmark, skill) pairs that fit a kind of scene in training, each repeated by its parts."""
    pairs = [
        (benchmark, skill)
        for benchmark in BENCHMARKS
        for skill in SKILLS_OF[benchmark] * TRAINING_PARTS.get(benchmark, 1)
        if lettered or _is_open(benchmark, skill)
    ]
    pairs += [("gqa", skill) for skill in _only_lettered() * OPEN_PARTS]
    return tuple(pair for pair in pairs if kind in SKILLS[pair[1]].kinds)


def _is_open(benchmark: str, skill: str) -> bool:
    return benchmark in OPEN_BENCHMARKS or skill in OPEN_SKILLS.get(benchmark, ())


def _only_lettered() -> tuple[str, ...]:
    """The skills that no benchmark asks without options.

    Training asks them in GQA's form as well. A tiny language model can find the letter of an answer that it
    knows, but it never learns an answer from its letter.
    """
    known = {skill for name in BENCHMARKS for skill in SKILLS_OF[name] if _is_open(name, skill)}
    return tuple(sorted({skill for skills in SKILLS_OF.values() for skill in skills} - known))


def training_caption(scene: Scene, rng: Rng) -> tuple[str, str]:
    """The (prompt, answer) that asks for a description of the scene."""
    return CAPTION_PROMPT, caption(scene, rng)
