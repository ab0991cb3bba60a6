"""The design advisor: which subset is worth training next, and whether to stop.

Two questions can be asked, alone or together. *Best*: which subset of at most k encoders has the highest
score? *Match*: which proper subset scores within a margin of the full pool? A training is worth the
probability that it answers an open question, summed over the questions; with costs, that probability per unit
of cost. On simulated lattices this found the answers at least as often as expected improvement in points did
(docs/advisor.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr

from encoder_roles.analysis.advisor.predictor import Prediction, Scores, predict_lattice
from encoder_roles.analysis.statistics import Array, generator
from encoder_roles.study.names import StudyError

DRAWS = 4096  # of the whole lattice: what probabilities of being the best are counted on


@dataclass(frozen=True)
class Goal:
    """`best` of at most `at_most` encoders; with `margin` (points), one that falls short of the full pool by
    no more than that; with `affordable`, one of these subsets (`budget` says in words what they share).
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


@dataclass(frozen=True)
class Advice:
    """`predictions`: a row per subset (subset, encoders, trained, score, low, high, probability_best of each
    question). `next`: the best trainings, most useful first (subset, score, low, high, worth, reason), empty
    when every subset that can be an answer is trained. `statements`: a sentence per question on where it
    stands.
    """

    predictions: pd.DataFrame
    next: pd.DataFrame
    statements: tuple[str, ...]

    def __str__(self) -> str:
        shown = {"index": False, "float_format": "{:.2f}".format}
        head = "Next to train:" if len(self.next) else "Every subset that can be an answer is trained."
        lines = [self.predictions.to_string(**shown), "", head]  # type: ignore[call-overload]
        for place, (subset, reason) in enumerate(zip(self.next["subset"], self.next["reason"], strict=True)):
            lines.append(f"  {place + 1}. {subset}: {reason}")
        return "\n".join([*lines, "", *self.statements])


def advise(
    scores: Scores,
    pool: Sequence[str],
    questions: Sequence[Goal],
    *,
    costs: Mapping[str, float] | None = None,
    covariates: Mapping[str, Sequence[float]] | None = None,
    count: int = 3,
    level: float = 0.95,
) -> Advice:
    """What a part of the lattice says about the rest, and the next subsets worth training.

    `scores` maps each trained subset to its score (0-100) and standard error. `costs` maps every subset to
    what training it costs, in any unit: worth is then per unit. Equal input gives equal output. Raises
    StudyError, one line, on input that nothing can be made of (see `predict_lattice`), a question without a
    possible answer, and missing costs.
    """
    check_questions(questions, len(pool))
    prediction = predict_lattice(scores, pool, covariates)
    price = _prices(costs, prediction)
    worth = training_worth(prediction, questions) / price
    order = [i for i in np.argsort(-worth, kind="stable") if worth[i] > 0][:count]
    low, high = prediction.interval(level)
    size = count_encoders(prediction.subsets)
    table = pd.DataFrame(
        {
            "subset": prediction.subsets,
            "encoders": size,
            "trained": np.where(prediction.measured, "yes", "no"),
            "score": prediction.mean,
            "low": low,
            "high": high,
        }
    )
    chances = [chance_of_answer(prediction, question) for question in questions]
    for question, chance in zip(questions, chances, strict=True):
        table["p_best" if question.margin is None else "p_match"] = chance
    following = table.iloc[order][["subset", "score", "low", "high"]].assign(worth=worth[order])
    following["reason"] = [_reason(i, prediction, questions, chances) for i in order]
    said = tuple(_state(prediction, q, c) for q, c in zip(questions, chances, strict=True))
    return Advice(table, following.reset_index(drop=True), said)


def check_questions(questions: Sequence[Goal], n: int) -> None:
    """Raises StudyError when a question is asked twice or has no possible answer in a pool of n encoders."""
    if not questions:
        raise StudyError("questions: none asked; ask for the best of at most k encoders, or for a match")
    if len({q.margin is None for q in questions}) < len(questions):
        raise StudyError("questions: one question of a kind can be asked at a time")
    for question in questions:
        most = n if question.margin is None else n - 1  # the full pool matches itself
        if not 1 <= question.at_most <= most:
            raise StudyError(f"question '{question}': the number of encoders must be 1 to {most} here")
        if question.affordable is not None and not question.affordable:
            raise StudyError(f"question '{question}': no subset costs so little")
        if question.margin is not None and not question.margin >= 0:
            raise StudyError(f"question '{question}': the margin must be a number of points >= 0")


def count_encoders(subsets: Sequence[str]) -> npt.NDArray[np.int64]:
    """The number of encoders of each subset."""
    return np.array([subset.count("+") + 1 for subset in subsets], dtype=np.int64)


def training_worth(prediction: Prediction, questions: Sequence[Goal]) -> Array:
    """Chance that training each subset answers an open question, summed over the questions.

    Zero for what is trained or can be no answer, and for a match once one is trained. Without bound for the
    full pool while a match with it is asked for and it is not trained: nothing can be compared with it
    before.
    """
    worth = np.zeros(len(prediction.mean))
    for question in questions:
        if not matched(prediction, question):
            worth += chance_of_answer(prediction, question)
        if question.margin is not None and not prediction.measured[-1]:
            worth[-1] = np.inf
    return np.where(prediction.measured, 0.0, worth)


def matched(prediction: Prediction, question: Goal) -> bool:
    """Whether a match is asked for, and a trained subset is one."""
    return (
        question.margin is not None
        and bool(prediction.measured[-1])
        and bool(len(matches(prediction, question)))
    )


def matches(prediction: Prediction, question: Goal) -> np.ndarray:
    """The trained subsets that fall short of the full pool by no more than the question's margin."""
    lacking = prediction.mean[-1] - (question.margin or 0.0) - prediction.mean
    return np.flatnonzero(question.allowed(prediction.subsets) & prediction.measured & (lacking <= 0))


def chance_of_answer(prediction: Prediction, question: Goal) -> Array:
    """Probability that each subset is the best of those allowed, or matches the full pool; 0 where not
    allowed.
    """
    allowed = question.allowed(prediction.subsets)
    if question.margin is None:
        draws = lattice_draws(prediction)[:, allowed]
        chance = np.zeros(len(allowed))
        chance[allowed] = np.bincount(draws.argmax(1), minlength=draws.shape[1]) / len(draws)
        return chance
    covariance = prediction.covariance
    variance = np.diag(covariance) + covariance[-1, -1] - 2 * covariance[-1]
    ahead = prediction.mean - prediction.mean[-1] + question.margin
    return np.where(allowed, ndtr(ahead / np.sqrt(np.maximum(variance, 1e-12))), 0.0)


def lattice_draws(prediction: Prediction) -> Array:
    """Draws (draws, subsets) of all scores together; always from the same stream."""
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


def _reason(i: int, prediction: Prediction, questions: Sequence[Goal], chances: Sequence[Array]) -> str:
    if not prediction.measured[-1] and i == len(prediction.mean) - 1:
        return "the full pool, which others are to match"
    parts = [
        f"{'the best' if q.margin is None else 'a match'} with probability {chance[i]:.2f}"
        for q, chance in zip(questions, chances, strict=True)
        if chance[i] > 0 and not matched(prediction, q)
    ]
    return ", ".join(parts)


def _state(prediction: Prediction, question: Goal, chance: Array) -> str:
    """Where a question stands: the answer so far, how sure it is, what stopping here is expected to cost."""
    allowed = question.allowed(prediction.subsets)
    trained = np.flatnonzero(allowed & prediction.measured)
    ahead = int(np.argmax(np.where(allowed, chance, -1)))
    likeliest = f"the likeliest is {prediction.subsets[ahead]} ({chance[ahead]:.2f})"
    if not len(trained):
        return f"{question}: none of them is trained; {likeliest}."
    mean = prediction.mean
    best = int(trained[np.argmax(mean[trained])])
    if question.margin is None:
        draws = lattice_draws(prediction)
        regret = float((draws[:, allowed].max(1) - draws[:, best]).mean())
        return (
            f"{question}: {prediction.subsets[best]} ({mean[best]:.1f}) is it with probability "
            f"{chance[best]:.2f}; stopping here is expected to cost {regret:.2f} points."
        )
    if not prediction.measured[-1]:
        return f"{question}: the full pool is not trained, so none is known to be; {likeliest}."
    if not len(found := matches(prediction, question)):
        lacks = mean[-1] - question.margin - mean[best]
        return (
            f"{question}: none of those trained; {prediction.subsets[best]} lacks {lacks:.2f} more; "
            f"{likeliest}."
        )
    smallest = min(found, key=lambda i: (int(count_encoders(prediction.subsets)[i]), -mean[i]))
    return (
        f"{question}: {prediction.subsets[smallest]} ({mean[smallest]:.1f}, the full pool {mean[-1]:.1f}) "
        f"is, with probability {chance[smallest]:.2f}."
    )
