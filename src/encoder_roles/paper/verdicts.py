"""The claims under test in words: what the text says of each is chosen by its computed verdict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from encoder_roles.paper.wording import (
    count_word,
    counted,
    fixed,
    interval_text,
    print_names,
    sentence,
)

HOLDS = "holds"
FAILS = "does not hold"
OPEN = "not separable at this sample size"
UNTESTED = "not tested in this study"

Claim = Mapping[str, Any]  # an entry of claims.json

# The part of a claim's note that says what the intervals do about the noise of training seeds.
_SEED_NOTE = re.compile(r"\s*((?:One training seed|Intervals include).*)$")
_ESTIMATE_NOTE = re.compile(r"^Estimate: (.*?)\.(?:\s|$)")
# A claim as the abstract puts it, by verdict; one that the study could not test is not in the abstract.
_SHORT: dict[str, dict[str, str]] = {
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
        HOLDS: "effective rank explains part of what parameters do not",
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


def claim_texts(claims: Sequence[Claim], pool: Sequence[str]) -> dict[str, str]:
    """Macros of the claims: a sentence per number for the abstract, and of each claim three parts.

    Claim 2b becomes StatementTwoB, VerdictTwoB and EvidenceTwoB.
    """
    found = {}
    for number, word in _NUMBERS:
        chosen = [claim for claim in claims if claim["claim"].startswith(number)]
        if number in "123":
            found[f"Claim{word}Sentence"] = short_sentence(chosen)
        for claim in chosen:
            name = word + claim["claim"].removeprefix(number).upper()
            found[f"Statement{name}"] = print_names(claim["statement"], pool)
            found[f"Verdict{name}"] = claim["verdict"]
            found[f"Evidence{name}"] = evidence_text(claim, pool)
    return found


def short_sentence(claims: Sequence[Claim]) -> str:
    """The claims of one number in one sentence, each in its verdict's words; empty if none was tested."""
    return sentence("; ".join(_SHORT[c["claim"]][c["verdict"]] for c in claims if c["verdict"] != UNTESTED))


def evidence_text(claim: Claim, pool: Sequence[str]) -> str:
    """The estimate and what it is, then the rest of the analysis's note: it follows on a colon."""
    note = print_names(_SEED_NOTE.sub("", claim["note"]), pool)
    if claim["estimate"] is None:
        return note.removeprefix("Not tested: ")
    estimate = fixed(claim["estimate"], 2)
    if bounds := interval_text(claim["low"], claim["high"], 2):
        estimate += f"\u00a0{bounds}"
    what = _ESTIMATE_NOTE.match(note)
    if not what:
        return f"{estimate}. {sentence(note)}".strip()
    return f"{estimate}, {what[1]}. {sentence(note[what.end() :])}".strip()


def seed_texts(claims: Sequence[Claim], seeds: int) -> dict[str, str]:
    """What the intervals do about the noise of training seeds, and what that leaves open."""
    note = next((found[1] for claim in claims if (found := _SEED_NOTE.search(claim["note"]))), "")
    open_ = (
        "With one training seed, differences of about a point may not survive retraining."
        if seeds == 1
        else f"The noise of training is estimated from {count_word(seeds)} seeds only."
    )
    trained = f"Every model was trained with {counted(seeds, 'seed')}."
    return {"SeedSentence": f"{trained} {sentence(note)}".strip(), "SeedLimitation": open_}
