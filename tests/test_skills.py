"""Skills and complementarity: every share is a count over questions, and its interval holds the truth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from encoder_roles.analysis.skills import (
    ALL,
    CLASSES,
    SkillScores,
    arrange_skills,
    complementarity_table,
    share_interval,
    skill_table,
)
from encoder_roles.benchmarks.table import TASKS, category_of
from encoder_roles.study.names import StudyError

POOL = ("clip", "sam")
MODELS = ("clip", "sam", "clip+sam")
QUESTIONS = 12
solved = arrays(bool, (3, 2, QUESTIONS))  # models, seeds, questions


def skill_scores(answers: np.ndarray) -> SkillScores:
    places = np.arange(answers.shape[-1])
    questions = pd.DataFrame(
        {"benchmark": "mme", "question": places.astype(str), "cluster": (places // 2).astype(str)}
    )
    questions["category"] = np.where(places % 2, "word", "digit")
    return SkillScores(questions, dict(zip(MODELS, 100.0 * answers, strict=True)))


@settings(max_examples=25, deadline=None)
@given(solved)
def test_every_share_is_that_of_a_count_question_by_question(answers: np.ndarray) -> None:
    clip, sam, joint = answers
    table = complementarity_table(skill_scores(answers), POOL, 0.95).set_index(["skill", "questions"])
    for skill, places in ((ALL, range(QUESTIONS)), ("word", range(1, QUESTIONS, 2))):
        for name in CLASSES:
            inside, kept, again = 0, 0, 0.0
            for seed in range(2):
                for q in places:
                    one, two = clip[seed, q], sam[seed, q]
                    other = (clip[1 - seed, q], sam[1 - seed, q])
                    member, retrained = {
                        "only_first": (one and not two, other[0]),
                        "only_second": (two and not one, other[1]),
                        "only_one": (one != two, other[0] if one else other[1]),
                        "both": (one and two, np.mean(other)),
                        "neither": (not one and not two, np.mean(other)),
                    }[name]
                    inside, kept = inside + member, kept + (member and joint[seed, q])
                    again += member * retrained
            row = table.loc[(skill, name)]
            assert row["n"] == inside / 2
            assert row["share"] == pytest.approx(inside / 2 / len(places))
            expected = (kept / inside, again / inside) if inside else (np.nan, np.nan)
            assert row[["pair", "retraining"]].tolist() == pytest.approx(expected, nan_ok=True)
            for share in ("share", "pair", "full", "retraining"):
                low, value, high = row[[f"{share}_low", share, f"{share}_high"]]
                assert np.isnan(value) or 0 <= low <= value + 1e-12 <= high + 2e-12 <= 1 + 3e-12


@settings(max_examples=20, deadline=None)
@given(solved)
def test_the_score_of_a_skill_is_the_mean_of_its_questions_and_seeds(answers: np.ndarray) -> None:
    table = skill_table(skill_scores(answers), POOL, 0.95).set_index(["skill", "subset"])
    for subset, of in zip(MODELS, answers, strict=True):
        assert table.loc[(ALL, subset), "score"] == pytest.approx(100 * of.mean())
        assert table.loc[("word", subset), "score"] == pytest.approx(100 * of[:, 1::2].mean())
        deviation = 100 * of[:, 1::2].mean(1).std(ddof=1)
        assert table.loc[("word", subset), "seed_deviation"] == pytest.approx(deviation)


@pytest.mark.parametrize("truth", [0.03, 0.5, 0.9])
def test_an_interval_covers_the_truth_when_questions_of_a_cluster_are_alike(truth: float) -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(1500):
        rate = random.beta(8 * truth, 8 * (1 - truth), 150)
        _, low, high = share_interval(1.0 * random.binomial(4, rate), np.full(150, 4.0), 0.95)
        covered += low <= truth <= high
    assert covered / 1500 >= 0.93


def test_one_seed_says_nothing_about_a_retraining_and_an_untrained_pair_nothing_about_itself() -> None:
    data = skill_scores(np.random.default_rng(0).random((3, 1, QUESTIONS)) < 0.5)
    table = complementarity_table(data, POOL, 0.95)
    assert table["retraining"].isna().all() and table.loc[table["n"] > 0, "pair"].notna().all()
    del data.scores["clip+sam"]
    assert complementarity_table(data, POOL, 0.95)["pair"].isna().all()


def test_the_rows_of_all_pairs_are_the_sums_of_the_pairs() -> None:
    answers = np.random.default_rng(1).random((7, 2, QUESTIONS)) < 0.6
    pool = ("clip", "siglip", "sam")
    data = skill_scores(answers[:3])
    names = ("clip", "siglip", "sam", "clip+siglip", "clip+sam", "siglip+sam", "clip+siglip+sam")
    data.scores.clear()
    data.scores.update(zip(names, 100.0 * answers, strict=True))
    table = complementarity_table(data, pool, 0.95).assign(kept=lambda rows: rows["n"] * rows["pair"])
    pooled, single = table[table["first"] == ALL], table[table["first"] != ALL]
    key = ["skill", "questions"]
    sums = single.groupby(key)[["n", "kept"]].sum()
    pd.testing.assert_frame_equal(
        pooled.set_index(key)[["n", "kept"]].fillna(0).sort_index(), sums.sort_index()
    )


def test_a_question_without_a_category_is_an_error_that_names_it() -> None:
    rows = {"operator": "unmasked", "subset": "clip", "seed": 0, "benchmark": "mme", "cluster": "c"}
    scores = pd.DataFrame([rows | {"question": q, "score": 100.0} for q in ("0", "1")])
    categories = pd.DataFrame([{"benchmark": "mme", "question": "0", "category": "word"}])
    with pytest.raises(StudyError, match=r"1 questions of the scores have none, first .*'1'"):
        arrange_skills(scores, categories)


@pytest.mark.parametrize(
    ("benchmark", "row", "category"),
    [
        ("mme", {"category": "OCR"}, "mme: OCR"),
        ("mme", {"category": "OCR", "skill": "word"}, "word"),
        ("seed", {"question_type_id": 5}, "seed: 5"),
        (
            "mathvista",
            {"metadata": {"task": "figure question answering"}},
            "mathvista: figure question answering",
        ),
        ("cvbench3d", {"task": "Depth"}, "cvbench3d: Depth"),
        ("docvqa", {"question": "?"}, "docvqa"),
    ],
)
def test_a_category_is_the_worlds_skill_or_the_benchmarks_own(
    benchmark: str, row: dict, category: str
) -> None:
    assert category_of(TASKS[benchmark], row) == category
