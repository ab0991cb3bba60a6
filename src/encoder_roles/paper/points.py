"""Points with their intervals, and the keys of their colours: seaborn draws the points.

The intervals come from the study's tables. seaborn estimates none of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns  # type: ignore[import-untyped]
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.style import INK, encoder_colours, encoder_markers, size_colours

ARM = "#c4c4c4"  # intervals that must not outshine their points
HOLLOW = "white"  # the face of a point that is drawn as a ring
FACE = "face"  # the edge of a point that has the colour of its face
Bounds = tuple[str, str]  # the columns of an interval: low, high


def draw_points(
    axes: Axes,
    rows: pd.DataFrame,
    *,
    x: str,
    y: str,
    by: str,
    colours: Mapping[Any, Any],
    markers: Mapping[Any, str] | str = "o",
    x_bounds: Bounds | None = None,
    y_bounds: Bounds | None = None,
    arms: str | None = None,
    edge: str | None = None,
    size: float = 13,
    width: float = 0.7,
) -> None:
    """A point per row, with a horizontal and a vertical line from `low` to `high` where bounds are given.

    Args:
        axes: where the points are drawn.
        rows: one row per point; without rows nothing is drawn.
        x, y: the columns of the position.
        by: the column that chooses colour and marker.
        colours: value of `by` -> face of the point; HOLLOW draws a ring.
        markers: value of `by` -> marker, or one marker for all.
        x_bounds, y_bounds: the columns of the intervals, in the units of `x` and `y`.
        arms: colour of the intervals; that of the point if None.
        edge: colour of the edges, or FACE; if None, white around a colour and INK around a ring.
        size: area of a point, in square points.
        width: width of the intervals, in points.
    """
    if rows.empty:
        return
    inks = [arms or colours[key] for key in rows[by]]
    if x_bounds:
        low, high = (rows[bound] for bound in x_bounds)
        axes.hlines(rows[y], low, high, colors=inks, linewidth=width, zorder=1)
    if y_bounds:
        low, high = (rows[bound] for bound in y_bounds)
        axes.vlines(rows[x], low, high, colors=inks, linewidth=width, zorder=1)
    edges = [_edge(colours[key], edge) for key in rows[by]]
    look: dict[str, Any] = {"s": size, "edgecolor": edges, "linewidth": 0.7 if edge else 0.5}
    many = {"style": by, "markers": dict(markers)} if isinstance(markers, Mapping) else {"marker": markers}
    sns.scatterplot(
        rows, x=x, y=y, hue=by, palette=dict(colours), legend=False, ax=axes, zorder=2, **look, **many
    )


def _edge(face: Any, edge: str | None) -> Any:
    if edge == FACE:
        return face
    return edge or (INK if face == HOLLOW else "white")


def size_palette(largest: int) -> dict[int, Any]:
    """The face of a subset's point by its number of encoders: a ring for none, then light to dark."""
    return {0: HOLLOW, **dict(enumerate(size_colours(largest), start=1))}


def size_key(figure: Figure, sizes: Sequence[int], largest: int, title: str, nothing: str = "blind") -> None:
    """The key of `size_palette` above the panels; `nothing` names the ring."""
    faces = size_palette(largest)
    dot: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": 3.8, "mew": 0.7}
    names = [str(size) if size else nothing for size in sizes]
    handles = [
        Line2D([], [], mfc=faces[size], mec=faces[size] if size else INK, label=name, **dot)
        for size, name in zip(sizes, names, strict=True)
    ]
    figure.legend(
        handles=handles,
        title=title,
        title_fontsize=6.5,
        ncols=max(1, len(handles)),
        loc="outside upper center",
        handletextpad=0,
        columnspacing=1.0,
    )


def encoder_key(axes: Axes, pool: Sequence[str], line: float = 0) -> None:
    """The key of the encoders' colours and markers in the middle of an empty panel; `line`: in points."""
    colours, markers = encoder_colours(pool), encoder_markers(pool)
    handles = [
        Line2D([], [], lw=line, color=colours[e], marker=markers[e], label=encoder_name(e), markersize=4.5)
        for e in pool
    ]
    axes.legend(handles=handles, loc="center", handlelength=1.6, handletextpad=0.4)
