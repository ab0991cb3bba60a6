# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Retrained against masked rankings
# The order of the encoders by Necessity: from retraining, then under each mask operator, overall and in each
# group of benchmarks.

# %%
import numpy as np
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import group_order
from encoder_roles.paper.points import encoder_key
from encoder_roles.paper.style import (
    COLUMN,
    INK,
    encoder_colours,
    encoder_markers,
    save_figure,
    say_nothing_to_show,
    spare_panels,
    use_style,
)

job = open_figure("retrained_vs_masked_ranks", globals())
pool = job.settings.pool
roles, rankings = job.table("roles"), job.table("rankings")
roles = roles[roles["measure"] == "necessity"]
rankings = rankings[(rankings["comparison"] == "encoders") & (rankings["measure"] == "necessity")]
sides = ["retrained", *rankings["operator"].unique()]
panels = {"Overall": ("overall", "overall")}
panels |= {group: ("group", group) for group in group_order(roles["group"])}
if rankings.empty:
    panels = {}


# %% [markdown]
# A grey bar joins neighbours that are not separable: the interval of their difference contains zero.


# %%
def positions(level, group, side):
    """Position 1 (most necessary) to n of each encoder, in pool order."""
    rows = roles[(roles["level"] == level) & (roles["group"] == group) & (roles["operator"] == side)]
    return rows.set_index("encoder")["value"].reindex(pool).rank(ascending=False, method="first").to_numpy()


def not_separable(level, group, side):
    """Pairs of neighbours that are not separable on one side."""
    rows = rankings[(rankings["level"] == level) & (rankings["group"] == group)]
    rows = rows if side == "retrained" else rows[rows["operator"] == side]
    text = rows["not_separable_retrained" if side == "retrained" else "not_separable_masked"].iloc[0]
    return [pair.split("~") for pair in text.split(";")] if isinstance(text, str) else []


TIE = "#e6e6e6"
use_style()
colours, markers = encoder_colours(pool), encoder_markers(pool)
n, x = len(pool), np.arange(len(sides))
columns = 3 if panels else 1
rows = -(-(len(panels) + 1) // columns)  # a place for the key, too
height = rows * (0.5 + 0.19 * n) + 0.25
figure, axes = plt.subplots(
    rows, columns, figsize=(COLUMN, height), sharex=bool(panels), sharey=True, squeeze=False
)
for panel, (title, (level, group)) in zip(axes.flat, panels.items(), strict=False):
    order = np.array([positions(level, group, side) for side in sides])
    for i, encoder in enumerate(pool):
        panel.plot(x, order[:, i], color=colours[encoder], linewidth=1.3, alpha=0.85)
        panel.plot(
            x, order[:, i], markers[encoder], color=colours[encoder], markersize=4.8, mec="white", mew=0.5
        )
    for place, side in enumerate(sides):
        for first, second in not_separable(level, group, side):
            tied = order[place, [pool.index(first), pool.index(second)]]
            panel.plot([place, place], tied, color=TIE, linewidth=7.5, solid_capstyle="round", zorder=0)
    panel.set_title(title, pad=5, fontsize=7)
    panel.set_xticks(x, sides, color=INK, rotation=35, ha="right", rotation_mode="anchor")
    panel.set_xlim(-0.4, len(sides) - 0.6)
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
if panels:
    axes[0, 0].set_ylim(n + 0.5, 0.5)
    axes[0, 0].set_yticks(range(1, n + 1))
    figure.supylabel("position by Necessity", fontsize=7)
    key = spare_panels(axes, len(panels))[-1]
    encoder_key(key, pool, line=1.3)
else:
    say_nothing_to_show(axes[0, 0], "not every leave-one-out model was trained: nothing to rank")

save_figure(figure, job.outputs)
