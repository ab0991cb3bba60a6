"""What matplotlib drew, read back from its artists."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, QuadMesh
from matplotlib.colors import to_hex


def points(axes: Axes, number: int = 0) -> np.ndarray:
    """The places of a scatter's points, (n, 2), in the order of the rows."""
    return np.asarray(scatters(axes)[number].get_offsets())


def faces(axes: Axes, number: int = 0) -> list[str]:
    return [to_hex(colour) for colour in scatters(axes)[number].get_facecolor()]


def scatters(axes: Axes) -> list[PathCollection]:
    return [c for c in axes.collections if isinstance(c, PathCollection) and len(c.get_offsets())]


def segments(axes: Axes, number: int = -1) -> np.ndarray:
    """The two ends of each interval of one set of lines, (n, 2, 2)."""
    lines = [collection for collection in axes.collections if isinstance(collection, LineCollection)]
    return np.array(lines[number].get_segments())


def cells(axes: Axes) -> np.ndarray:
    """The values that the colours of a heat map show; NaN where a cell is white."""
    (mesh,) = [collection for collection in axes.collections if isinstance(collection, QuadMesh)]
    return np.ma.filled(mesh.get_array(), np.nan)


def labels(axes: Axes) -> dict[tuple[int, int], list[str]]:
    """(row, column) of a cell -> its texts from top to bottom."""
    written: dict[tuple[int, int], list[str]] = {}
    for text in sorted(axes.texts, key=lambda text: text.get_position()[1]):
        x, y = text.get_position()
        written.setdefault((int(y), int(x)), []).append(text.get_text())
    return written


def near(drawn: object, expected: object) -> None:
    np.testing.assert_allclose(np.asarray(drawn, float), np.asarray(expected, float), rtol=1e-9, atol=1e-9)


def same_rows(drawn: object, expected: object) -> None:
    """The same rows in any order."""
    one, two = (np.asarray(rows, float) for rows in (drawn, expected))
    near(one[np.lexsort(one.T)], two[np.lexsort(two.T)])
