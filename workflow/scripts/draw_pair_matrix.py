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
from encoder_roles.paper.matrices import Label, cell_inks, draw_matrix, name_encoders
from encoder_roles.paper.readings import retrained_scores
from encoder_roles.paper.style import COLUMN, WARM, save_figure, use_style
from encoder_roles.paper.wording import fixed, half_width, percent
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
n = len(pool)
values, labels, dots = np.full((n, n), np.nan), {}, []
for i, encoder in enumerate(pool):
    if encoder in scores.index:
        score, low, high = scores.loc[encoder]
        values[i, i] = score
        labels[i, i] = Label(fixed(score), half_width(low, high), bold=True)
cells = [sorted((pool.index(pair["first"]), pool.index(pair["second"]))) for _, pair in pairs.iterrows()]
for (i, j), (_, pair) in zip(cells, pairs.iterrows(), strict=True):
    score, low, high = scores.loc[name_subset((pool[i], pool[j]), pool)]
    values[j, i] = values[i, j] = score
    labels[j, i] = Label(fixed(score), half_width(low, high))
    spread = percent((pair["share_high"] - pair["share_low"]) / 2)
    labels[i, j] = Label(
        percent(pair["share_of_full"]), f"±{spread}" if pair["share_high"] > pair["share_low"] else ""
    )
    if isinstance(pair["anchor"], str) and isinstance(pair["complement"], str):
        dots.append((j, i))

# %%
use_style()
figure, axes = plt.subplots(figsize=(COLUMN, 0.5 + 0.43 * max(n, 3)))
limits = (np.nanmin(values), max(np.nanmax(values), full))
draw_matrix(axes, values, labels, cmap="Blues", limits=limits)
inks = cell_inks(values, "Blues", limits)
for row, column in dots:
    axes.plot(column + 0.8, row + 0.23, "o", color=inks[row, column], markersize=3)
if cells:
    frames = ((pairs["score"], 0.46, "-"), (pairs["capacity_sum"], 0.39, (0, (2, 1.5))))
    for measure, reach, line in frames:
        column, row = cells[int(measure.fillna(-1).argmax())]
        corner = (column + 0.5 - reach, row + 0.5 - reach)
        frame = Rectangle(corner, 2 * reach, 2 * reach, fill=False, edgecolor=WARM, linestyle=line, lw=1.4)
        axes.add_patch(frame)
name_encoders(axes, pool)

save_figure(figure, job.outputs)
