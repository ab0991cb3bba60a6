"""Reading lattice.csv: v(S) over the subsets and w(M) over the masks, each with its interval.

The analysis computes every interval once, and these functions only select rows. A figure, a table and a
sentence that show the same score therefore show the same interval.
"""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from encoder_roles.analysis.lattice import RETRAINED
from encoder_roles.paper.names import group_order
from encoder_roles.study.names import BLIND, StudyError, all_subsets

OVERALL = "overall"


def retrained_scores(lattice: pd.DataFrame, level: str = OVERALL, name: str = OVERALL) -> pd.DataFrame:
    """v(S): columns score, low, high (0-100), indexed by subset, `blind` among them.

    `level` and `name` choose what is scored: ("group", "General"), ("benchmark", "mme").
    Raises StudyError when no model was scored on it.
    """
    return _scores(lattice, RETRAINED, level, name)


def masked_scores(
    lattice: pd.DataFrame, operator: str, level: str = OVERALL, name: str = OVERALL
) -> pd.DataFrame:
    """w(M) of the full checkpoint: columns score, low, high (0-100), indexed by the kept encoders.

    The mask that keeps none is `blind`, and the mask that keeps all is the unmasked model. Raises StudyError
    when the operator was not evaluated.
    """
    return _scores(lattice, operator, level, name)


def mask_operators(lattice: pd.DataFrame) -> list[str]:
    """The operators of the masks that were evaluated, `zero` (the default of the literature) first."""
    operators = [str(operator) for operator in lattice["operator"].unique() if operator != RETRAINED]
    return sorted(operators, key=lambda operator: (operator != "zero", operators.index(operator)))


def benchmarks_of(table: pd.DataFrame) -> list[str]:
    """The benchmarks with a row in lattice.csv or scores.csv, in the order of its rows: group by group."""
    return list(dict.fromkeys(table.loc[table["level"] == "benchmark", "benchmark"]))


def groups_of(lattice: pd.DataFrame) -> list[str]:
    """The groups of benchmarks with a row in lattice.csv, in the order of the study."""
    return group_order(lattice.loc[lattice["level"] == "group", "group"])


def in_lattice_order(names: Iterable[str], pool: tuple[str, ...]) -> list[str]:
    """Names of subsets, smallest first and in pool order, `blind` before all."""
    order = {name: i for i, name in enumerate((BLIND, *all_subsets(pool)))}
    return sorted(names, key=order.__getitem__)


def _scores(lattice: pd.DataFrame, operator: str, level: str, name: str) -> pd.DataFrame:
    rows = lattice[(lattice["level"] == level) & (lattice["benchmark"] == name)]
    rows = rows[rows["operator"] == operator]
    if rows.empty:
        raise StudyError(
            f"lattice.csv: no row with operator {operator!r} at {level} {name!r}; run assign_roles"
        )
    return rows.set_index("subset")[["score", "low", "high"]]
