# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # The lattice of subsets
# Every subset as a box, one row per number of encoders, with its score and the half-width of its interval.
# A line adds one encoder: orange loses, purple gains, and a thin grey one has an interval that contains
# zero.

# %%
import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.style import (
    COLUMN,
    FAINT,
    INK,
    MUTED,
    TEXT,
    encoder_colours,
    save_figure,
    text_on,
    use_style,
)
from encoder_roles.paper.wording import fixed
from encoder_roles.study.names import BLIND, all_subsets, parse_subset

job = open_figure("subset_lattice", globals())
pool = job.settings.pool
scores = job.table("lattice")
scores = scores[(scores["level"] == "overall") & (scores["operator"] == "retrained")].set_index("subset")
gains = job.table("differences")
gains = gains[(gains["operator"] == "retrained") & (gains["measure"] == "score")]

# %% [markdown]
# Dots under a box name its encoders, by place and by colour, in the order of the key at the bottom.

# %%
use_style()
n, colours = len(pool), encoder_colours(pool)
members = {name: parse_subset(name, pool) for name in (BLIND, *all_subsets(pool)) if name in scores.index}
rows = {k: [name for name, inside in members.items() if len(inside) == k] for k in range(n + 1)}
most = max(map(len, rows.values()))
# a box is 0.31 inches wide; a pool of more than five needs the width of the page
pitch, wide, tall, rise = 0.325, 0.295, 0.235, 0.66
width = COLUMN if most * pitch <= COLUMN else TEXT
pitch = min(0.5, width / most) if width == TEXT else pitch
plt.rcParams["figure.constrained_layout.use"] = False  # boxes are placed in inches
figure = plt.figure(figsize=(width, rise * (n + 1) + 0.42))
axes = figure.add_axes((0, 0, 1, 1))
axes.set(xlim=(0, width), ylim=(-0.75, rise * (n + 1) - 0.33))
axes.set_axis_off()
place = {
    name: (width / 2 + pitch * (i - (len(row) - 1) / 2), rise * k)
    for k, row in rows.items()
    for i, name in enumerate(row)
}

effects = {}
for first, second, gain, low, high in gains[["first", "second", "difference", "low", "high"]].itertuples(
    index=False
):
    small, large = sorted((first, second), key=lambda name: len(members[name]))
    sign = 1 if large == first else -1
    if set(members[small]) < set(members[large]) and len(members[large]) == len(members[small]) + 1:
        effects[small, large] = sign * gain, not (low > 0 or high < 0)
limit = max((abs(gain) for gain, open_ in effects.values() if not open_), default=1.0)
hues = mpl.colormaps["PuOr"]
for (small, large), (gain, open_) in sorted(effects.items(), key=lambda item: abs(item[1][0])):
    (x, y), (x_to, y_to) = place[small], place[large]
    # the pale middle of the scale would not be seen on white
    hue = FAINT if open_ else hues(0.5 + np.sign(gain) * (0.22 + 0.28 * abs(gain) / limit))
    line = 0.5 if open_ else 0.6 + 1.2 * abs(gain) / limit
    axes.plot(
        [x, x_to],
        [y + tall / 2, y_to - tall / 2 - 0.085],
        color=hue,
        linewidth=line,
        zorder=0 if open_ else 1,
    )

# %%
shade = mpl.colormaps["Blues"]
bottom, top = scores["score"].min(), scores["score"].max()
for name, (x, y) in place.items():
    score, low, high = scores.loc[name, ["score", "low", "high"]].astype(float)
    colour = shade(0.08 + 0.84 * (score - bottom) / max(top - bottom, 1e-9))
    corner, style = (x - wide / 2, y - tall / 2), "round,pad=0,rounding_size=0.04"
    axes.add_patch(
        FancyBboxPatch(corner, wide, tall, style, facecolor=colour, edgecolor=MUTED, lw=0.4, zorder=2)
    )
    ink = text_on(colour)
    axes.text(x, y + 0.005, fixed(score), ha="center", va="bottom", fontsize=6.4, color=ink, zorder=3)
    spread = f"±{fixed((high - low) / 2)}" if high > low else ""
    axes.text(x, y - 0.005, spread, ha="center", va="top", fontsize=6, color=ink, zorder=3)
    for i, encoder in enumerate(pool):
        spot, has = x + 0.054 * (i - (n - 1) / 2), encoder in members[name]
        ink = colours[encoder] if has else FAINT
        axes.plot(spot, y - tall / 2 - 0.042, "o", color=ink, markersize=2.6 if has else 1.3, mew=0, zorder=3)
axes.text(
    place.get(BLIND, (width / 2, 0))[0] + 0.2, 0, "blind", va="center", fontsize=6.5
) if BLIND in place else None

step = width / n
for i, encoder in enumerate(pool):
    axes.plot(step * (i + 0.5) - 0.23, -0.36, "o", color=colours[encoder], markersize=3.4, mew=0)
    axes.text(step * (i + 0.5) - 0.17, -0.36, encoder_name(encoder), va="center", fontsize=6.5, color=INK)
keys = [("gain", hues(1.0), 1.4), ("loss", hues(0.0), 1.4), ("interval holds 0", "#bdbdbd", 0.8)]
at = width / 2 - 1.2
for word, hue, line in keys:
    axes.plot([at, at + 0.18], [-0.6, -0.6], color=hue, linewidth=line)
    axes.text(at + 0.23, -0.6, word, va="center", fontsize=6.5, color=INK)
    at += 0.75

save_figure(figure, job.outputs)
