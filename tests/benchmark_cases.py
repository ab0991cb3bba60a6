"""Varied rows of the sixteen benchmarks in the public data sets' schemas, and messy answers to them."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

from PIL import Image

from encoder_roles.benchmarks.rows import SCHEMAS, picture_cell, picture_columns, write_rows
from encoder_roles.benchmarks.table import TASKS

_, PERCEPTION = TASKS["mme"].keep or ("", ())  # the categories of MME that are part of the benchmark
LETTERS = "ABCDEF"
WORDS = (
    "red",
    "two dogs",
    "the Eiffel Tower",
    "No entry",
    "café",
    "ＦＵＬＬ",
    "left",
    "don't",
    "it is",
    "北京",
)
NUMBERS = ("1", "12", "0.5", "1,200", "12%", "3.14", "-4", "1e3", "2021", "0")
MESSY = (
    *("", " ", "hmm", "I do not know.", "yes", "No.", "(a)", "b.", "C", "D:", "the answer is", "A and B"),
    *("Answer: B", "é́", "\u3000Ａ", "x" * 3000, "A\nB", "[1, 2]", "The answer is (C).", "option d", "[1,"),
    *(
        "None of these",
        "A red thing in the corner of the room",
        "i",
        "zero",
        "9" * 400,
        "B) two",
        "$5",
        "nan",
    ),
)
SUBJECTS = ("Art", "Math", "Physics", "Geography")
OCR_TYPES = (
    "Regular Text Recognition",
    "Handwriting Recognition",
    "Doc-oriented VQA",
    "Handwritten Mathematical Expression Recognition",
)


def picture_bytes(shade: int, size: int = 4) -> bytes:
    """A small PNG, another for every shade."""
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), (shade % 256, shade // 256 % 256, 7)).save(buffer, format="PNG")
    return buffer.getvalue()


def make_rows(benchmark: str, n: int, rng: random.Random) -> list[dict[str, Any]]:
    """`n` rows (MME and MMVP in pairs, MMBench in circles of two to four) with pictures."""
    rows = [row for i in range(n) for row in _ROWS[benchmark](i, rng)][:n]
    column = picture_columns(benchmark)[0]
    for i, row in enumerate(rows):
        cell = picture_cell(f"{i}.png", picture_bytes(i // 2))
        row[column] = [cell] if SCHEMAS[benchmark][column] == ["image"] else cell
    return rows


def write_case(folder: Path, benchmark: str, n: int, seed: int = 0) -> Path:
    """A parquet file of varied rows where write-requests and score-predictions look for it."""
    path = folder / "benchmarks" / benchmark / "test.parquet"
    write_rows(path, benchmark, make_rows(benchmark, n, random.Random(f"{benchmark}{seed}")))
    return path


def messy_answer(row: dict[str, Any], rng: random.Random) -> str:
    """An answer of a kind that models give: right or wrong, bare or wrapped in words, or nonsense."""
    gold = rng.choice(_golds(row))
    letter = rng.choice("ABCD")
    wrapped = (
        gold,
        gold.lower(),
        gold.upper(),
        f" {gold}.",
        f"({gold})",
        f"The answer is {gold}",
        f"{gold} is it",
    )
    lettered = (
        letter,
        f"({letter})",
        f"{letter}.",
        letter.lower(),
        f"The answer is {letter}",
        f"{letter}. {gold}",
    )
    near = (gold + "s", gold[:-1], gold.replace(" ", "  "), gold + "%", f"{gold}\n", f"'{gold}'", gold * 2)
    kind = rng.random()
    if kind < 0.5:
        return rng.choice(wrapped)
    return rng.choice(lettered if kind < 0.7 else near if kind < 0.85 else MESSY + NUMBERS + WORDS)


def _golds(row: dict[str, Any]) -> list[str]:
    """The texts that are or stand for the right answer."""
    for key in ("answers", "answer", "Correct Answer"):
        if key in row:
            value = row[key]
            golds = [str(v) for v in value] if isinstance(value, list) else [str(value).strip("()")]
            break
    for key in ("choices", "options"):
        if isinstance(row.get(key), list) and golds[0].isdigit() and int(golds[0]) < len(row[key]):
            return [LETTERS[int(golds[0])], row[key][int(golds[0])]]
        if isinstance(row.get(key), list) and golds[0] in row[key]:
            return [golds[0], LETTERS[row[key].index(golds[0])]]
    return [golds[0].upper() if "Correct Answer" in row else golds[0], *golds[1:]]


def _options(rng: random.Random, most: int = 4) -> list[str]:
    return rng.sample([*WORDS, *NUMBERS], rng.randint(2, most))


def _mme(i: int, rng: random.Random) -> list[dict[str, Any]]:
    category = rng.choice([*PERCEPTION[: 4 + i % 3], "code_reasoning"])
    base = {"question_id": f"{i}.png", "category": category}
    return [{**base, "question": f"Is it {a}? Please answer yes or no.", "answer": a} for a in ("Yes", "No")]


def _mmbench(i: int, rng: random.Random) -> list[dict[str, Any]]:
    options = _options(rng)
    circle = []
    for turn in range(rng.randint(1, len(options))):
        turned = options[turn:] + options[:turn]
        row: dict[str, Any] = {"index": i + 1_000_000 * turn, "question": f"What is {i}?"}
        row |= {"hint": rng.choice(["nan", None, "Look closely."]), "category": "c", "L2-category": "l"}
        row |= dict.fromkeys("ABCD") | dict(zip("ABCD", turned, strict=False))
        row |= {"answer": LETTERS[turned.index(options[0])], "source": "s", "split": "dev"}
        circle.append(row)
    return circle


def _seed(i: int, rng: random.Random) -> list[dict[str, Any]]:
    choices = rng.sample(WORDS, 4)
    row = {f"choice_{k}": c for k, c in zip("abcd", choices, strict=True)}
    kind = "video" if i % 7 == 3 else "image"
    return [
        {**row, "answer": rng.choice("ABCD"), "data_type": kind, "question": "Which?", "question_id": str(i)}
    ]


def _gqa(i: int, rng: random.Random) -> list[dict[str, Any]]:
    return [
        {"id": str(i), "imageId": str(i // 3), "question": "What?", "answer": rng.choice(WORDS + NUMBERS)}
    ]


def _scienceqa(i: int, rng: random.Random) -> list[dict[str, Any]]:
    choices = _options(rng, 5)
    hint = rng.choice(["", "Read the map."])
    return [{"question": "Q?", "choices": choices, "answer": rng.randrange(len(choices)), "hint": hint}]


def _mmmu(i: int, rng: random.Random) -> list[dict[str, Any]]:
    options = _options(rng, 5)
    row = {"id": f"validation_{rng.choice(SUBJECTS)}_{i}", "question": "<image 1> What is it?"}
    if i % 4 == 0:
        return [{**row, "options": "[]", "answer": rng.choice(WORDS + NUMBERS), "question_type": "open"}]
    answer = LETTERS[rng.randrange(len(options))]
    return [{**row, "options": repr(options), "answer": answer, "question_type": "multiple-choice"}]


def _mathvista(i: int, rng: random.Random) -> list[dict[str, Any]]:
    kind = ("text", "integer", "float", "list")[i % 4]
    texts = {
        "integer": str(rng.randint(-5, 2000)),
        "float": f"{rng.random() * 9:.{1 + i % 2}f}",
        "list": "[1, 2]",
    }
    choices = _options(rng) if kind == "text" else None
    metadata = dict.fromkeys(("category", "context", "grade", "language", "source", "task"), "x")
    return [
        {
            "pid": str(i),
            "question": "How many?",
            "query": "How many?",
            "choices": choices,
            "unit": None,
            "precision": float(1 + i % 2) if kind == "float" else None,
            "answer": rng.choice(choices) if choices else texts[kind],
            "question_type": "multi_choice" if choices else "free_form",
            "answer_type": kind,
            "metadata": {**metadata, "split": "testmini", "skills": ["s"]},
        }
    ]


def _ai2d(i: int, rng: random.Random) -> list[dict[str, Any]]:
    options = rng.sample([*WORDS, *NUMBERS], 4)
    return [{"question": "Q?", "options": options, "answer": str(rng.randrange(4))}]


def _chartqa(i: int, rng: random.Random) -> list[dict[str, Any]]:
    kind = rng.choice(["human_test", "augmented_test"])
    return [{"type": kind, "question": "Q?", "answer": rng.choice(WORDS + NUMBERS)}]


def _ocrbench(i: int, rng: random.Random) -> list[dict[str, Any]]:
    row = {
        "dataset": rng.choice(["HME100k", "IIIT5K"]),
        "question": " Q? ",
        "question_type": rng.choice(OCR_TYPES),
    }
    return [{**row, "answer": rng.sample(WORDS + NUMBERS, rng.randint(1, 3))}]


def _textvqa(i: int, rng: random.Random) -> list[dict[str, Any]]:
    words = rng.sample(WORDS + NUMBERS, 3)
    return [{"question_id": i, "question": "what is it?", "answers": [rng.choice(words) for _ in range(10)]}]


def _docvqa(i: int, rng: random.Random) -> list[dict[str, Any]]:
    answers = rng.sample(WORDS + NUMBERS, rng.randint(1, 3))
    return [{"questionId": str(i), "question": "Q?", "answers": answers}]


def _mmvp(i: int, rng: random.Random) -> list[dict[str, Any]]:
    options = {"Question": "Which?", "Options": "(a) Open (b) Closed"}
    answers = rng.sample(["(a)", "(b)"], 2)
    return [{"Index": 2 * i + 1 + k, **options, "Correct Answer": a} for k, a in enumerate(answers)]


def _realworldqa(i: int, rng: random.Random) -> list[dict[str, Any]]:
    return [{"question": "Q?", "answer": rng.choice([*"ABC", *WORDS, *NUMBERS])}]


def _cv_bench(i: int, rng: random.Random) -> list[dict[str, Any]]:
    kind = "2D" if i % 3 else "3D"
    choices = rng.sample(WORDS, 4)
    row = {
        "idx": i,
        "type": kind,
        "task": "Count",
        "question": "Q?",
        "choices": choices,
        "prompt": "Q? (A) ...",
    }
    source = "Omni3D" if kind == "3D" else rng.choice(["ADE20K", "COCO", "COCO"])
    return [{**row, "answer": f"({rng.choice('ABCD')})", "source": source}]


_ROWS = {
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
    "cvbench2d": _cv_bench,
    "cvbench3d": _cv_bench,
}
