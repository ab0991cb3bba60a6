"""Cooperative-game measures of the lattice through shapiq: games.csv.

Every index is linear in the 2^n values. shapiq therefore computes it once for each unit game (1 for one
subset, 0 for all others). The matrix of these results is then applied to the estimate and to all resamples.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, Literal

import numpy as np
import pandas as pd

from encoder_roles.analysis.lattice import LatticeSet, subset_name
from encoder_roles.analysis.statistics import Array
from encoder_roles.analysis.tables import long_table

# name in games.csv -> (shapiq's name, orders of the coalitions kept; None for all)
INDICES: dict[str, tuple[Literal["SV", "BV", "SII", "Moebius"], int | None]] = {
    "shapley": ("SV", 1),
    "banzhaf": ("BV", 1),
    "shapley_interaction": ("SII", 2),  # Grabisch and Roubens 1999, pairs
    "moebius": ("Moebius", None),  # Harsanyi dividends, the empty coalition's v(blind) included
}


@cache
def index_map(index: str, n: int) -> tuple[tuple[int, ...], Array]:
    """The linear map of an index: (coalitions as subset indices, matrix (coalitions, 2^n)).

    >>> coalitions, matrix = index_map("moebius", 2)
    >>> (matrix @ [20.0, 50.0, 40.0, 60.0]).tolist()  # blind, each encoder's gain, their interaction
    [20.0, 30.0, 20.0, -10.0]
    """
    from shapiq.game_theory.exact import ExactComputer  # 3 seconds to import, and only games need it

    name, order = INDICES[index]
    coalitions = [c for c in range(2**n) if order is None or c.bit_count() == order]
    matrix = np.zeros((len(coalitions), 2**n))
    for unit in range(2**n):
        values = ExactComputer(partial(_unit_game, unit), n)(name, n if order is None else order)
        for row, coalition in enumerate(coalitions):
            place = values.interaction_lookup.get(tuple(i for i in range(n) if coalition >> i & 1))
            matrix[row, unit] = 0.0 if place is None else values.values[place]
    return tuple(coalitions), matrix


def _unit_game(unit: int, coalitions: Any) -> Array:
    """Worth of coalitions (rows of a membership matrix): 1 for the coalition `unit`, 0 for all others."""
    rows = np.asarray(coalitions)
    worth: Array = (rows @ (1 << np.arange(rows.shape[1])) == unit).astype(float)
    return worth


def shapley(values: Array) -> Array:
    """Shapley value of every encoder in points, in pool order: values (..., 2^n) -> (..., n).

    >>> shapley(np.array([20.0, 50.0, 40.0, 60.0])).tolist()  # blind, clip, dinov2, clip+dinov2
    [25.0, 15.0]
    """
    return values @ index_map("shapley", values.shape[-1].bit_length() - 1)[1].T


def game_table(lattices: LatticeSet) -> pd.DataFrame:
    """games.csv: every index of every lattice, overall and by group.

    A lattice with a missing subset has no rows.
    """
    levels = lattices.levels[lattices.levels["level"] != "benchmark"]
    columns = ["level", "group", "operator", "index", "coalition", "value", "low", "high"]
    tables = []
    for lattice in lattices.all:
        if lattice.missing():
            continue
        for index in INDICES:
            coalitions, matrix = index_map(index, len(lattices.pool))
            low, high = lattices.bounds(lattice.draws[:, levels.index] @ matrix.T)
            values = {"value": lattice.point[levels.index] @ matrix.T, "low": low, "high": high}
            names = {"coalition": [subset_name(c, lattices.pool) for c in coalitions]}
            table = long_table([levels, names], values).assign(operator=lattice.operator, index=index)
            tables.append(table[columns])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
