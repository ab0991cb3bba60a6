"""The advisor replayed on a lattice whose scores are all known, beside other orders of training: advisor.csv.

A strategy is an order in which subsets are trained; it sees a score only once its subset is trained. Regret
after t trainings is the distance in points from the best trained answer to the best answer there is.

For a match it is the distance from the best trained proper subset to the full pool's score less the margin,
even if the strategy has not yet trained the full pool. If no subset matches, the best proper subset takes the
place of that target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from encoder_roles.analysis.advisor.advisor import Goal, check_goals, training_worth
from encoder_roles.analysis.advisor.predictor import Scores, check_part, predict_lattice
from encoder_roles.analysis.statistics import Array, generator, percentile_interval
from encoder_roles.study.names import StudyError, all_subsets

COLUMNS = ("question", "strategy", "trainings", "replays", "regret", "low", "high", "share_found")
COVERAGE_COLUMNS = ("trained", "parts", "coverage", "error", "width")
BOTH = "both"
FOUND = 1e-9  # a regret of at most this many points is zero


class KnownLattice:
    """A complete lattice: `values` (subsets,) and `errors`, smallest subsets first, in pool order."""

    def __init__(self, scores: Scores, pool: Sequence[str]) -> None:
        given = check_part(scores, tuple(pool))
        self.pool, self.subsets = tuple(pool), all_subsets(tuple(pool))
        if missing := [s for s in self.subsets if s not in given]:
            raise StudyError(f"scores: no score of {missing[0]!r}; a replay needs every subset of the pool")
        self.values = np.array([given[s][0] for s in self.subsets])
        self.errors = np.array([given[s][1] for s in self.subsets])
        self.sets = [frozenset(s.split("+")) for s in self.subsets]
        self.sizes = np.array([len(s) for s in self.sets])

    def part(self, places: Sequence[int]) -> dict[str, tuple[float, float]]:
        """The scores that are known once the subsets at these places are trained."""
        return {self.subsets[i]: (float(self.values[i]), float(self.errors[i])) for i in places}


Strategy = Callable[[KnownLattice, Sequence[Goal], np.random.Generator], list[int]]


def random_order(lattice: KnownLattice, _: Sequence[Goal], random: np.random.Generator) -> list[int]:
    """All subsets in random order."""
    return [int(i) for i in random.permutation(len(lattice.subsets))]


def singles_first(lattice: KnownLattice, goals: Sequence[Goal], random: np.random.Generator) -> list[int]:
    """By size, smallest first; in random order within a size."""
    mixed = random_order(lattice, goals, random)
    return sorted(mixed, key=lambda i: int(lattice.sizes[i]))


def answers_first(lattice: KnownLattice, goals: Sequence[Goal], random: np.random.Generator) -> list[int]:
    """In random order, but first the full pool if a match is a goal, then the largest subsets allowed.

    It measures what knowing the goals is worth without a model.
    """
    mixed = random_order(lattice, goals, random)
    wanted = {q.at_most for q in goals if q.margin is None}
    first = {len(mixed) - 1} if any(q.margin is not None for q in goals) else set()
    return sorted(mixed, key=lambda i: (i not in first, int(lattice.sizes[i]) not in wanted))


def forward_selection(lattice: KnownLattice, goals: Sequence[Goal], random: np.random.Generator) -> list[int]:
    """Round-robin as in Eagle: every single, then the best so far with each of the others, and so on."""
    mixed, chosen, order = random_order(lattice, goals, random), frozenset[str](), list[int]()
    for size in range(1, len(lattice.pool) + 1):
        round_ = [i for i in mixed if lattice.sizes[i] == size and chosen < lattice.sets[i]]
        order += round_
        chosen = lattice.sets[max(round_, key=lambda i: float(lattice.values[i]))]
    return order


def top_two(lattice: KnownLattice, goals: Sequence[Goal], random: np.random.Generator) -> list[int]:
    """Every single, then the pair of the two highest Capacities; nothing more."""
    singles = [i for i in random_order(lattice, goals, random) if lattice.sizes[i] == 1]
    first, second = sorted(singles, key=lambda i: -float(lattice.values[i]))[:2]
    return [*singles, lattice.sets.index(lattice.sets[first] | lattice.sets[second])]


class Advisor:
    """First a random subset of the largest size allowed, then always the training that is worth most.

    Without any score all subsets of one size are alike. Predictions are cached by the set of trained subsets,
    because replays on one lattice meet the same sets. The strategy ends when no training is worth anything,
    or when every goal is reached; more trainings would change no regret.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[int, frozenset[int]], Array] = {}

    def __call__(
        self, lattice: KnownLattice, goals: Sequence[Goal], random: np.random.Generator
    ) -> list[int]:
        sizes = [q.at_most for q in goals if q.margin is None] or [q.at_most for q in goals]
        mixed = random_order(lattice, goals, random)
        order = [next(i for i in mixed if lattice.sizes[i] == sizes[0])]
        while len(order) < len(mixed) and not answered(lattice, goals, order):
            worth = self._worth(lattice, goals, order)
            if worth.max() <= 0:
                break
            order.append(int(np.argmax(worth)))
        return order

    def _worth(self, lattice: KnownLattice, goals: Sequence[Goal], order: list[int]) -> Array:
        key = (id(lattice), frozenset(order))
        if key not in self._known:
            prediction = predict_lattice(lattice.part(sorted(order)), lattice.pool)
            self._known[key] = training_worth(prediction, goals)
        return self._known[key]


def strategies() -> dict[str, Strategy]:
    """The strategies that are compared, by name; a new advisor each time."""
    return {
        "advisor": Advisor(),
        "forward_selection": forward_selection,
        "answers_first": answers_first,
        "singles_first": singles_first,
        "random": random_order,
        "top_two": top_two,
    }


def regrets(lattice: KnownLattice, goal: Goal, order: Sequence[int]) -> Array:
    """Regret (subsets,) in points after 1, 2, ... trainings.

    Infinite before an answer is trained. The last regret is repeated after the strategy has ended.
    """
    able = goal.allowed(lattice.subsets)
    best = float(lattice.values[able].max())
    if goal.margin is not None:
        best = min(best, float(lattice.values[-1]) - goal.margin)
    seen = np.array([lattice.values[i] if able[i] else -np.inf for i in order])
    lacking = np.maximum(best - np.maximum.accumulate(seen), 0.0)
    return np.concatenate([lacking, np.full(len(lattice.subsets) - len(order), lacking[-1])])


def answered(lattice: KnownLattice, goals: Sequence[Goal], order: Sequence[int]) -> bool:
    """Whether every goal is reached by a trained subset."""
    return bool(order) and all(regrets(lattice, q, order)[-1] <= FOUND for q in goals)


def replay(
    lattice: KnownLattice,
    goals: Sequence[Goal],
    replays: int,
    seed: int,
    chosen: Mapping[str, Strategy] | None = None,
) -> dict[str, Array]:
    """Regrets (replays, goals, subsets) of each strategy; a replay's random order is the same for all."""
    check_goals(goals, len(lattice.pool))
    by_strategy = {}
    for name, strategy in (chosen or strategies()).items():
        orders = [strategy(lattice, goals, generator(seed, f"replay {r}")) for r in range(replays)]
        by_strategy[name] = np.array([[regrets(lattice, q, order) for q in goals] for order in orders])
    return by_strategy


def replay_table(by_strategy: Mapping[str, Array], goals: Sequence[Goal], level: float) -> pd.DataFrame:
    """advisor.csv: a row per goal, strategy and number of trainings; `by_strategy` is what `replay` returns.

    With two goals there are also rows for `both`, whose regret is the larger one. A share `level` of the
    replays lies between `low` and `high`.
    """
    rows = []
    named = [(str(q), [i]) for i, q in enumerate(goals)]
    if len(goals) > 1:
        named.append((BOTH, list(range(len(goals)))))
    for goal, places in named:
        for strategy, all_regrets in by_strategy.items():
            regret = all_regrets[:, places].max(1)
            known = np.isfinite(regret).all(0)  # before that, some replay has no answer at all
            low, high = percentile_interval(np.where(known, regret, 0.0), level)
            mean, share = np.where(known, regret, 0.0).mean(0), (regret <= FOUND).mean(0)
            for t in range(regret.shape[1]):
                shown = (mean[t], low[t], high[t]) if known[t] else (np.nan,) * 3
                rows.append((goal, strategy, t + 1, len(regret), *shown, share[t]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def coverage_table(lattice: KnownLattice, parts: int, seed: int, level: float) -> pd.DataFrame:
    """advisor_coverage.csv: how often predicted intervals contain the scores of left-out subsets.

    A row per number of trained subsets: `coverage` (share), `error` (root mean square, points), `width` (mean
    of the intervals, points).
    """
    many, rows = len(lattice.subsets), []
    for trained in sorted({round(many * share) for share in (0.2, 0.33, 0.5, 0.66)}):
        held, squares, widths = [], [], []
        for place in range(parts):
            chosen = generator(seed, f"part {trained} {place}").permutation(many)[:trained]
            prediction = predict_lattice(lattice.part(sorted(chosen)), lattice.pool)
            low, high = prediction.interval(level)
            left = ~prediction.measured
            held.append(((low <= lattice.values) & (lattice.values <= high))[left].mean())
            squares.append(((prediction.mean - lattice.values)[left] ** 2).mean())
            widths.append((high - low)[left].mean())
        rows.append((trained, parts, np.mean(held), np.sqrt(np.mean(squares)), np.mean(widths)))
    return pd.DataFrame(rows, columns=list(COVERAGE_COLUMNS))
