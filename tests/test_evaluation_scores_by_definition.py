"""The metrics against a second implementation, written from the papers; where lmms-eval leaves them, how."""

from __future__ import annotations

import ast
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_cases import messy_answer, write_case
from metric_definitions import definition, whole

from encoder_roles.benchmarks.rows import SCHEMAS
from encoder_roles.benchmarks.table import TASKS
from encoder_roles.evaluation.judge import Judge
from encoder_roles.study.names import BENCHMARKS

OPEN = ("mme", "gqa", "chartqa", "ocrbench", "textvqa", "docvqa")
LETTERED = tuple(b for b in BENCHMARKS if b not in OPEN)
# benchmarks of which part of the cases is dropped get more of them, so that 500 answers are compared
ROWS = {"mme": 700, "seed": 600, "cvbench2d": 800, "cvbench3d": 1600}
DOCS = Path(__file__).parents[1] / "docs" / "benchmarks.md"


def judge_of(folder: Path, benchmark: str) -> Judge:
    return Judge(TASKS[benchmark], write_case(folder, benchmark, ROWS.get(benchmark, 500)))


@pytest.mark.parametrize("benchmark", OPEN)
def test_open_answers_however_messy_score_what_the_papers_define(tmp_path: Path, benchmark: str) -> None:
    judge, rng = judge_of(tmp_path, benchmark), random.Random(benchmark)
    texts = [messy_answer(row, rng) for row in judge._rows]
    assert len(texts) >= 500
    result = np.array([judge._verdict(i, text)[0] for i, text in enumerate(texts)])
    wanted = np.array(
        [definition(benchmark, row, text) for row, text in zip(judge._rows, texts, strict=True)]
    )
    apart = np.abs(result - wanted) > 1e-9
    if benchmark == "docvqa":  # at a distance of just one half lmms-eval gives 0.5, ANLS gives 0
        assert 0 < apart.mean() < 0.1 and (result[apart] == 0.5).all() and (wanted[apart] == 0).all()
        return
    assert not apart.any()
    scores, weights, _ = judge.judge(texts)
    assert np.average(scores, weights=weights) == pytest.approx(
        whole(benchmark, judge._rows, wanted.tolist())
    )


@pytest.mark.parametrize("benchmark", LETTERED)
def test_well_formed_answers_score_what_the_papers_define(tmp_path: Path, benchmark: str) -> None:
    judge, rng = judge_of(tmp_path, benchmark), random.Random(benchmark)
    texts = [well_formed(benchmark, row, rng) for row in judge._rows]
    assert len(texts) >= 500
    wanted = [definition(benchmark, row, text) for row, text in zip(judge._rows, texts, strict=True)]
    assert 0.2 < np.mean(wanted) < 0.9
    assert [judge._verdict(i, text)[0] for i, text in enumerate(texts)] == wanted
    scores, weights, _ = judge.judge(texts)
    assert np.average(scores, weights=weights) == pytest.approx(whole(benchmark, judge._rows, wanted))


def well_formed(benchmark: str, row: dict[str, Any], rng: random.Random) -> str:
    """A letter as the prompt asks for it, right or wrong, or nonsense; the gold text of open questions."""
    letters = "AB" if benchmark == "mmvp" else "ABCD"
    gold = next(str(row[key]).strip("()") for key in ("answer", "Correct Answer") if key in row)
    if row.get("question_type") in ("open", "free_form") or not (gold.isdigit() or len(gold) == 1):
        return rng.choice([gold, f"{gold} ", "hmm"])
    letter = gold.upper() if gold.isalpha() else letters[int(gold) % len(letters)]
    letter = rng.choice([letter, letter, letter, rng.choice(letters)])
    return rng.choice([letter, f"{letter}.", f" {letter}\n", f"{letter}. it", "hmm", ""])


# the right letter is B, so that a parser which takes the first letter it sees is found out
FORMS = ("B", "b", "B.", "(B)", "B. it", "B it", "The answer is B", "Answer: B", "its text")


def counted_forms(folder: Path) -> list[str]:
    """A line per benchmark of lettered answers: which forms of the right answer count."""
    lines = []
    for benchmark in LETTERED:
        judge = judge_of(folder, benchmark)
        texts = map(OPTION_B[benchmark], judge._rows)
        place, text = next((place, text) for place, text in enumerate(texts) if text)
        counts = [judge._verdict(place, text if form == "its text" else form)[0] for form in FORMS]
        lines.append(f"| {benchmark} | {' | '.join('yes' if count else '–' for count in counts)} |")
    return lines


# the text of option B where B is right, else something false
OPTION_B: dict[str, Callable[[dict[str, Any]], Any]] = {
    "mmbench": lambda row: row["answer"] == "B" and row["B"],
    "seed": lambda row: row["answer"] == "B" and row["choice_b"],
    "scienceqa": lambda row: row["answer"] == 1 and row["choices"][1],
    "mmmu": lambda row: row["answer"] == "B" and ast.literal_eval(row["options"])[1],
    "mathvista": lambda row: row["choices"] and row["answer"] == row["choices"][1] and row["answer"],
    "ai2d": lambda row: row["answer"] == "1" and row["options"][1],
    "mmvp": lambda row: row["Correct Answer"] == "(b)" and "Closed",
    "realworldqa": lambda row: row["answer"] == "B" and "Closed",
    "cvbench2d": lambda row: row["answer"] == "(B)" and row["choices"][1],
    "cvbench3d": lambda row: row["answer"] == "(B)" and row["choices"][1],
}


def test_the_docs_say_which_forms_of_a_right_letter_count(tmp_path: Path) -> None:
    docs = DOCS.read_text(encoding="utf-8")
    for line in counted_forms(tmp_path):
        assert line in docs


def differences(folder: Path, benchmark: str) -> str:
    """A line: by how much the task code is stricter and more generous than the definition, in points."""
    judge, rng = judge_of(folder, benchmark), random.Random(f"{benchmark} apart")
    texts = [messy_answer(row, rng) for row in judge._rows]
    assert len(texts) >= 500
    result = np.array([judge._verdict(i, text)[0] for i, text in enumerate(texts)], dtype=float)
    wanted = [definition(benchmark, row, text) for row, text in zip(judge._rows, texts, strict=True)]
    apart = 100 * (result - np.array(wanted)) / len(texts)
    strict, generous = -apart[apart < 0].sum() + 0.0, apart[apart > 0].sum()  # + 0.0: never -0.0
    return f"| {benchmark} | {len(texts)} | {strict:.1f} | {generous:.1f} |"


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_the_docs_say_by_how_much_lmms_eval_leaves_the_definition(tmp_path: Path, benchmark: str) -> None:
    assert differences(tmp_path, benchmark) in DOCS.read_text(encoding="utf-8").splitlines()


def test_the_docs_tables_are_the_tables_of_the_code() -> None:
    lines = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    for name, task in TASKS.items():
        row, columns = [line for line in lines if line.startswith(f"| {name} |")][:2]
        cells = (task.group, task.source, task.config, task.split, task.overlay, f"{task.questions:,}")
        assert all(text in row for text in (*cells, f"`{task.task}`", f"`{task.metric}`")), name
        assert all(f"`{column}`" in columns for column in SCHEMAS[name] if not column.startswith("image_"))
