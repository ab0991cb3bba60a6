# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Shapley values and interactions
# On the diagonal an encoder's Shapley value; off it the Shapley interaction of two: negative where one can
# stand in for the other, positive where they gain from each other. Below the diagonal retrained, above it
# masked.

# %%
import numpy as np
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.style import COLUMN, INK, save_figure, say_nothing_to_show, text_on, use_style
from encoder_roles.paper.wording import fixed, signed

job = open_figure("interactions", globals())
pool = job.settings.pool
games = job.table("games")
games = games[games["level"] == "overall"]
operators = [o for o in dict.fromkeys(games["operator"]) if o != "retrained"]
masked = operators[0] if operators else None


def cells(operator, index):
    """(i, j) -> value, low, high of one index under one operator; i = j for single encoders."""
    rows = games[(games["operator"] == operator) & (games["index"] == index)]
    found = {}
    for coalition, *bounds in rows[["coalition", "value", "low", "high"]].itertuples(index=False):
        inside = [pool.index(encoder) for encoder in coalition.split("+")]
        found[inside[0], inside[-1]] = bounds
    return found


# %% [markdown]
# Bold: the interval excludes zero; beneath each value the half-width of its interval. Orange is negative,
# purple positive; the diagonal is not coloured, because every Shapley value would outshine the
# interactions.

# %%
use_style()
n = len(pool)
table = {}
for (i, j), bounds in cells("retrained", "shapley_interaction").items():
    table[j, i] = bounds
if masked:
    table |= cells(masked, "shapley_interaction")
figure, axes = plt.subplots(figsize=(COLUMN, 0.62 + 0.43 * max(n, 3)))
image = np.full((n, n), np.nan)
for cell, (value, _, _) in table.items():
    image[cell] = value
limit = np.nanmax(np.abs(image)) if table else 1.0
picture = axes.imshow(np.ma.masked_invalid(image), cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
for (i, j), (value, low, high) in {**table, **cells("retrained", "shapley")}.items():
    ink = text_on(picture.cmap(picture.norm(value))) if i != j else INK
    bold = "bold" if low > 0 or high < 0 else "normal"
    axes.text(j, i - 0.03, signed(value), ha="center", va="bottom", color=ink, weight=bold, fontsize=6.8)
    spread = f"±{fixed((high - low) / 2)}" if high > low else ""
    axes.text(j, i + 0.05, spread, ha="center", va="top", color=ink, fontsize=6)
names = [encoder_name(encoder) for encoder in pool]
axes.set_xticks(range(n), names)
axes.set_yticks(range(n), names)
axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
axes.grid(which="minor", color="white", linewidth=1.5)
axes.tick_params(which="both", length=0)
axes.spines[:].set_visible(False)
axes.set_xlabel("below the diagonal: retrained" + (f"; above: {masked} mask" if masked else ""))
if not table:
    say_nothing_to_show(axes, "the lattice is not complete: no interactions")

save_figure(figure, job.outputs)
