"""Complete lattices of five encoders from several families of truth, for the advisor's tests and its
benchmark.

Each is a mapping subset -> (score, standard error), as a finished study gives it: the truth of a family, plus
what a training seed does, plus what the choice of questions does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from lattice_simulation import POOL, make_plan, true_score

from encoder_roles.study.names import NO_MASK, all_subsets

SUBSETS = all_subsets(POOL)
INSIDE = np.array([[e in s.split("+") for e in POOL] for s in SUBSETS], dtype=float)
SIZE = INSIDE.sum(1)
QUESTION_ERROR = 0.5  # points


def skills(random: np.random.Generator) -> np.ndarray:
    """The truth of lattice_simulation: specialities by benchmark, mostly redundant pairs. Settings of the
    advisor were chosen on this family alone.
    """
    plan = make_plan(random)
    return true_score(np.array([plan.skill(s, s, NO_MASK) for s in SUBSETS]), 0.0).mean(1)


def saturation(random: np.random.Generator) -> np.ndarray:
    """Additive ability with diminishing returns: every encoder helps, the more there are the less."""
    ability = random.gamma(2.0, 0.3, size=len(POOL))
    return 25 + random.uniform(35, 60) * (1 - np.exp(-INSIDE @ ability))


def redundancy(random: np.random.Generator) -> np.ndarray:
    """Sixteen benchmarks, each answered as well as the best encoder present answers it."""
    level = random.beta(1.2, 1.5, size=(len(POOL), 16))
    return 20 + 60 * (INSIDE[:, :, None] * level).max(1).mean(1)


def synergy(random: np.random.Generator) -> np.ndarray:
    """Effects of encoders, pairs and triples of either sign, squeezed into 0-100."""
    value = INSIDE @ random.normal(0.3, 0.35, size=len(POOL))
    for order, spread in ((2, 0.3), (3, 0.15)):
        for s in INSIDE[order == SIZE]:
            value = value + random.normal(0, spread) * (INSIDE @ s == order)
    return 100 / (1 + np.exp(-(value - 0.5)))


def crowding(random: np.random.Generator) -> np.ndarray:
    """Redundancy in which each further encoder also costs something: the full pool is rarely the best."""
    return redundancy(random) - random.uniform(1, 5) * (SIZE - 1)


def noise(random: np.random.Generator) -> np.ndarray:
    """Small additive effects under training noise of their own size."""
    return 50 + INSIDE @ random.normal(0, 2, size=len(POOL)) + random.normal(0, 2, size=len(SUBSETS))


FAMILIES: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    f.__name__: f for f in (skills, saturation, redundancy, synergy, crowding, noise)
}


def draw_lattice(family: str, seed: int) -> dict[str, tuple[float, float]]:
    """One lattice of a family, with a seed's noise of 0.3 to 1 points and the questions' of 0.5."""
    random = np.random.default_rng([list(FAMILIES).index(family), seed])
    truth = FAMILIES[family](random)
    spread = np.hypot(random.uniform(0.3, 1.0), QUESTION_ERROR)
    scores = np.clip(truth + random.normal(0, spread, size=len(SUBSETS)), 0, 100)
    return {s: (float(v), QUESTION_ERROR) for s, v in zip(SUBSETS, scores, strict=True)}
