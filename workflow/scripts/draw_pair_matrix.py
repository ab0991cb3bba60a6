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
from encoder_roles.paper.readings import retrained_scores
from encoder_roles.paper.style import COLUMN, INK, encoder_name, save_figure, use_style
from encoder_roles.study import name_subset

job = open_figure("pair_matrix", globals())
pool = job.settings.pool
scores = retrained_scores(job.table("scores"))
pairs = job.table("pairs")
full = scores.loc[name_subset(pool, pool), "score"]

# %% [markdown]
# Below the diagonal stands the score, above it the share of the full pool's score that the pair reaches and,
# where the pair has them, its anchor and its complement.

# %%
use_style()
n = len(pool)
place = {encoder: i for i, encoder in enumerate(pool)}
values = np.full((n, n), np.nan)
for encoder in pool:
    if encoder in scores.index:
        values[place[encoder], place[encoder]] = scores.loc[encoder, "score"]
for _, pair in pairs.iterrows():
    i, j = sorted((place[pair["first"]], place[pair["second"]]))
    values[j, i] = values[i, j] = pair["score"]

figure, axes = plt.subplots(figsize=(COLUMN, 0.55 + 0.5 * n if n > 2 else 1.9))
shown = np.ma.masked_invalid(values)
axes.imshow(shown, cmap="cividis", aspect="auto", vmin=np.nanmin(values), vmax=max(np.nanmax(values), full))
middle = (np.nanmin(values) + max(np.nanmax(values), full)) / 2
for i in range(n):
    for j in range(n):
        if np.isnan(values[i, j]):
            continue
        colour = "white" if values[i, j] < middle else INK
        text = f"{values[i, j]:.1f}" if i >= j else f"{100 * values[i, j] / full:.0f}%"
        axes.text(j, i, text, ha="center", va="center", color=colour, weight="bold" if i == j else "normal")
for _, pair in pairs.iterrows():
    i, j = sorted((place[pair["first"]], place[pair["second"]]))
    if isinstance(pair["anchor"], str) and isinstance(pair["complement"], str):
        colour = "white" if values[j, i] < middle else INK
        marks = (("a", pair["anchor"]), ("c", pair["complement"]))
        text = "  ".join(f"{mark}: {encoder_name(encoder)}" for mark, encoder in marks)
        axes.text(i, j + 0.32, text, ha="center", va="center", color=colour, fontsize=4.5)

best = pairs.loc[pairs["score"].idxmax()]
highest = pairs.loc[pairs["capacity_sum"].idxmax()]
for pair, line in ((best, "-"), (highest, (0, (2, 1.5)))):
    i, j = sorted((place[pair["first"]], place[pair["second"]]))
    inset = 0.46 if line == "-" else 0.40
    axes.add_patch(
        Rectangle(
            (i - inset, j - inset),
            2 * inset,
            2 * inset,
            fill=False,
            edgecolor="#d55e00",
            linestyle=line,
            lw=1.4,
        )
    )
names = [encoder_name(encoder) for encoder in pool]
axes.set_xticks(range(n), names)
axes.set_yticks(range(n), names)
axes.tick_params(length=0)
axes.spines[:].set_visible(False)
axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
axes.grid(which="minor", color="white", linewidth=1.5)
axes.tick_params(which="minor", length=0)

save_figure(figure, job.outputs)
