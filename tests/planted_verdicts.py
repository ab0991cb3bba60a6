"""Studies whose claims are true, false or on the border by construction, and the verdicts on them.

The scores of all subsets are planted. An estimate differs from them by the noise of questions (partly the
same for all models) and of training seeds; resamples are drawn with the same noise, as the bootstrap's are.
On the border a difference is exactly at its threshold, so that `holds` is false there too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd

from encoder_roles.analysis.claims.claim import Claim
from encoder_roles.analysis.claims.findings import Findings
from encoder_roles.analysis.claims.study_claims import judge_claims
from encoder_roles.analysis.lattice import RETRAINED, Lattice, LatticeSet, of_size, subset_name
from encoder_roles.analysis.measures.pairs import Ranks, find_pairs
from encoder_roles.analysis.measures.rank_regression import regression_table
from encoder_roles.analysis.measures.rankings import ranking_table
from encoder_roles.study.sections import StatisticsSettings
from encoder_roles.study.stages import RoleStage

POOL = ("clip", "siglip", "dinov2", "convnext", "sam")
N = len(POOL)
SIZES = np.array([subset.bit_count() for subset in range(2**N)])
MEMBER = np.array([[subset >> e & 1 for e in range(N)] for subset in range(2**N)], dtype=float)
SEED_DEVIATION = 0.8  # points, of one training seed: the goal of the reference study
SEEDS = 3
QUESTIONS_SHARED, QUESTIONS_APART = 0.4, 0.35  # points
FREEDOM = 31 * (SEEDS - 1)

Case = Literal["true", "false", "border"]
CASES: tuple[Case, ...] = ("true", "false", "border")


@dataclass(frozen=True)
class Truth:
    """Planted scores (2^n,), retrained and masked; rank ratios (2^n, n), the error of their logarithms."""

    retrained: np.ndarray
    masked: np.ndarray | None = None
    ratio: np.ndarray = field(default_factory=lambda: np.full((2**N, N), 0.95))
    error: float = 0.01
    parameters: np.ndarray = field(default_factory=lambda: 1e6 * 1.5 ** np.maximum(SIZES - 1, 0))


def grown(step: float = 4.0) -> np.ndarray:
    """Scores that grow with the number of encoders."""
    return 40.0 + step * SIZES


def rankings(case: Case, random: np.random.Generator) -> Truth:
    necessity = np.array([18.0, 14.0, 10.0, 6.0, 2.0])
    masked = {"true": necessity[::-1], "false": necessity, "border": necessity[[1, 0, 2, 3, 4]]}[case]
    if case == "border":
        necessity = necessity.copy()
        necessity[1] = necessity[0]  # a tie when retrained: masking cannot reverse it
    sides = []
    for values in (necessity, masked):
        scores = grown()
        for e in range(N):
            scores[(2**N - 1) ^ (1 << e)] = 80.0 - values[e]
        scores[-1] = 80.0
        sides.append(scores)
    return Truth(*sides)


def capacity_pair(case: Case, random: np.random.Generator) -> Truth:
    scores = grown()
    scores[[1, 2, 4, 8, 16]] = [60.0, 55.0, 40.0, 35.0, 30.0]
    scores[of_size(2, N)] = 65.0  # on the border no pair is ahead of the two highest Capacities
    scores[3] = {"true": 65.0, "false": 72.0, "border": 65.0}[case]
    scores[20] += 7.0 * (case == "true")
    return Truth(scores)


def anchored_pair(case: Case, random: np.random.Generator) -> Truth:
    scores, ratio = grown(), np.full((2**N, N), 0.95)
    scores[[1, 4]] = 60.0, 50.0
    ratio[5, [0, 2]] = 1.0, 1.1  # clip+dinov2: the only pair with both roles
    scores[-1] = 80.0
    scores[5] = 80.0 - {"true": -3.0, "false": 6.0, "border": 1.0}[case]
    return Truth(scores, ratio=ratio)


def little(case: Case, random: np.random.Generator) -> Truth:
    scores = grown()
    scores[of_size(2, N)] = 75.0 if case == "border" else 65.0  # many pairs can be the best by luck
    scores[5] = 75.0
    scores[SIZES > 2] = 70.0
    scores[7] = {"true": 71.0, "false": 82.0, "border": 76.0}[case]
    scores[SIZES > 3] = scores[7] - 6.0 * (SIZES[SIZES > 3] - 3)  # no step is near the margin
    return Truth(scores)


def ranks_explain(case: Case, random: np.random.Generator) -> Truth:
    ratio = np.exp(random.normal(0, 0.2, (2**N, N)))
    if (
        case == "false"
    ):  # one number per encoder, as skills are: a regression on few encoders is easily fooled
        ratio = np.broadcast_to(np.exp(random.normal(0, 0.2, N)), (2**N, N)).copy()
    mean = (ratio * MEMBER).sum(1) / np.maximum(SIZES, 1)
    skill = MEMBER @ random.normal(0, 0.5 if case == "true" else 3.0, N)
    scores = grown() + skill + (60.0 * (mean - 1) if case == "true" else 0.0)
    return Truth(scores, ratio=ratio, parameters=1e6 * (1 + MEMBER @ np.array([1.0, 1.1, 1.2, 1.3, 1.4])))


def pair_roles(case: Case, random: np.random.Generator) -> Truth:
    scores, ratio = grown(), np.full((2**N, N), 0.95)
    scores[[1, 4]] = 60.0, 50.0
    scores[5] = 70.0
    ratio[5, [0, 2]] = 1.0, {"true": 1.1, "false": 0.9, "border": 1.0}[case]
    return Truth(scores, ratio=ratio)


def pair_beats(case: Case, random: np.random.Generator) -> Truth:
    scores = grown()
    scores[[1, 4]] = 60.0
    scores[5] = 60.0 + {"true": 5.0, "false": -5.0, "border": 0.0}[case]
    return Truth(scores)


def worth(case: Case, random: np.random.Generator) -> Truth:
    scores = grown()
    scores[1] = 70.0
    doublings = np.log2(1.5**4)
    scores[-1] = 70.0 + doublings * {"true": 4.0, "false": -2.0, "border": 1.0}[case]
    return Truth(scores)


PLANTED: dict[str, Callable[[Case, np.random.Generator], Truth]] = {
    "1a": rankings,
    "1b": rankings,
    "2a": capacity_pair,
    "2b": anchored_pair,
    "2c": little,
    "3a": ranks_explain,
    "3b": pair_roles,
    "4a": pair_beats,
    "7": worth,
}


def verdicts(claim: str, case: Case, studies: int, resamples: int) -> Iterator[Claim]:
    """The claim as judged in some studies of one planted case."""
    for study in range(studies):
        random = np.random.default_rng([list(PLANTED).index(claim), CASES.index(case), study])
        claims = judge_claims(plant(PLANTED[claim](case, random), random, resamples, claim))
        yield next(judged for judged in claims if judged.claim == claim)


def plant(truth: Truth, random: np.random.Generator, resamples: int, claim: str) -> Findings:
    """One study: estimates around the truth, and their resamples."""
    statistics = StatisticsSettings(resamples=resamples, level=0.95, seed=0, overall="benchmarks")
    settings = RoleStage(study="planted", pool=POOL, tau=0.1, statistics=statistics)
    levels = pd.DataFrame(
        [("overall", "overall", "overall", 8500)], columns=["level", "benchmark", "group", "n"]
    )
    retrained = _observe(truth.retrained, RETRAINED, random, resamples)
    masked = () if truth.masked is None else (_observe(truth.masked, "zero", random, resamples),)
    lattices = LatticeSet(POOL, levels, 0.95, SEEDS, retrained, masked, seed_variance=SEED_DEVIATION**2)
    inside = np.where(MEMBER > 0, 1.0, np.nan)
    ratio = truth.ratio * np.exp(random.normal(0, truth.error, truth.ratio.shape)) * inside
    ranks = Ranks(200.0 * ratio, ratio, np.full(ratio.shape, truth.error))
    names = [subset_name(i, POOL) for i in range(1, 2**N)]
    costs = pd.DataFrame({"parameters": truth.parameters[1:]}, index=names)
    table = ranking_table(lattices) if masked else pd.DataFrame()
    empty = pd.DataFrame({"model": []})
    regression = regression_table(lattices, ranks, costs, statistics) if claim == "3a" else empty
    return Findings(
        settings, lattices, find_pairs(lattices, ranks, settings), ranks, costs, table, regression
    )


def _observe(truth: np.ndarray, operator: str, random: np.random.Generator, resamples: int) -> Lattice:
    """Planted scores as a study sees them: (1, 2^n), with resamples."""
    point = truth + _noise(random, 1, SEED_DEVIATION)[0]
    # the deviation between seeds is an estimate too
    estimated = SEED_DEVIATION * np.sqrt(random.chisquare(FREEDOM) / FREEDOM)
    draws = point + _noise(random, resamples, estimated)
    return Lattice(POOL, operator, point[None], draws[:, None])


def _noise(random: np.random.Generator, count: int, deviation: float) -> np.ndarray:
    """Deviations (count, 2^n) of estimates from the truth."""
    apart = np.hypot(QUESTIONS_APART, deviation / np.sqrt(SEEDS))
    return QUESTIONS_SHARED * random.standard_normal((count, 1)) + apart * random.standard_normal(
        (count, 2**N)
    )
