"""Scores against lmms-eval's own evaluator without overlays, what overlays change, and bad predictions."""

from __future__ import annotations

import contextlib
import json
import random
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from benchmark_cases import make_rows, messy_answer, write_case
from lmms_oracle import evaluate_with_lmms

from encoder_roles.benchmarks.rows import write_rows
from encoder_roles.benchmarks.table import TASKS
from encoder_roles.evaluation.judge import Judge
from encoder_roles.evaluation.overlays import mathvista_by_rules
from encoder_roles.evaluation.requests import read_requests, write_requests
from encoder_roles.evaluation.score import score_predictions
from encoder_roles.provenance import read_jsonl, write_jsonl
from encoder_roles.study.names import BENCHMARKS, OVERLAYS, StudyError

ROWS = 520  # at least 500 questions are left of every benchmark but those of which a part is dropped


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cases")
    for benchmark in BENCHMARKS:
        write_case(folder, benchmark, ROWS)
    return folder


def judge_of(cases: Path, benchmark: str, overlay: bool) -> Judge:
    return Judge(TASKS[benchmark], cases / "benchmarks" / benchmark / "test.parquet", overlay)


def answers_to(judge: Judge) -> list[str]:
    rng = random.Random(judge.benchmark.name)
    return [messy_answer(row, rng) for row in judge._rows]


@pytest.fixture(scope="module")
def reported(cases: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """What lmms-eval reports. MMMU alone: its random options depend on what was scored before it."""
    judges = {b: judge_of(cases, b, overlay=False) for b in BENCHMARKS}
    texts = {b: answers_to(judge) for b, judge in judges.items()}
    others = {b: judge for b, judge in judges.items() if b != "mmmu"}
    with contextlib.chdir(tmp_path_factory.mktemp("lmms")):  # it writes submissions/ where it stands
        return evaluate_with_lmms({"mmmu": judges["mmmu"]}, texts) | evaluate_with_lmms(others, texts)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_without_overlays_a_benchmark_scores_what_lmms_eval_reports(
    cases: Path, benchmark: str, reported: dict[str, float]
) -> None:
    judge = judge_of(cases, benchmark, overlay=False)
    scores, weights, _ = judge.judge(answers_to(judge))
    assert 1 < np.average(scores, weights=weights) < 99
    # MathVista's own figure is rounded to two places
    assert np.average(scores, weights=weights) == pytest.approx(reported[benchmark], abs=0.0051)


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_what_cannot_be_parsed_scores_nothing(cases: Path, benchmark: str) -> None:
    judge = judge_of(cases, benchmark, overlay=True)
    texts = answers_to(judge)
    unparsable = judge.judge(texts)[2]
    assert not any(judge._verdict(i, texts[i])[0] for i in np.flatnonzero(unparsable))
    assert judge.judge([""] * len(texts))[2].all()


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_weights_have_mean_one_and_scores_stay_on_the_scale(cases: Path, benchmark: str) -> None:
    judge = judge_of(cases, benchmark, overlay=True)
    scores, weights, _ = judge.judge(answers_to(judge))
    assert weights.mean() == pytest.approx(1) and (weights > 0).all()
    assert scores.min() >= 0 and scores.max() <= 100


def test_mmmu_gives_an_unparsable_answer_no_random_credit(cases: Path) -> None:
    hmm = ["hmm"] * len(judge_of(cases, "mmmu", True).ids)
    assert judge_of(cases, "mmmu", overlay=True).judge(hmm)[0].max() == 0
    guessed = judge_of(cases, "mmmu", overlay=False)
    assert 15 < guessed.judge(hmm)[0].mean() < 40
    assert np.array_equal(guessed.judge(hmm)[0], guessed.judge(hmm)[0])


def test_cv_bench_2d_is_the_mean_of_its_sources(cases: Path) -> None:
    judge = judge_of(cases, "cvbench2d", overlay=True)
    texts = answers_to(judge)
    scores, weights, _ = judge.judge(texts)
    sources = np.array([row["source"] for row in judge._rows])
    means = [scores[sources == source].mean() for source in ("ADE20K", "COCO")]
    assert np.average(scores, weights=weights) == pytest.approx(np.mean(means))


def test_ocrbench_is_divided_by_its_questions_and_keeps_no_running_total(cases: Path) -> None:
    judge = judge_of(cases, "ocrbench", overlay=True)
    texts = answers_to(judge)
    first, second = judge.judge(texts)[0], judge.judge(texts)[0]
    assert np.array_equal(first, second)
    hits = judge_of(cases, "ocrbench", overlay=False).judge(texts)[0].mean()
    assert hits == pytest.approx(first.mean() * len(texts) / 1000)


MATHVISTA = {"choices": None, "precision": None, "question_type": "free_form"}
CHOICE = {"question_type": "multi_choice", "answer_type": "text", "choices": ["5", "a red cat", "cat"]}


@pytest.mark.parametrize(
    ("row", "text", "verdict"),
    [
        ({"answer_type": "integer", "answer": "1200"}, "1,200", (True, False)),
        ({"answer_type": "integer", "answer": "14"}, "The answer is 14.", (True, False)),
        ({"answer_type": "integer", "answer": "14"}, "7 + 7 = 14", (True, False)),
        ({"answer_type": "integer", "answer": "14"}, "14.0", (True, False)),
        ({"answer_type": "integer", "answer": "14"}, "fourteen", (False, True)),
        ({"answer_type": "integer", "answer": "14"}, "9" * 400, (False, True)),
        ({"answer_type": "float", "answer": "1.2", "precision": 1.0}, "1.23 m", (True, False)),
        ({"answer_type": "float", "answer": "0.60", "precision": 2.0}, ".6", (False, False)),
        ({"answer_type": "list", "answer": "[1, 2]"}, "It is [1,2].", (True, False)),
        ({"answer_type": "list", "answer": "[1, 2]"}, "1, 2", (False, True)),
        (CHOICE | {"answer": "cat"}, "C", (True, False)),
        (CHOICE | {"answer": "cat"}, "(c) cat", (True, False)),
        (CHOICE | {"answer": "cat"}, "cat", (True, False)),
        (CHOICE | {"answer": "a red cat"}, "The answer is B", (True, False)),
        (CHOICE | {"answer": "5"}, "I think 5", (True, False)),
        (CHOICE | {"answer": "a red cat"}, "it is a red cat", (False, True)),  # names two of the options
        (CHOICE | {"answer": "5"}, "D", (False, True)),
        (CHOICE | {"answer": "5"}, "no idea", (False, True)),
        ({"answer_type": "integer", "answer": "-5"}, "\N{MINUS SIGN}5", (True, False)),
        ({"answer_type": "integer", "answer": "-5"}, "x = \N{EN DASH}5", (True, False)),
        ({"answer_type": "integer", "answer": "\N{MINUS SIGN}5"}, "(-5)", (True, False)),
        ({"answer_type": "integer", "answer": "5"}, "3-5", (True, False)),
        ({"answer_type": "integer", "answer": "5"}, "3\N{EN DASH}5", (True, False)),
        ({"answer_type": "integer", "answer": "25"}, "25 cm2", (True, False)),
        ({"answer_type": "integer", "answer": "25"}, "$25 cm^2$", (True, False)),
        ({"answer_type": "integer", "answer": "25"}, "25 cm^{-2}", (True, False)),
        ({"answer_type": "integer", "answer": "2000"}, "2e3", (True, False)),
        ({"answer_type": "integer", "answer": "5"}, "**5**", (True, False)),
        ({"answer_type": "list", "answer": "[-1, 2]"}, "`[\N{MINUS SIGN}1,2]`", (True, False)),
        ({"answer_type": "list", "answer": "[1]"}, "[{{}: 1}]", (False, True)),
        (CHOICE | {"answer": "5"}, "**A**", (True, False)),
        (CHOICE | {"answer": "a red cat"}, "**B.** a red cat", (True, False)),
        (CHOICE | {"answer": "cat"}, "*cat*", (True, False)),
        (CHOICE | {"answer": "cat"}, "### C", (True, False)),
        (CHOICE | {"answer": "-5", "choices": ["-5", "5"]}, "it is \N{MINUS SIGN}5", (True, False)),
        (CHOICE | {"answer": "5", "choices": ["5", "1.5"]}, "it is 1.5", (False, False)),
        (CHOICE | {"answer": "5", "choices": ["5", "5.2"]}, "it is 5.2", (False, False)),
        (CHOICE | {"answer": "5", "choices": ["5", "6"]}, "it is 5.", (True, False)),
        (CHOICE | {"answer": "2*3*4", "choices": ["2*3*4", "234"]}, "2*3*4", (True, False)),
    ],
)
def test_mathvista_is_read_by_rules(row: dict, text: str, verdict: tuple[bool, bool]) -> None:
    assert mathvista_by_rules(MATHVISTA | row, text) == verdict


@pytest.mark.parametrize("answer", ["ß", "ŉ", "ﬁ"])
def test_a_letter_whose_upper_case_is_two_is_no_option(cases: Path, answer: str) -> None:
    judge = judge_of(cases, "scienceqa", overlay=True)
    scores, _, unread = judge.judge([answer] * len(judge.ids))
    assert not scores.any() and unread.all()


# One study's predictions, and what is wrong with them


@pytest.fixture
def study(tmp_path: Path) -> Path:
    benchmarks = ("mme", "gqa", "mmvp", "ocrbench")
    for benchmark in benchmarks:
        write_case(tmp_path / "data", benchmark, 20)
    (tmp_path / "requests.json").write_text(json.dumps({"benchmarks": benchmarks}))
    write_requests(settings=tmp_path / "requests.json", data=tmp_path / "data", output=tmp_path / "requests")
    statistics = {"resamples": 50, "level": 0.95, "seed": 0, "overall": "benchmarks"}
    (tmp_path / "score.json").write_text(
        json.dumps({"study": "laptop", "overlays": list(OVERLAYS), "statistics": statistics})
    )
    for cell in ("clip/seed0/clip.unmasked", "clip+sam/seed0/sam.zero", "blind/seed1/none.unmasked"):
        for benchmark in benchmarks:
            rng = random.Random(cell + benchmark)
            rows = [
                {"id": r.id, "cluster": r.cluster, "text": rng.choice(["yes", "A", "left", "red"])}
                for r in read_requests(tmp_path / "requests", benchmark)
            ]
            write_jsonl(tmp_path / "predictions" / cell / f"{benchmark}.jsonl", rows)
    return tmp_path


def score(study: Path) -> pd.DataFrame:
    score_predictions(
        settings=study / "score.json",
        requests=study / "requests",
        data=study / "data",
        predictions=[study / "predictions"],
        output_scores=study / "scores.parquet",
        output_table=study / "scores.csv",
    )
    return pd.read_parquet(study / "scores.parquet")


def test_the_table_is_the_weighted_mean_of_the_questions(study: Path) -> None:
    scores = score(study)
    table = pd.read_csv(study / "scores.csv")
    model = ["subset", "seed", "mask", "operator"]
    assert len(scores.drop_duplicates(model)) == 3
    for key, rows in scores.groupby([*model, "benchmark"]):
        wanted = np.average(rows["score"], weights=rows["weight"])
        result = table[
            (table["level"] == "benchmark") & (table[[*model, "benchmark"]] == list(key)).all(axis=1)
        ]
        assert result["score"].item() == pytest.approx(wanted, abs=1e-6)
        assert result["low"].item() <= wanted + 1e-6 and wanted - 1e-6 <= result["high"].item()
        assert result["unparsable_share"].item() == pytest.approx(rows["unparsable"].mean(), abs=1e-6)
    whole = table[table["level"] == "overall"].set_index("subset")["score"]
    means = table[table["level"] == "benchmark"].groupby("subset")["score"].mean()
    assert np.allclose(whole.sort_index(), means.sort_index())


def test_scores_repeat_byte_for_byte_whatever_the_order_of_the_lines(study: Path) -> None:
    score(study)
    first = (study / "scores.parquet").read_bytes(), (study / "scores.csv").read_bytes()
    path = study / "predictions/clip/seed0/clip.unmasked/gqa.jsonl"
    path.write_text("".join(reversed(path.read_text().splitlines(keepends=True))))
    score(study)
    assert ((study / "scores.parquet").read_bytes(), (study / "scores.csv").read_bytes()) == first


CELL = "predictions/clip/seed0/clip.unmasked"


def test_an_answer_with_any_unicode_line_break_is_one_answer(study: Path) -> None:
    path = study / "predictions/clip/seed0/clip.unmasked/gqa.jsonl"
    rows = [row | {"text": "left\u2028\x85\x0b right"} for row in read_jsonl(path)]
    write_jsonl(path, rows)
    assert len(score(study)) == 4 * 3 * 20 - 3 * sum(c == "code_reasoning" for c in categories(study))


def categories(study: Path) -> list[str]:
    return pd.read_parquet(study / "data/benchmarks/mme/test.parquet")["category"].tolist()


GQA = f"{CELL}/gqa.jsonl"


def edit(change):
    """A fault: the lines of one prediction file, changed."""

    def apply(study: Path) -> None:
        path = study / GQA
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return apply


def rename(old: str, new: str):
    return lambda study: (study / old).rename(study / new)


FAULTS = {
    "1 of 20 questions are not answered, first '19'": edit(lambda lines: lines[:-1]),
    "line 21: question '0' is answered twice": edit(lambda lines: [*lines, lines[0]]),
    "line 1: unknown question id '99'": edit(lambda ls: [ls[0].replace('"0"', '"99"', 1), *ls[1:]]),
    "the answer to question '0' is not text: 7": edit(
        lambda ls: [re.sub(r'"text": ".*"', '"text": 7', ls[0]), *ls[1:]]
    ),
    "line 20: not JSON": edit(lambda lines: [*lines[:-1], lines[-1][:9]]),
    "is in cluster '0' of the requests": edit(
        lambda ls: [ls[0].replace('"cluster": "0"', '"cluster": "7"'), *ls[1:]]
    ),
    "no such file; every model answers every benchmark": lambda study: (study / GQA).unlink(),
    "no requests of a benchmark 'vqav3'": rename(GQA, GQA.replace("gqa", "vqav3")),
    "does not fit subset 'clip'": rename(CELL, "predictions/clip/seed0/sam.zero"),
    "not a folder": rename("predictions/clip/seed0", "predictions/clip/first"),
    "is not the data that|not the data that": lambda study: write_case(study / "data", "gqa", 20, seed=1),
    "its bytes are not those of manifest": lambda study: (study / "requests/gqa.jsonl").write_text("{}\n"),
}


def test_an_overlay_that_the_study_does_not_name_gives_lmms_evals_figure(study: Path) -> None:
    golds = pd.read_parquet(study / "data/benchmarks/ocrbench/test.parquet", columns=["answer"])["answer"]
    requests = read_requests(study / "requests", "ocrbench")
    rows = [
        {"id": r.id, "cluster": r.cluster, "text": str(gold[0])}
        for r, gold in zip(requests, golds, strict=True)
    ]
    write_jsonl(study / "predictions/clip/seed0/clip.unmasked/ocrbench.jsonl", rows)
    ours = score(study).query("benchmark == 'ocrbench'")["score"]
    settings = json.loads((study / "score.json").read_text())
    (study / "score.json").write_text(json.dumps(settings | {"overlays": ["mmmu"]}))
    theirs = score(study).query("benchmark == 'ocrbench'")["score"]
    assert ours.sum() > 0
    np.testing.assert_allclose(theirs, ours * 20 / 1000)


@pytest.mark.parametrize("message", FAULTS)
def test_faulty_predictions_are_one_clear_error_and_nothing_is_scored(study: Path, message: str) -> None:
    FAULTS[message](study)
    with pytest.raises(StudyError, match=message) as caught:
        score(study)
    assert "\n" not in str(caught.value)
    assert not (study / "scores.parquet").exists() and not (study / "scores.csv").exists()


def test_pairs_and_circles_must_be_whole(tmp_path: Path) -> None:
    rows = make_rows("mmvp", 10, random.Random(0))
    write_rows(tmp_path / "mmvp.parquet", "mmvp", rows[:-1])
    with pytest.raises(StudyError, match="mmvp pair '4' has 1 rows, not 2"):
        Judge(TASKS["mmvp"], tmp_path / "mmvp.parquet")
    rows = [row for row in make_rows("mmbench", 20, random.Random(0)) if row["index"] != 0]
    write_rows(tmp_path / "mmbench.parquet", "mmbench", rows)
    with pytest.raises(StudyError, match="mmbench circle 0 lacks its first rotation"):
        Judge(TASKS["mmbench"], tmp_path / "mmbench.parquet")
