"""What it would take to decide a claim: seeds and questions, from the measured variances."""

from __future__ import annotations

import math

from encoder_roles.analysis.statistics import normal_quantile

POWER = 0.8  # the chance that a verdict is reached, if the difference is what was estimated
MANY_SEEDS = 100
FACTORS = (1, 2, 4, 8, 16, 32)


def sigmas(alpha: float) -> float:
    """How many standard errors a difference must have to be separable with the chance POWER.

    >>> round(sigmas(0.05), 2)
    2.8
    """
    return normal_quantile(1 - alpha) + normal_quantile(2 * POWER - 1)


def needed(
    distance: float, question_variance: float, seed_variance: float, questions: int, alpha: float
) -> str:
    """The seeds, and where they do not suffice the questions, that separate a difference from a threshold.

    Args:
        distance: the estimate minus the threshold, in points.
        question_variance: of the estimate, from the choice of questions, in points squared.
        seed_variance: of the estimate with one training seed.
        questions: the number of questions now.
        alpha: two-sided error of the verdict, corrected for the comparisons it is one of.

    >>> needed(3.0, question_variance=0.25, seed_variance=8.0, questions=8500, alpha=0.05)
    'A verdict at a distance of 3.0 points takes 9 seeds with 8,500 questions (80% power).'
    """
    allowed = (distance / sigmas(alpha)) ** 2
    start = f"A verdict at a distance of {abs(distance):.1f} points takes"
    for factor in FACTORS:
        left = allowed - question_variance / factor
        # questions that leave hardly any room would ask for seeds without end
        if left > allowed / 4 and (seeds := max(1, math.ceil(seed_variance / left))) <= MANY_SEEDS:
            words = "one seed" if seeds == 1 else f"{seeds} seeds"
            return f"{start} {words} with {factor * questions:,} questions ({POWER:.0%} power)."
    return (
        f"{start} more than {MANY_SEEDS} seeds or {FACTORS[-1]} times the questions: the difference is too "
        "close to the threshold."
    )
