"""A verdict is what was planted: right where a claim is clearly true or false, and never `holds` by luck."""

from __future__ import annotations

import pytest
from planted_verdicts import PLANTED, verdicts

from encoder_roles.analysis.claims.claim import FAILS, HOLDS

# performance/verdicts.py does this for many studies, and on the border


@pytest.mark.parametrize("claim", PLANTED)
def test_a_clear_truth_gets_its_verdict_and_says_what_a_verdict_takes(claim: str) -> None:
    studies, resamples = (1, 60) if claim == "3a" else (4, 150)
    true = list(verdicts(claim, "true", studies, resamples))
    false = list(verdicts(claim, "false", studies, resamples))
    assert sum(judged.verdict == HOLDS for judged in true) >= studies - 1
    assert sum(judged.verdict == FAILS for judged in false) >= studies - 1
    assert not any(judged.verdict == HOLDS for judged in false)
    assert not any(judged.verdict == FAILS for judged in true)
    assert all(judged.to_decide for judged in [*true, *false])
