"""A claim is a record: it reads back as it was written, and a damaged file is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder_roles.analysis.claims.claim import (
    FAILS,
    HOLDS,
    OPEN,
    UNTESTED,
    Claim,
    Evidence,
    Verdict,
    add_seed_note,
    by_interval,
    judged,
    read_claims,
    seed_note,
    untested,
    write_claims,
)
from encoder_roles.study.names import StudyError

numbers = st.none() | st.floats(-100, 100)
evidence = st.builds(
    Evidence, file=st.text(), row=st.dictionaries(st.text(), st.text() | st.integers(0, 9), max_size=3)
)
claims_of_any_kind = st.lists(
    st.builds(
        Claim, verdict=st.sampled_from(get_args(Verdict)), estimate=numbers, low=numbers, high=numbers,
        evidence=st.none() | evidence,
    )
)  # fmt: skip


@given(claims=claims_of_any_kind)
def test_claims_read_back_as_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, claims: list[Claim]
) -> None:
    path = tmp_path_factory.mktemp("claims") / "claims.json"
    write_claims(path, claims)
    assert read_claims(path) == claims


def test_the_verdict_words_are_the_four_constants() -> None:
    assert get_args(Verdict) == (HOLDS, FAILS, OPEN, UNTESTED)


def record(**changes: Any) -> dict[str, Any]:
    known = {"claim": "1a", "statement": "It differs.", "verdict": HOLDS, "estimate": 1.0, "low": 0.5}
    known |= {"high": 1.5, "estimate_of": "points", "note": "", "seed_note": "One seed.", "evidence": None}
    return known | changes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps([record(verdict="perhaps")]), "0.verdict: Input should be 'holds'"),
        (json.dumps([record(), record(estimate="1.0")]), "1.estimate: Input should be a valid number"),
        (json.dumps([record(colour="red")]), "0.colour: Unexpected keyword argument"),
        (json.dumps([{"claim": "1a"}]), "0.statement: Field required"),
        (json.dumps([record(evidence={"file": "a.csv"})]), "0.evidence.row: Field required"),
        (json.dumps(record()), "the file: Input should be a valid array"),
        (json.dumps([record()])[:-3], "the file: Invalid JSON"),
    ],
)
def test_a_damaged_file_of_claims_is_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "claims.json"
    path.write_text(content)
    with pytest.raises(StudyError) as error:
        read_claims(path)
    assert message in str(error.value) and str(path) in str(error.value)
    assert "run the analysis again" in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_of_claims_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"nowhere\.json: cannot be read"):
        read_claims(tmp_path / "nowhere.json")


def test_only_tested_claims_say_what_the_intervals_say_of_seeds() -> None:
    tested = judged(
        "2a", "It wins.", HOLDS, estimate=1.0, estimate_of="points", evidence=Evidence("pairs.csv", {})
    )
    claims = add_seed_note([tested, untested("2b", "It matches.", "no pair")], seed_note(3, None))
    assert [claim.seed_note for claim in claims] == [
        "Intervals include the noise between 3 training seeds.",
        "",
    ]
    assert claims[1].note == "The study has no pair."


def test_a_stated_deviation_is_named_before_the_number_of_seeds() -> None:
    assert "stated seed deviation of 0.5 points" in seed_note(3, 0.5)
    assert "One training seed" in seed_note(1, None)


def test_numbers_are_rounded_and_nan_is_no_number() -> None:
    nan = float("nan")
    claim = judged(
        "3a", "It explains.", OPEN, estimate=0.123456, bounds=(nan, 0.5), estimate_of="R²",
        evidence=Evidence("rank_regression.csv", {"model": "ranks"}),
    )  # fmt: skip
    assert (claim.estimate, claim.low, claim.high) == (0.1235, None, 0.5)


@given(st.floats(-5, 5), st.floats(0, 5), st.floats(-5, 5))
def test_a_value_holds_above_the_threshold_fails_below_and_is_open_between(
    low: float, width: float, threshold: float
) -> None:
    verdict = by_interval(low, low + width, threshold)
    assert verdict == (HOLDS if low > threshold else FAILS if low + width < threshold else OPEN)
    assert by_interval(float("nan"), float("nan"), threshold) == OPEN
