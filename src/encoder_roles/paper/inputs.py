"""What the text of the paper is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from encoder_roles.analysis.claims.claim import Claim
from encoder_roles.study.names import NO_MASK, name_subset
from encoder_roles.study.sections import ConvergenceGate
from encoder_roles.study.stages import (
    AlignStage,
    EffectiveRankStage,
    MaskStage,
    PaperStage,
    RoleStage,
    TuneStage,
)


@dataclass(frozen=True)
class PaperInputs:
    """The tables and settings that the text is made from, as the analysis wrote them."""

    scores: pd.DataFrame
    lattice: pd.DataFrame
    roles: pd.DataFrame
    pairs: pd.DataFrame
    games: pd.DataFrame
    differences: pd.DataFrame
    chains: pd.DataFrame
    costs: pd.DataFrame
    gates: pd.DataFrame
    convergence: pd.DataFrame
    loss_edges: pd.DataFrame
    complementarity: pd.DataFrame
    records: pd.DataFrame  # kept and left out; no row in a study of the procedural world
    claims: Sequence[Claim]
    settings: RoleStage
    gate: ConvergenceGate
    design: PaperStage
    align: AlignStage
    tune: TuneStage
    masks: MaskStage
    rank: EffectiveRankStage

    @property
    def pool(self) -> tuple[str, ...]:
        return self.settings.pool

    @property
    def full(self) -> str:
        return name_subset(self.pool, self.pool)

    @property
    def seeds(self) -> int:
        return int(self.scores.loc[self.scores["operator"] == NO_MASK, "seed"].nunique())
