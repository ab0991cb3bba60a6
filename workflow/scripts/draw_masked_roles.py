# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Masked roles
# What each encoder gives to one model, by masking the others or masking it: masked Capacity, masked
# Necessity, CUR (Necessity as a share of the unmasked score) and Shapley value, a colour per mask operator.

# %%
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.points import draw_points
from encoder_roles.paper.style import MUTED, TEXT, encoder_colours, light_grid, save_figure, use_style

job = open_figure("masked_roles", globals())
pool = job.settings.pool
roles, games = job.table("roles"), job.table("games")
shapley = games[games["index"] == "shapley"].rename(columns={"coalition": "encoder"})
table = pd.concat([roles, shapley.assign(measure="shapley")], ignore_index=True)
table = table[(table["level"] == "overall") & (table["operator"] != "retrained")]
operators = list(dict.fromkeys(table["operator"]))
PANELS = {
    "capacity": "masked Capacity",
    "necessity": "masked Necessity",
    "cur": "CUR, %",
    "shapley": "Shapley",
}

# %% [markdown]
# The operators of an encoder are drawn one below the other.

# %%
use_style()
colours = encoder_colours(operators)
height = 0.55 + max(0.24, 0.13 * len(operators)) * len(pool)
figure, panels = plt.subplots(1, len(PANELS), figsize=(TEXT, height), sharey=True)
for axes, (measure, title) in zip(panels, PANELS.items(), strict=True):
    rows = table[table["measure"] == measure].copy()
    if measure == "cur":
        rows[["value", "low", "high"]] *= 100
    shift = {name: (i - (len(operators) - 1) / 2) * 0.6 / len(operators) for i, name in enumerate(operators)}
    rows["place"] = rows["encoder"].map(pool.index) + rows["operator"].map(shift)
    draw_points(
        axes, rows, x="value", y="place", by="operator", colours=colours, x_bounds=("low", "high"), size=18
    )
    if measure != "capacity":
        axes.axvline(0, color=MUTED, linewidth=0.6, zorder=0)
    axes.set(xlabel="", ylabel="", title=title)
    light_grid(axes, "x")
panels[0].set_yticks(range(len(pool)), [encoder_name(name) for name in pool])
panels[0].set_ylim(len(pool) - 0.5, -0.5)
handles = [
    Line2D([], [], linestyle="", marker="o", color=colours[name], label=f"{name} mask") for name in operators
]
figure.legend(handles=handles, loc="outside lower center", ncols=len(operators), handletextpad=0)

save_figure(figure, job.outputs)
