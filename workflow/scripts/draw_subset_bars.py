# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Every subset's score
# All models that were trained, from the best to the worst: the score with its interval, the blind model as a
# line, and beneath each bar the encoders the model has.

# %%
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Patch

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.readings import retrained_scores
from encoder_roles.paper.style import (
    COLUMN,
    FAINT,
    INK,
    MUTED,
    encoder_colours,
    light_grid,
    save_figure,
    size_colours,
    use_style,
)
from encoder_roles.study.names import BLIND, parse_subset

job = open_figure("subset_bars", globals())
pool = job.settings.pool
scores = retrained_scores(job.table("lattice"))
blind = scores.loc[BLIND]
models = scores.drop(index=BLIND).sort_values("score", ascending=False, kind="stable")

# %% [markdown]
# Bars stand on the blind score, so that their height is what seeing gains; the darker, the more encoders.

# %%
use_style()
colours = encoder_colours(pool)
shades = size_colours(len(pool))
members = [parse_subset(subset, pool) for subset in models.index]
sizes = [len(of_model) for of_model in members]
x = np.arange(len(models))

figure, (top, bottom) = plt.subplots(
    2,
    1,
    figsize=(COLUMN, 2.0 + 0.13 * len(pool)),
    sharex=True,
    height_ratios=(1.75, 0.13 * len(pool) + 0.1),
)
top.bar(x, models["score"] - blind["score"], 0.72, blind["score"], color=[shades[size - 1] for size in sizes])
for colour, width in (("white", 1.3), (INK, 0.7)):  # an edge of white, to be seen on dark bars
    top.vlines(x, models["low"], models["high"], colors=colour, linewidth=width)
top.axhspan(blind["low"], blind["high"], color=FAINT, linewidth=0, zorder=0)
top.axhline(blind["score"], color=MUTED, linewidth=0.8)
# a table without intervals has none to leave room for
ends = np.nanmin(blind[["score", "low"]]), np.nanmax(models[["score", "high"]])
top.annotate(
    f"blind {blind['score']:.1f}",
    (1, ends[0]),
    (0, -2),
    xycoords=("axes fraction", "data"),
    textcoords="offset points",
    color=MUTED,
    fontsize=6.5,
    ha="right",
    va="top",
)
reach = ends[1] - ends[0]
top.set_ylim(ends[0] - 0.09 * reach, ends[1] + 0.05 * reach)
top.set_ylabel("overall score")
top.legend(
    handles=[Patch(color=shade, label=str(size)) for size, shade in enumerate(shades, start=1)],
    title="encoders",
    title_fontsize=6.5,
    ncols=len(pool),
    loc="upper right",
    columnspacing=1.0,
    handlelength=0.9,
    handletextpad=0.4,
    borderaxespad=0,
)
light_grid(top, "y")
top.tick_params(axis="x", length=0)
top.set_xlim(-0.7, len(models) - 0.3)

for row, encoder in enumerate(pool):
    has = np.array([encoder in of_model for of_model in members])
    bottom.scatter(x[~has], np.full((~has).sum(), row), s=3, color=FAINT, linewidth=0)
    bottom.scatter(x[has], np.full(has.sum(), row), s=11, color=colours[encoder], linewidth=0)
for place, of_model in enumerate(members):
    rows = [pool.index(encoder) for encoder in of_model]
    bottom.plot([place, place], [min(rows), max(rows)], color=MUTED, linewidth=0.6, zorder=0)
bottom.set_yticks(range(len(pool)), [encoder_name(encoder) for encoder in pool])
bottom.set_ylim(len(pool) - 0.4, -0.6)
bottom.set_xticks([])
bottom.tick_params(axis="y", length=0, labelcolor=INK)
bottom.spines[["left", "bottom"]].set_visible(False)

save_figure(figure, job.outputs)
