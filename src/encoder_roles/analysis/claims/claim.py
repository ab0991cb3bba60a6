"""One claim under test, with its estimate and verdict: an entry of claims.json or variant_claims.json."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from encoder_roles.analysis.seed_noise import SeedNoise
from encoder_roles.provenance import write_json
from encoder_roles.study.names import NO_MASK, StudyError

Verdict = Literal["holds", "does not hold", "not separable at this sample size", "not tested in this study"]
HOLDS: Final = "holds"
FAILS: Final = "does not hold"
OPEN: Final = "not separable at this sample size"
UNTESTED: Final = "not tested in this study"
SEEDS_NEEDED: Final = (
    "A verdict needs the noise between training seeds: two seeds or more (three are advised), the recipe of "
    "a study that measured it, or statistics.seed_deviation."
)


@dataclass(frozen=True)
class Evidence:
    """Where a claim's numbers stand: a table of the study, and the key columns of the row."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    file: str
    row: dict[str, str | int]


@dataclass(frozen=True)
class Claim:
    """A claim with what the study says about it.

    Attributes:
        claim: the number in the study's text: `1a` to `7`.
        statement: the claim as a sentence.
        verdict: computed from the interval, or from corrected p values.
        estimate, low, high: the number that the verdict is about, with its interval; None where there is
            none.
        estimate_of: what the estimate is, with its unit, in words; empty without an estimate.
        note: further sentences on the estimate and the verdict, or why the claim was not tested.
        to_decide: how many seeds and questions would decide it; empty if no number of them is known to.
        by_group: the verdict in each group of benchmarks, where the claim is judged by group too.
        seed_note: what the interval says about the noise between training seeds; empty if not tested.
        evidence: the row that the estimate comes from; None if the claim was not tested.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    claim: str
    statement: str
    verdict: Verdict
    estimate: float | None
    low: float | None
    high: float | None
    estimate_of: str
    note: str
    seed_note: str
    evidence: Evidence | None
    to_decide: str = ""
    by_group: dict[str, Verdict] = field(default_factory=dict)


def judged(
    claim: str,
    statement: str,
    verdict: Verdict,
    *,
    estimate: float,
    estimate_of: str,
    evidence: Evidence,
    bounds: tuple[float, float] | None = None,
    note: str = "",
    to_decide: str = "",
    by_group: dict[str, Verdict] | None = None,
) -> Claim:
    """A claim with an estimate. Numbers are rounded to four decimals; NaN becomes None."""
    low, high = bounds or (None, None)
    numbers = (_rounded(estimate), _rounded(low), _rounded(high))
    return Claim(
        claim, statement, verdict, *numbers, estimate_of, note, "", evidence, to_decide, by_group or {}
    )


def untested(claim: str, statement: str, reason: str) -> Claim:
    """A claim that the study has no data for; `reason` says what the study has instead."""
    return Claim(claim, statement, UNTESTED, None, None, None, "", f"The study has {reason}.", "", None)


def by_interval(low: float, high: float, threshold: float) -> Verdict:
    """The verdict on a value above a threshold.

    Holds if the interval lies above the threshold, fails if it lies below. Open if it contains the threshold
    or is NaN.

    >>> by_interval(0.2, 1.4, threshold=0.0), by_interval(-0.3, 1.4, threshold=0.0)
    ('holds', 'not separable at this sample size')
    """
    return HOLDS if low > threshold else FAILS if high < threshold else OPEN


def add_seed_note(claims: Iterable[Claim], note: str) -> list[Claim]:
    """The claims with the same seed note on each one that was tested."""
    return [c if c.verdict == UNTESTED else replace(c, seed_note=note) for c in claims]


def seed_note(seeds: int, stated: float | None, measured: SeedNoise | None = None) -> str:
    """What the intervals say about the noise between training seeds.

    Args:
        seeds: the number of training seeds of every model.
        stated: `statistics.seed_deviation` in points, if the settings state one.
        measured: what a study of the same recipe measured, if the intervals of a one-seed study contain it.
    """
    if stated is not None:
        return f"Intervals include a stated seed deviation of {stated:g} points."
    if seeds > 1:
        return f"Intervals include the noise between {seeds} training seeds."
    if measured is not None:
        freedom = measured.freedom[NO_MASK]
        return (
            "One training seed: intervals include the noise between seeds that study "
            f"{measured.study} measured with this recipe ({measured.seeds} seeds, {freedom:g} degrees of "
            "freedom)."
        )
    return (
        "One training seed: intervals hold for these checkpoints; the noise between seeds is not in them, "
        "and no verdict is given that needs it."
    )


def withhold(claims: Iterable[Claim]) -> list[Claim]:
    """The claims of a study whose noise between seeds is not known: every verdict needs it."""
    return [
        c if c.verdict == UNTESTED else replace(c, verdict=UNTESTED, to_decide=SEEDS_NEEDED) for c in claims
    ]


def points(margin: float) -> str:
    """A margin in words: `a point`, `0.5 points`."""
    return "a point" if margin == 1 else f"{margin:g} points"


def write_claims(path: Path, claims: Iterable[Claim]) -> None:
    """Write claims as a JSON list of their fields."""
    write_json(path, [asdict(claim) for claim in claims])


def read_claims(path: Path) -> list[Claim]:
    """Read what `write_claims` wrote. Raises StudyError if the file is missing or damaged."""
    try:
        return TypeAdapter(list[Claim]).validate_json(path.read_bytes())
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); run the analysis again") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise StudyError(
            f"{path}: not a list of claims ({where}: {first['msg']}); run the analysis again"
        ) from None


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), 4)
