"""The design advisor: which subset is worth training next, and whether to stop.

There are two goals, which can be combined. *Best*: the subset of at most k encoders with the highest score.
*Match*: a proper subset that scores within a margin of the full pool.

A training is worth the probability that it reaches an open goal, summed over the goals; with costs, that
probability per unit of cost. On simulated lattices this reaches the goals at least as often as expected
improvement in points does (docs/advisor.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr

from encoder_roles.analysis.advisor.predictor import Prediction, Scores, predict_lattice
from encoder_roles.analysis.external.summary import to_html
from encoder_roles.analysis.statistics import Array, generator
from encoder_roles.provenance import write_table, write_text
from encoder_roles.study.names import StudyError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DRAWS = 4096  # draws of the lattice, from which probabilities of being the best are counted


@dataclass(frozen=True)
class Goal:
    """What to find: the best subset, or with a margin one that matches the full pool.

    Attributes:
        at_most: the most encoders that the subset may have.
        margin: the points by which it may fall short of the full pool; None for the best subset.
        affordable: the subsets that can be chosen; None for all.
        budget: what the affordable subsets have in common, in words.
    """

    at_most: int
    margin: float | None = None
    affordable: frozenset[str] | None = None
    budget: str = ""

    def allowed(self, subsets: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which of these subsets can be the answer."""
        small = count_encoders(subsets) <= self.at_most
        return np.array(
            [
                bool(few) and (self.affordable is None or subset in self.affordable)
                for few, subset in zip(small, subsets, strict=True)
            ]
        )

    def __str__(self) -> str:
        budget = f" for {self.budget}" if self.budget else ""
        if self.margin is None:
            return f"best of at most {self.at_most} encoders{budget}"
        return f"at most {self.at_most} encoders{budget}, within {self.margin:g} points of the full pool"


@dataclass(frozen=True, repr=False)
class Advice:
    """What to train next, and how sure the answers are so far. As text: a table and sentences. A notebook
    shows it as HTML.

    Attributes:
        predictions: a row per subset: subset, encoders, trained, measured (its own score, NaN if it is not
            trained), score (as predicted from all trained subsets), low, high, and for each goal the
            probability that the subset reaches it (`p_best`, `p_match`). All scores are 0-100.
        next: the trainings worth most, best first: subset, score, low, high, worth, reason. Empty when every
            subset that can reach a goal is trained.
        statements: a sentence per goal on the answer so far.
    """

    predictions: pd.DataFrame
    next: pd.DataFrame
    statements: tuple[str, ...]

    @property
    def pool(self) -> tuple[str, ...]:
        """The encoders, in order."""
        return tuple(self.predictions["subset"].iloc[-1].split("+"))

    def __repr__(self) -> str:
        table = self._named().to_string(index=False, na_rep="", float_format="{:.2f}".format)
        return f"{table}\n\n{self._sentences()}"

    def _repr_html_(self) -> str:
        return to_html(self._sentences(), self._named())

    def _named(self) -> pd.DataFrame:
        """The predictions under the names that they are shown with."""
        return self.predictions.rename(columns={"score": "predicted"})

    def _sentences(self) -> str:
        lines = ["Next to train:" if len(self.next) else "Every subset that can be an answer is trained."]
        for place, (subset, reason) in enumerate(zip(self.next["subset"], self.next["reason"], strict=True)):
            lines.append(f"  {place + 1}. {subset}: {reason}")
        return "\n".join([*lines, "", *self.statements])

    def save(self, folder: Path | str, *, figures: bool = True) -> None:
        """Write predictions.csv, next.csv, advice.txt and figures/subset_lattice.png into a folder."""
        output = Path(folder)
        write_table(output / "predictions.csv", self.predictions)
        write_table(output / "next.csv", self.next)
        write_text(output / "advice.txt", f"{self}\n")
        if figures:
            (output / "figures").mkdir(exist_ok=True)
            self.figure("subset_lattice").savefig(output / "figures" / "subset_lattice.png", dpi=220)

    def figure(self, name: str) -> Figure:
        """The figure `subset_lattice`: the predicted scores with their intervals.

        Raises:
            StudyError: there is no figure of this name.
        """
        # by name: drawing stands a floor above
        draw = resolve_name("encoder_roles.paper.drawing:draw_predictions")
        figure: Figure = draw(self.predictions, self.pool, name)
        return figure


def advise(
    scores: Scores,
    pool: Sequence[str],
    goals: Sequence[Goal],
    *,
    costs: Mapping[str, float] | None = None,
    covariates: Mapping[str, Sequence[float]] | None = None,
    count: int = 3,
    level: float = 0.95,
) -> Advice:
    """Predict the untrained subsets from the trained ones, and name those worth training next.

    Args:
        scores: the score (0-100) and standard error of each trained subset.
        pool: the encoders, in order.
        goals: one or both of the best subset and a match.
        costs: the training cost of every subset, in any unit; worth is then per unit.
        covariates: numbers known of every subset, trained or not.
        count: the most trainings to name.
        level: the confidence level of the intervals.

    Equal input gives equal output. Raises StudyError, one line, on unusable input (see `predict_lattice`), a
    goal that no subset can reach, and missing costs.

    >>> scores = {"clip": (50.0, 0.5), "dinov2": (45.0, 0.5), "sam": (30.0, 0.5)}
    >>> advice = advise(scores, ("clip", "dinov2", "sam"), [Goal(at_most=2)])
    >>> advice.next["subset"][0]
    'clip+dinov2'
    """
    check_goals(goals, len(pool))
    prediction = predict_lattice(scores, pool, covariates)
    price = _prices(costs, prediction)
    worth = training_worth(prediction, goals) / price
    order = [i for i in np.argsort(-worth, kind="stable") if worth[i] > 0][:count]
    low, high = prediction.interval(level)
    size = count_encoders(prediction.subsets)
    table = pd.DataFrame(
        {
            "subset": prediction.subsets,
            "encoders": size,
            "trained": np.where(prediction.measured, "yes", "no"),
            "measured": prediction.scores,
            "score": prediction.mean.clip(0, 100),
            "low": low,
            "high": high,
        }
    )
    chances = [chance_of_answer(prediction, goal) for goal in goals]
    for goal, chance in zip(goals, chances, strict=True):
        table["p_best" if goal.margin is None else "p_match"] = chance
    following = table.iloc[order][["subset", "score", "low", "high"]].assign(worth=worth[order])
    following["reason"] = [_reason(i, prediction, goals, chances) for i in order]
    statements = tuple(_state(prediction, q, c) for q, c in zip(goals, chances, strict=True))
    return Advice(table, following.reset_index(drop=True), statements)


def check_goals(goals: Sequence[Goal], n: int) -> None:
    """Refuse two goals of one kind, and a goal that no subset of n encoders can reach. Raises StudyError."""
    if not goals:
        raise StudyError("goals: none given; give the best of at most k encoders, or a match")
    if len({q.margin is None for q in goals}) < len(goals):
        raise StudyError("goals: two of one kind; give at most one best subset and one match")
    for goal in goals:
        most = n if goal.margin is None else n - 1  # the full pool matches itself
        if not 1 <= goal.at_most <= most:
            raise StudyError(f"goal '{goal}': the number of encoders must be 1 to {most} here")
        if goal.affordable is not None and not goal.affordable:
            raise StudyError(f"goal '{goal}': no subset costs so little")
        if goal.margin is not None and not goal.margin >= 0:
            raise StudyError(f"goal '{goal}': the margin must be a number of points >= 0")


def count_encoders(subsets: Sequence[str]) -> npt.NDArray[np.int64]:
    """The number of encoders of each subset."""
    return np.array([subset.count("+") + 1 for subset in subsets], dtype=np.int64)


def training_worth(prediction: Prediction, goals: Sequence[Goal]) -> Array:
    """Chance that training each subset reaches an open goal, summed over the goals.

    Zero for trained subsets, for those that cannot reach a goal, and for a match once one is trained.
    Infinite for an untrained full pool if a match is a goal: nothing can be compared with it before.
    """
    worth = np.zeros(len(prediction.mean))
    for goal in goals:
        if not matched(prediction, goal):
            worth += chance_of_answer(prediction, goal)
        if goal.margin is not None and not prediction.measured[-1]:
            worth[-1] = np.inf
    return np.where(prediction.measured, 0.0, worth)


def matched(prediction: Prediction, goal: Goal) -> bool:
    """Whether the goal is a match, and a trained subset is one."""
    return goal.margin is not None and bool(prediction.measured[-1]) and bool(len(matches(prediction, goal)))


def matches(prediction: Prediction, goal: Goal) -> np.ndarray:
    """The trained subsets that fall short of the full pool by no more than the goal's margin."""
    lacking = prediction.mean[-1] - (goal.margin or 0.0) - prediction.mean
    return np.flatnonzero(goal.allowed(prediction.subsets) & prediction.measured & (lacking <= 0))


def chance_of_answer(prediction: Prediction, goal: Goal) -> Array:
    """Probability that each subset is the best of those allowed, or matches the full pool; 0 where not
    allowed.
    """
    allowed = goal.allowed(prediction.subsets)
    if goal.margin is None:
        draws = lattice_draws(prediction)[:, allowed]
        chance = np.zeros(len(allowed))
        chance[allowed] = np.bincount(draws.argmax(1), minlength=draws.shape[1]) / len(draws)
        return chance
    covariance = prediction.covariance
    variance = np.diag(covariance) + covariance[-1, -1] - 2 * covariance[-1]
    ahead = prediction.mean - prediction.mean[-1] + goal.margin
    return np.where(allowed, ndtr(ahead / np.sqrt(np.maximum(variance, 1e-12))), 0.0)


def lattice_draws(prediction: Prediction) -> Array:
    """Joint draws (draws, subsets) of all scores, always from the same stream."""
    values, vectors = np.linalg.eigh(prediction.covariance)
    normal = generator(0, "advisor").standard_normal((DRAWS, len(values)))
    draws: Array = prediction.mean + normal @ (vectors * np.sqrt(np.maximum(values, 0))).T
    return draws


def _prices(costs: Mapping[str, float] | None, prediction: Prediction) -> Array:
    if costs is None:
        return np.ones(len(prediction.subsets))
    missing = [s for s in prediction.subsets if s not in costs]
    if missing:
        raise StudyError(
            f"costs: no row of {missing[0]!r}; every subset that could be trained needs its cost"
        )
    price = np.array([costs[s] for s in prediction.subsets], dtype=float)
    if not (np.isfinite(price) & (price > 0)).all():
        wrong = prediction.subsets[int(np.argmin(np.isfinite(price) & (price > 0)))]
        raise StudyError(f"costs: {wrong!r}: the cost is not a positive number")
    return price


def _reason(i: int, prediction: Prediction, goals: Sequence[Goal], chances: Sequence[Array]) -> str:
    if not prediction.measured[-1] and i == len(prediction.mean) - 1:
        return "the full pool, which others are to match"
    parts = [
        f"{'the best' if q.margin is None else 'a match'} with probability {chance[i]:.2f}"
        for q, chance in zip(goals, chances, strict=True)
        if chance[i] > 0 and not matched(prediction, q)
    ]
    return ", ".join(parts)


def _state(prediction: Prediction, goal: Goal, chance: Array) -> str:
    """The answer to a goal so far, its probability, and the expected cost of stopping here."""
    allowed = goal.allowed(prediction.subsets)
    trained = np.flatnonzero(allowed & prediction.measured)
    ahead = int(np.argmax(np.where(allowed, chance, -1)))
    likeliest = f"the likeliest is {prediction.subsets[ahead]} ({chance[ahead]:.2f})"
    if not len(trained):
        return f"{goal}: none of them is trained; {likeliest}."
    mean = prediction.mean
    best = int(trained[np.argmax(mean[trained])])
    if goal.margin is None:
        draws = lattice_draws(prediction)
        regret = float((draws[:, allowed].max(1) - draws[:, best]).mean())
        return (
            f"{goal}: {prediction.subsets[best]} ({mean[best]:.1f}) is it with probability "
            f"{chance[best]:.2f}; stopping here is expected to cost {regret:.2f} points."
        )
    if not prediction.measured[-1]:
        return f"{goal}: the full pool is not trained, so none is known to be; {likeliest}."
    if not len(matching := matches(prediction, goal)):
        lacks = mean[-1] - goal.margin - mean[best]
        return (
            f"{goal}: none of those trained; {prediction.subsets[best]} lacks {lacks:.2f} more; {likeliest}."
        )
    smallest = min(matching, key=lambda i: (int(count_encoders(prediction.subsets)[i]), -mean[i]))
    return (
        f"{goal}: {prediction.subsets[smallest]} ({mean[smallest]:.1f}, the full pool {mean[-1]:.1f}) "
        f"is, with probability {chance[smallest]:.2f}."
    )
