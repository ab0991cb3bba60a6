"""The sixteen metrics as their authors define them, written from the papers and not from lmms-eval's code.

`definition` scores one answer, 0-1; pairs, circles and sources are joined by `whole`. A lettered answer
counts if it names the right option and no other, by letter or by text.
"""

from __future__ import annotations

import ast
import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def definition(benchmark: str, row: Row, text: str) -> float:
    """The score of one answer, 0-1."""
    return float(_METRICS[benchmark](row, text))


def whole(benchmark: str, rows: Sequence[Row], values: Sequence[float]) -> float:
    """The benchmark's score, 0-100, from the scores of its questions."""
    if benchmark == "mme":  # Fu et al. 2023: accuracy + accuracy of image pairs, per category, summed
        categories: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row, value in zip(rows, values, strict=True):
            categories[row["category"]][row["question_id"]].append(value)
        sums = [
            statistics.mean(v for pair in pairs.values() for v in pair)
            + statistics.mean(float(all(pair)) for pair in pairs.values())
            for pairs in categories.values()
        ]
        return 100 * sum(sums) / (2 * len(sums))
    if benchmark in ("mmbench", "mmvp"):  # Liu et al. 2023, Tong et al. 2024: all rotations, both pictures
        key = {"mmbench": lambda r: r["index"] % 10**6, "mmvp": lambda r: (r["Index"] + 1) // 2}[benchmark]
        units: dict[int, list[float]] = defaultdict(list)
        for row, value in zip(rows, values, strict=True):
            units[key(row)].append(value)
        return 100 * statistics.mean(float(all(unit)) for unit in units.values())
    if benchmark == "cvbench2d":  # Tong et al. 2024: the mean of ADE20K and COCO
        sources: dict[str, list[float]] = defaultdict(list)
        for row, value in zip(rows, values, strict=True):
            sources[row["source"]].append(value)
        return 100 * statistics.mean(statistics.mean(v) for v in sources.values())
    return 100 * statistics.mean(values)


def read_letter(text: str, options: Sequence[str]) -> str | None:
    """The letter of the option an answer names: by letter, by letter in a phrase, or by its text alone."""
    letters = "ABCDEFGH"[: len(options)]
    answer = text.strip()
    if bare := re.fullmatch(r"\(?([A-Ha-h])\)?[.:,)]?", answer):
        return bare[1].upper() if bare[1].upper() in letters else None
    if start := re.match(r"\(?([A-H])(?:\)|\.|:|\)\.)\s", answer):
        return start[1] if start[1] in letters else None
    if message := re.search(r"(?:answer|option)(?: is|:)?\s+\(?([A-Ha-h])\)?[.]?$", answer, re.IGNORECASE):
        return message[1].upper() if message[1].upper() in letters else None
    same = [letter for letter, o in zip(letters, options, strict=False) if o and o.lower() == answer.lower()]
    return same[0] if len(same) == 1 else None


def _lettered(options: str | None, gold: str | None = None):
    def metric(row: Row, text: str) -> bool:
        given = list(row[options]) if options else list("ABCD")
        right = row[gold or "answer"]
        right = "ABCDEFGH"[int(right)] if str(right).isdigit() else str(right).strip("()").upper()
        return read_letter(text, given) == right

    return metric


def _mme(row: Row, text: str) -> bool:
    """Yes or no within the first four characters, or y or n (the benchmark's own evaluation)."""
    short = text.lower().strip().replace(".", "")
    result = {"y": "yes", "n": "no"}.get(short) or next((w for w in ("yes", "no") if w in short[:4]), None)
    return result == row["answer"].lower()


def _mmbench(row: Row, text: str) -> bool:
    return read_letter(text, [row[c] for c in "ABCD" if row[c] not in (None, "nan")]) == row["answer"]


def _seed(row: Row, text: str) -> bool:
    return read_letter(text, [row[f"choice_{c}"] for c in "abcd"]) == row["answer"]


def _mmvp(row: Row, text: str) -> bool:
    return read_letter(text, ["Open", "Closed"]) == row["Correct Answer"].strip("()").upper()


def _exact(row: Row, text: str) -> bool:
    """Exact match without case and punctuation (GQA, Hudson & Manning 2019, as open models are scored)."""

    def bare(words: str) -> str:
        return "".join(c for c in words.lower().strip() if c not in r"""!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~""")

    return bare(text) == bare(row["answer"])


def _mmmu(row: Row, text: str) -> bool:
    if row["question_type"] == "multiple-choice":
        return read_letter(text, ast.literal_eval(row["options"])) == row["answer"]
    return _number_or_text(text) == _number_or_text(row["answer"])


def _number_or_text(text: str) -> float | str:
    try:
        return round(float(text.strip().rstrip(".").replace(",", "")), 2)
    except ValueError:
        return text.strip().rstrip(".").lower()


def _mathvista(row: Row, text: str) -> bool:
    if row["question_type"] == "multi_choice":
        result = read_letter(text, row["choices"])
        return result is not None and row["choices"]["ABCDEFGH".index(result)] == row["answer"]
    if row["answer_type"] == "list":
        return re.sub(r"\s", "", row["answer"]) == re.sub(r"\s", "", text)
    number = _number_or_text(text)
    if isinstance(number, str) or abs(number) == float("inf") or number != number:
        return False
    places = int(row["precision"] or 0)
    exact = float(text.strip().rstrip(".").replace(",", ""))
    return (str(int(exact)) if row["answer_type"] == "integer" else str(round(exact, places))) == row[
        "answer"
    ]


def _chartqa(row: Row, text: str) -> bool:
    """Relaxed accuracy (Methani et al. 2020; Masry et al. 2022): numbers within 5%, words exactly."""

    def number(words: str) -> float | None:
        try:
            return float(words.rstrip("%")) / (100 if words.endswith("%") else 1)
        except ValueError:
            return None

    value, right = number(text.strip()), number(row["answer"])
    if value is not None and right:
        return abs(value - right) <= 0.05 * abs(right)
    return text.strip().lower() == row["answer"].lower()


def _ocrbench(row: Row, text: str) -> bool:
    """An answer is right if it contains a gold answer (Liu et al. 2024); formulas without spaces."""
    if row["dataset"] == "HME100k":
        return any(re.sub(r"[ \n]", "", gold) in re.sub(r"[ \n]", "", text) for gold in row["answer"])
    return any(gold.lower().strip() in text.lower().replace("\n", " ") for gold in row["answer"])


def _textvqa(row: Row, text: str) -> float:
    """VQA accuracy (Antol et al. 2015): min(agreeing of nine / 3, 1), averaged over the one left out."""
    words, golds = _vqa_words(text), [_vqa_words(gold) for gold in row["answers"]]
    tens = [golds[:i] + golds[i + 1 :] for i in range(len(golds))]
    return statistics.mean(min(1.0, nine.count(words) / 3) for nine in tens)


def _vqa_words(text: str) -> str:
    """The VQA evaluation's words: lower case, no articles, digits for number words, punctuation stripped."""
    digits = {"none": "0"} | {word: str(i) for i, word in enumerate(NUMBER_WORDS)}
    text = re.sub(r"\s+", " ", text.lower().replace(",", "").replace("?", "").replace("'s", " 's")).strip()
    marks = ';/[]"{}()=+\\_-><@`,?!'
    spaced = {m for m in marks if f"{m} " in text or f" {m}" in text}
    text = "".join(c if c not in marks else "" if c in spaced else " " for c in text)
    text = re.sub(r"\.(?!\d)", "", text)
    words = [digits.get(word, word) for word in text.split()]
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def _docvqa(row: Row, text: str) -> float:
    """ANLS (Biten et al. 2019): 1 - NL of the nearest gold answer, 0 from NL = 0.5 on."""
    best = 0.0
    reading = " ".join(text.lower().split())
    for gold in (" ".join(answer.lower().split()) for answer in row["answers"]):
        away = _edits(reading, gold) / max(len(reading), len(gold), 1)
        best = max(best, 1 - away if away < 0.5 else 0.0)
    return best


def _edits(a: str, b: str) -> int:
    """Levenshtein's distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def _realworldqa(row: Row, text: str) -> bool:
    if row["answer"] in ("A", "B", "C", "D"):
        return read_letter(text, list("????")) == row["answer"]
    return text.strip().rstrip(".").lower() == row["answer"].lower()


_METRICS = {
    "mme": _mme,
    "mmbench": _mmbench,
    "seed": _seed,
    "gqa": _exact,
    "scienceqa": _lettered("choices"),
    "mmmu": _mmmu,
    "mathvista": _mathvista,
    "ai2d": _lettered("options"),
    "chartqa": _chartqa,
    "ocrbench": _ocrbench,
    "textvqa": _textvqa,
    "docvqa": _docvqa,
    "mmvp": _mmvp,
    "realworldqa": _realworldqa,
    "cvbench2d": _lettered("choices"),
    "cvbench3d": _lettered("choices"),
}
