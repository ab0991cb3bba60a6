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
from encoder_roles.paper.matrices import Label, draw_matrix, name_encoders, symmetric_limits
from encoder_roles.paper.style import COLUMN, save_figure, say_nothing_to_show, use_style
from encoder_roles.paper.wording import half_width, signed

job = open_figure("interactions", globals())
pool = job.settings.pool
games = job.table("games")
games = games[games["level"] == "overall"]
operators = [operator for operator in dict.fromkeys(games["operator"]) if operator != "retrained"]
masked = operators[0] if operators else None


def rows_of(operator, index):
    """(smaller place, larger place), value, low, high of one index; the places of one encoder are equal."""
    rows = games[(games["operator"] == operator) & (games["index"] == index)]
    for coalition, *bounds in rows[["coalition", "value", "low", "high"]].itertuples(index=False):
        places = sorted(pool.index(encoder) for encoder in coalition.split("+"))
        yield (places[0], places[-1]), *bounds


# %% [markdown]
# Bold: the interval excludes zero; beneath each value the half-width of its interval. Orange is negative,
# purple positive; the diagonal is not coloured, because every Shapley value would outshine the
# interactions.

# %%
n = len(pool)
values, labels = np.full((n, n), np.nan), {}


def write(place, value, low, high):
    labels[place] = Label(signed(value), half_width(low, high), bold=low > 0 or high < 0)


for (i, j), value, low, high in rows_of("retrained", "shapley_interaction"):
    values[j, i] = value
    write((j, i), value, low, high)
for place, value, low, high in rows_of(masked, "shapley_interaction"):
    values[place] = value
    write(place, value, low, high)
for place, value, low, high in rows_of("retrained", "shapley"):
    write(place, value, low, high)

# %%
use_style()
figure, axes = plt.subplots(figsize=(COLUMN, 0.62 + 0.43 * max(n, 3)))
draw_matrix(axes, values, labels, cmap="PuOr", limits=symmetric_limits(values))
name_encoders(axes, pool)
axes.set_xlabel("below the diagonal: retrained" + (f"; above: {masked} mask" if masked else ""))
if np.isnan(values).all():
    say_nothing_to_show(axes, "the lattice is not complete: no interactions")

save_figure(figure, job.outputs)
