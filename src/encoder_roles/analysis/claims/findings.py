"""The tables and arrays that the claims are read from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from encoder_roles.analysis.claims.claim import seed_note
from encoder_roles.analysis.claims.power import needed
from encoder_roles.analysis.lattice import LatticeSet, subset_name
from encoder_roles.analysis.measures.pairs import Pairs, Ranks
from encoder_roles.analysis.statistics import Array
from encoder_roles.study.stages import RoleStage


@dataclass(frozen=True)
class Findings:
    """The tables and arrays that the claims are read from."""

    settings: RoleStage
    lattices: LatticeSet
    pairs: Pairs
    ranks: Ranks
    costs: pd.DataFrame
    rankings: pd.DataFrame
    regression: pd.DataFrame

    @property
    def point(self) -> Array:
        """Overall retrained scores, (2^n,)."""
        point: Array = self.lattices.retrained.point[0]
        return point

    @property
    def draws(self) -> Array:
        """Their resamples, (resamples, 2^n)."""
        draws: Array = self.lattices.retrained.draws[:, 0]
        return draws

    @property
    def ranks_known(self) -> bool:
        """Whether any rank ratio was given."""
        return not np.isnan(self.ranks.ratio).all()

    @property
    def seeds_known(self) -> bool:
        """Whether the noise between seeds is in the resamples: measured, stated or estimated."""
        return not np.isnan(self.lattices.seed_variance)

    @property
    def alpha(self) -> float:
        """1 - the confidence level: a difference is one whose corrected p lies below it."""
        return 1 - self.settings.statistics.level

    @property
    def margin(self) -> float:
        """Points below which a difference counts as little."""
        return self.settings.statistics.margin

    @property
    def seed_note(self) -> str:
        """What the intervals say about the noise between training seeds."""
        stated = self.settings.statistics.seed_deviation
        usual = seed_note(self.lattices.seeds, stated, self.lattices.measured)
        return self.lattices.interval_note or usual

    def name(self, index: int) -> str:
        """The name of a subset, `clip+sam`."""
        return subset_name(index, self.lattices.pool)

    def bounds(self, draws: Array) -> tuple[float, float]:
        """The interval of one number's resamples, (resamples,)."""
        low, high = self.lattices.bounds(draws)
        return float(low), float(high)

    def needed(self, plus: int, minus: int, threshold: float = 0.0, comparisons: int = 1) -> str:
        """The seeds and questions that decide whether v(plus) - v(minus) lies above or below a threshold.

        Args:
            plus, minus: subset indices.
            threshold: in points.
            comparisons: how many differences the verdict is corrected over.
        """
        if not self.seeds_known or not len(self.draws):
            return ""
        seeds, variance = self.lattices.seeds, 2 * self.lattices.seed_variance
        total = float((self.draws[:, plus] - self.draws[:, minus]).var())
        return needed(
            distance=float(self.point[plus] - self.point[minus] - threshold),
            question_variance=max(total - variance / seeds, 0.0),
            seed_variance=variance,
            questions=int(self.lattices.levels["n"].iloc[0]),
            alpha=self.alpha / comparisons,
        )
