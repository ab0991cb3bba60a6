# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Pairs
# Every pair: one encoder in the row, the other in the column; single encoders on the diagonal. The best pair
# is framed, the pair of the two highest Capacities is framed with a broken line.

# %%
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.readings import retrained_scores
from encoder_roles.paper.style import COLUMN, WARM, save_figure, text_on, use_style
from encoder_roles.paper.wording import fixed, percent
from encoder_roles.study.names import name_subset

job = open_figure("pair_matrix", globals())
pool = job.settings.pool
scores = retrained_scores(job.table("lattice"))
pairs = job.table("pairs")
full = scores.loc[name_subset(pool, pool), "score"]

# %% [markdown]
# Below the diagonal stands the score, above it the share of the full pool's score that the pair reaches,
# each with the half-width of its interval. A dot marks pairs that have both an anchor and a complement.

# %%
use_style()
n = len(pool)
place = {encoder: i for i, encoder in enumerate(pool)}
values = np.full((n, n), np.nan)
for encoder in pool:
    if encoder in scores.index:
        values[place[encoder], place[encoder]] = scores.loc[encoder, "score"]
cells = [sorted((place[pair["first"]], place[pair["second"]])) for _, pair in pairs.iterrows()]
for (i, j), score in zip(cells, pairs["score"], strict=True):
    values[j, i] = values[i, j] = score

halves = {}  # half-widths of the intervals
for encoder in scores.index.intersection(list(pool)):
    low, high = scores.loc[encoder, ["low", "high"]]
    halves[place[encoder], place[encoder]] = fixed((high - low) / 2)
bounds = ("low", "high", "share_low", "share_high")
for (i, j), *ends in zip(cells, *(pairs[column] for column in bounds), strict=True):
    low, high, share_low, share_high = ends
    halves[j, i], halves[i, j] = fixed((high - low) / 2), percent((share_high - share_low) / 2)

figure, axes = plt.subplots(figsize=(COLUMN, 0.5 + 0.43 * max(n, 3)))
bottom, top = np.nanmin(values), max(np.nanmax(values), full)
image = axes.imshow(np.ma.masked_invalid(values), cmap="Blues", aspect="auto", vmin=bottom, vmax=top)
inks = {cell: text_on(image.cmap(image.norm(value))) for cell, value in np.ndenumerate(values)}
for (i, j), value in np.ndenumerate(values):
    if not np.isnan(value):
        text = fixed(value) if i >= j else percent(value / full)
        weight = "bold" if i == j else "normal"
        axes.text(j, i - 0.02, text, ha="center", va="bottom", color=inks[i, j], weight=weight)
        if half := halves.get((i, j)):
            axes.text(j, i + 0.05, f"±{half}", ha="center", va="top", color=inks[i, j], fontsize=6)
for (i, j), anchor, complement in zip(cells, pairs["anchor"], pairs["complement"], strict=True):
    if isinstance(anchor, str) and isinstance(complement, str):
        axes.plot(i + 0.36, j - 0.3, "o", color=inks[j, i], markersize=3)
if cells:
    frames = ((pairs["score"], 0.46, "-"), (pairs["capacity_sum"], 0.39, (0, (2, 1.5))))
    for column, reach, line in frames:
        i, j = cells[int(column.fillna(-1).argmax())]
        corner = (i - reach, j - reach)
        frame = Rectangle(corner, 2 * reach, 2 * reach, fill=False, edgecolor=WARM, linestyle=line, lw=1.4)
        axes.add_patch(frame)
names = [encoder_name(encoder) for encoder in pool]
axes.set_xticks(range(n), names)
axes.set_yticks(range(n), names)
axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
axes.grid(which="minor", color="white", linewidth=1.5)
axes.tick_params(which="both", length=0)
axes.spines[:].set_visible(False)

save_figure(figure, job.outputs)
