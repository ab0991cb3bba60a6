"""Heat maps of the paper: cells coloured by seaborn, with numbers that can be read on every colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import seaborn as sns  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.style import INK, text_on

Place = tuple[int, int]  # row, column


@dataclass(frozen=True)
class Label:
    """What is written in a cell: a number and, beneath it, the half-width of its interval or nothing."""

    text: str
    beneath: str = ""
    bold: bool = False


def draw_matrix(
    axes: Axes,
    values: npt.NDArray[np.float64],
    labels: Mapping[Place, Label],
    *,
    cmap: str,
    limits: tuple[float, float],
    gap: float = 1.5,
    size: float = 6.8,
) -> None:
    """Colour a matrix and write its labels; the centre of cell (i, j) is at x = j + 0.5, y = i + 0.5.

    Args:
        axes: where the matrix is drawn, without ticks.
        values: (rows, columns), what the colours show; NaN leaves a cell white.
        labels: (i, j) -> what is written in the cell.
        cmap: a colour map of matplotlib.
        limits: the values at the two ends of the colour map.
        gap: width of the white lines between cells, in points.
        size: size of the numbers, in points.
    """
    low, high = limits
    colours = {"cmap": cmap, "vmin": low, "vmax": high, "cbar": False}
    lines = {"linewidths": gap, "linecolor": "white"}
    sns.heatmap(
        values, mask=np.isnan(values), ax=axes, xticklabels=False, yticklabels=False, **colours, **lines
    )
    inks = cell_inks(values, cmap, limits)
    for (i, j), label in labels.items():
        look: dict[str, Any] = {"ha": "center", "color": inks[i, j]}
        weight = "bold" if label.bold else "normal"
        if not label.beneath:
            axes.text(j + 0.5, i + 0.5, label.text, va="center", fontsize=size, weight=weight, **look)
            continue
        axes.text(j + 0.5, i + 0.47, label.text, va="bottom", fontsize=size, weight=weight, **look)
        axes.text(j + 0.5, i + 0.55, label.beneath, va="top", fontsize=6, **look)


def cell_inks(values: npt.NDArray[np.float64], cmap: str, limits: tuple[float, float]) -> dict[Place, str]:
    """(i, j) -> the colour of type that reads best on the cell."""
    colour, scale = mpl.colormaps[cmap], Normalize(*limits)
    return {
        place: INK if np.isnan(value) else text_on(colour(scale(value)))
        for place, value in np.ndenumerate(values)
    }


def name_encoders(axes: Axes, pool: Sequence[str]) -> None:
    """Name the rows and the columns of a matrix of encoders."""
    names, centres = [encoder_name(encoder) for encoder in pool], np.arange(len(pool)) + 0.5
    axes.set_xticks(centres, names)
    axes.set_yticks(centres, names)
    axes.tick_params(length=0)


def symmetric_limits(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Limits of a colour map about zero that hold all values; (-1, 1) where there is none."""
    reach = float(np.nanmax(np.abs(values), initial=0.0, where=~np.isnan(values))) or 1.0
    return -reach, reach
