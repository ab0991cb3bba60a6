"""Scores against costs: one panel a cost, with the Pareto front drawn in."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from encoder_roles.paper.style import COLUMN, INK, MUTED, light_grid, say_nothing_to_show, size_colours

Cost = tuple[str, str, float]  # a column of pareto.csv, its axis, its unit


def draw_fronts(models: pd.DataFrame, costs: Sequence[Cost], encoders: int) -> Figure:
    """Every model's score with its interval against each cost that it has; the front stepped and ringed."""
    shades = size_colours(encoders)
    costs = [cost for cost in costs if cost[0] in models.columns and models[cost[0]].notna().any()]
    figure, panels = plt.subplots(1, max(1, len(costs)), figsize=(COLUMN, 2.35), sharey=True, squeeze=False)
    for panel, (cost, label, unit) in zip(panels[0], costs, strict=False):
        _draw_front(panel, models.assign(x=models[cost] / unit), f"front_{cost}", shades)
        panel.set_xlabel(label)
    panels[0, 0].set_ylabel("overall score")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title="encoders (ring: on the front)",
        title_fontsize=6.5,
        ncols=max(1, len(labels)),
        loc="outside upper center",
        handletextpad=0,
        columnspacing=1.0,
    )
    if not costs:
        say_nothing_to_show(panels[0, 0], "no costs")
    return figure


def _draw_front(panel: Axes, models: pd.DataFrame, on_front: str, shades: Sequence[str]) -> None:
    models = models.sort_values("x", kind="stable")
    for x, low, high in models[["x", "low", "high"]].itertuples(index=False):
        panel.plot([x, x], [low, high], color="#bdbdbd", linewidth=0.7, zorder=0)
    front = models[models[on_front]]
    panel.step(front["x"], front["score"], where="post", color=MUTED, linewidth=0.9, zorder=1)
    for size, of_size in models.groupby("size"):
        count = int(str(size))  # the blind model has none
        look = {"color": shades[count - 1], "lw": 0} if count else {"facecolor": "white", "edgecolor": MUTED}
        word = str(count) if count else "blind"
        panel.scatter(of_size["x"], of_size["score"], s=13, label=word, zorder=2, **look)
    panel.scatter(front["x"], front["score"], s=20, facecolor="none", edgecolor=INK, lw=0.7, zorder=3)
    panel.margins(x=0.08)
    light_grid(panel, "both")
