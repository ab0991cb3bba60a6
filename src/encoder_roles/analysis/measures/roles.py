"""Capacity, Necessity and the measures that follow from them: roles.csv.

Every measure takes the values (..., 2^n) of a lattice and returns (..., n): one number per encoder, in pool
order.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from encoder_roles.analysis.lattice import RETRAINED, Lattice, LatticeSet, singles
from encoder_roles.analysis.statistics import Array
from encoder_roles.analysis.tables import long_table

WHOLE_POOL = "all"  # the encoder column of a measure of the pool rather than of one encoder


def capacity(values: Array) -> Array:
    """C(e) = v({e}): the score of the encoder alone, in points.

    >>> import numpy as np
    >>> values = np.array([20.0, 50.0, 40.0, 60.0])  # blind, clip, dinov2, clip+dinov2
    >>> capacity(values).tolist()
    [50.0, 40.0]
    """
    return values[..., singles(_encoders(values))]


def necessity(values: Array) -> Array:
    """N(e) = v(P) - v(P without e): the points that the full pool loses without the encoder.

    >>> import numpy as np
    >>> necessity(np.array([20.0, 50.0, 40.0, 60.0])).tolist()
    [20.0, 10.0]
    """
    full = values.shape[-1] - 1
    return values[..., [full]] - values[..., [full ^ bit for bit in singles(_encoders(values))]]


def relative_necessity(values: Array) -> Array:
    """N(e) / v(P). On masks this is the conditional utilisation rate u(e) of arXiv 2507.03262 (CUR).

    >>> import numpy as np
    >>> relative_necessity(np.array([20.0, 50.0, 40.0, 60.0])).round(3).tolist()
    [0.333, 0.167]
    """
    ratio: Array = necessity(values) / values[..., [-1]]
    return ratio


def redundancy(values: Array) -> Array:
    """R(e) = C(e) - v(blind) - N(e), in points: positive if others can replace e, negative for synergy.

    >>> import numpy as np
    >>> redundancy(np.array([20.0, 50.0, 40.0, 60.0])).tolist()
    [10.0, 10.0]
    """
    return capacity(values) - values[..., [0]] - necessity(values)


def information_gap(values: Array) -> Array:
    """IG = max u(e) - min u(e) (arXiv 2507.03262), one number for the pool: (..., 1).

    >>> import numpy as np
    >>> information_gap(np.array([20.0, 50.0, 40.0, 60.0])).round(3).tolist()
    [0.167]
    """
    u = relative_necessity(values)
    gap: Array = u.max(-1, keepdims=True) - u.min(-1, keepdims=True)
    return gap


Measure = Callable[[Array], Array]


def measures_of(lattice: Lattice) -> dict[str, Measure]:
    """The measures of a lattice in roles.csv, by name."""
    relative = "necessity_relative" if lattice.operator == RETRAINED else "cur"
    return {
        "capacity": capacity,
        "necessity": necessity,
        relative: relative_necessity,
        "redundancy": redundancy,
        "information_gap": information_gap,
    }


def role_table(lattices: LatticeSet) -> pd.DataFrame:
    """roles.csv: every measure of every encoder, lattice and level.

    A measure that needs a missing subset has no row.
    """
    tables = []
    for lattice in lattices.all:
        for name, measure in measures_of(lattice).items():
            value, (low, high) = measure(lattice.point), lattices.bounds(measure(lattice.draws))
            encoders = [WHOLE_POOL] if name == "information_gap" else list(lattices.pool)
            values = {"value": value, "low": low, "high": high}
            table = long_table([lattices.levels, {"encoder": encoders}], values)
            tables.append(table.assign(operator=lattice.operator, measure=name))
    columns = ["level", "group", "benchmark", "encoder", "operator", "measure", "value", "low", "high", "n"]
    return pd.concat(tables, ignore_index=True).dropna(subset="value")[columns].reset_index(drop=True)


def _encoders(values: Array) -> int:
    """n, from the 2^n values of the last axis."""
    return int(values.shape[-1]).bit_length() - 1
