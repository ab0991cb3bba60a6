"""The claims under test in words: what the text says of each is chosen by its computed verdict."""

from __future__ import annotations

from collections.abc import Sequence

from encoder_roles.analysis.claims.claim import FAILS, HOLDS, OPEN, UNTESTED, Claim, Verdict
from encoder_roles.paper.tables import bold
from encoder_roles.paper.wording import (
    count_word,
    counted,
    listed,
    print_names,
    sentence,
    with_interval,
)

# A claim as the abstract puts it, by verdict; an untested claim is not in the abstract.
_SHORT: dict[str, dict[Verdict, str]] = {
    "1a": {
        HOLDS: "retraining and masking rank the encoders differently",
        FAILS: "retraining and masking rank the encoders alike",
        OPEN: "no two encoders are ranked in opposite order by retraining and masking beyond noise",
    },
    "1b": {
        HOLDS: "they disagree on which encoder is first",
        FAILS: "they agree on which encoder is first",
        OPEN: "whether they agree on the first encoder stays open",
    },
    "2a": {
        HOLDS: "the two encoders of highest Capacity are not the best pair",
        FAILS: "the two encoders of highest Capacity are the best pair",
        OPEN: "no pair is separable from that of the two highest Capacities",
    },
    "2b": {
        HOLDS: "an anchor with a complement matches the full pool",
        FAILS: "no anchor with a complement matches the full pool",
        OPEN: "whether an anchor with a complement matches the full pool stays open",
    },
    "2c": {
        HOLDS: "encoders beyond the best pair add little",
        FAILS: "encoders beyond the best pair still add",
        OPEN: "what encoders beyond the best pair add is not separable from little",
    },
    "3a": {
        HOLDS: "effective rank explains part of what parameters do not, beyond random numbers per encoder",
        FAILS: "effective rank does not explain what parameters leave of the score",
        OPEN: "whether effective rank explains what parameters do not stays open",
    },
    "3b": {
        HOLDS: "the best pair joins a surviving with an expanding rank",
        FAILS: "the best pair does not join a surviving with an expanding rank",
        OPEN: "whether the best pair joins a surviving with an expanding rank stays open",
    },
}
_NUMBERS = (
    ("1", "One"),
    ("2", "Two"),
    ("3", "Three"),
    ("4", "Four"),
    ("5", "Five"),
    ("6", "Six"),
    ("7", "Seven"),
)


def claim_texts(claims: Sequence[Claim], pool: Sequence[str], warning: str = "") -> dict[str, str]:
    """Macros of the claims: a sentence per number for the abstract, and four parts of each claim.

    Claim 2b becomes StatementTwoB, VerdictTwoB, EvidenceTwoB and DecideTwoB. `warning` follows on every
    verdict.
    """
    texts = {}
    for number, word in _NUMBERS:
        chosen = [claim for claim in claims if claim.claim.startswith(number)]
        if number in "123":
            texts[f"Claim{word}Sentence"] = short_sentence(chosen)
        for claim in chosen:
            name = word + claim.claim.removeprefix(number).upper()
            texts[f"Statement{name}"] = print_names(claim.statement, pool)
            texts[f"Verdict{name}"] = with_warning(claim, warning)
            texts[f"Evidence{name}"] = evidence_text(claim, pool)
            texts[f"Decide{name}"] = "" if claim.verdict == UNTESTED else claim.to_decide
    if claims and all(claim.verdict == UNTESTED for claim in claims):
        texts["ClaimOneSentence"] = next(
            (f"No claim has a verdict. {c.to_decide}" for c in claims if c.to_decide), ""
        )
    return texts


def short_sentence(claims: Sequence[Claim]) -> str:
    """The claims of one number in one sentence, each in its verdict's words; empty if none was tested."""
    return sentence("; ".join(_short_text(claim) for claim in claims if claim.verdict != UNTESTED))


def _short_text(claim: Claim) -> str:
    """One claim in its verdict's words, with the groups of benchmarks whose verdict is another one."""
    others = [
        group for group, verdict in claim.by_group.items() if verdict not in (claim.verdict, OPEN, UNTESTED)
    ]
    exception = f" (not so in {listed(others)})" if others else ""
    return _SHORT[claim.claim][claim.verdict] + exception


def evidence_text(claim: Claim, pool: Sequence[str]) -> str:
    """The estimate, what it is, and the claim's note; it follows on a colon.

    Without an estimate the note alone, which then says why the claim was not tested.
    """
    note = print_names(claim.note, pool)
    if claim.estimate is None:
        return note[:1].lower() + note[1:]
    estimate = with_interval(claim.estimate, claim.low, claim.high, 2)
    return f"{estimate}, {print_names(claim.estimate_of, pool)}. {note}".strip()


def seed_texts(claims: Sequence[Claim], seeds: int) -> dict[str, str]:
    """What the intervals say about the noise of training seeds, and what that leaves open."""
    note = next((claim.seed_note for claim in claims if claim.seed_note), "")
    limitation = (
        "Every model was trained with one seed: no new training confirms its scores."
        if seeds == 1
        else f"The noise of training is estimated from {count_word(seeds)} seeds only."
    )
    trained = f"Every model was trained with {counted(seeds, 'seed')}."
    return {"SeedSentence": f"{trained} {note}".strip(), "SeedLimitation": limitation}


def with_warning(claim: Claim, warning: str) -> str:
    """The verdict with a warning in brackets; a claim that was not tested has no verdict to warn of."""
    return f"{claim.verdict} ({warning})" if warning and claim.verdict != UNTESTED else claim.verdict


def claim_rows(claims: Sequence[Claim], pool: Sequence[str] = (), warning: str = "") -> list[list[str]]:
    """A row of cells per claim: number, statement, estimate with interval, verdict (bold if it holds).

    With a pool, its encoders get their printed names. `warning` follows on every verdict.
    """
    return [
        [
            claim.claim,
            print_names(claim.statement, pool) if pool else claim.statement,
            with_interval(claim.estimate, claim.low, claim.high, 2),
            bold(with_warning(claim, warning)) if claim.verdict == HOLDS else with_warning(claim, warning),
        ]
        for claim in claims
    ]
