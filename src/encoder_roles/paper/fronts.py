"""Scores against costs: one panel a cost, with the Pareto front drawn in."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from encoder_roles.paper.points import ARM, draw_points, size_key, size_palette
from encoder_roles.paper.style import COLUMN, INK, MUTED, light_grid, say_nothing_to_show

Cost = tuple[str, str, float]  # a column of pareto.csv, its axis, its unit


def draw_fronts(models: pd.DataFrame, costs: Sequence[Cost], encoders: int) -> Figure:
    """Every model's score with its interval against each cost that it has; the front stepped and ringed."""
    costs = [cost for cost in costs if cost[0] in models.columns and models[cost[0]].notna().any()]
    figure, panels = plt.subplots(1, max(1, len(costs)), figsize=(COLUMN, 2.35), sharey=True, squeeze=False)
    for panel, (cost, label, unit) in zip(panels[0], costs, strict=False):
        _draw_front(panel, models.assign(x=models[cost] / unit), f"front_{cost}", encoders)
        panel.set(xlabel=label, ylabel="")
    panels[0, 0].set_ylabel("overall score")
    size_key(figure, sorted(models["size"].unique()), encoders, "encoders (ring: on the front)")
    if not costs:
        say_nothing_to_show(panels[0, 0], "no costs")
    return figure


def _draw_front(panel: Axes, models: pd.DataFrame, on_front: str, encoders: int) -> None:
    models = models.sort_values("x", kind="stable")
    colours = size_palette(encoders)
    draw_points(
        panel, models, x="x", y="score", by="size", colours=colours, y_bounds=("low", "high"), arms=ARM
    )
    front = models[models[on_front]]
    panel.step(front["x"], front["score"], where="post", color=MUTED, linewidth=0.9, zorder=1)
    panel.scatter(front["x"], front["score"], s=20, facecolor="none", edgecolor=INK, lw=0.7, zorder=3)
    panel.margins(x=0.08)
    light_grid(panel, "both")
