# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # What one more encoder adds
# The gain of each step along the chain of subsets with the best scores, and the mean gain of all steps to
# that number of encoders.

# %%
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.points import HOLLOW, draw_points
from encoder_roles.paper.style import (
    COLUMN,
    INK,
    MUTED,
    encoder_colours,
    light_grid,
    save_figure,
    say_nothing_to_show,
    use_style,
)

job = open_figure("chains", globals())
pool = job.settings.pool
chains = job.table("chains")
best = chains[chains["kind"] == "best_chain"].sort_values("size")
mean = chains[chains["kind"] == "lattice_mean"].sort_values("size")

# %%
use_style()
colours = encoder_colours(pool)
figure, axes = plt.subplots(figsize=(COLUMN, 2.3))
axes.axhline(0, color=MUTED, linewidth=0.8)
draw_points(
    axes,
    mean.assign(place=mean["size"] + 0.12),
    x="place",
    y="gain",
    by="kind",
    colours={"lattice_mean": HOLLOW},
    markers="D",
    y_bounds=("low", "high"),
    arms=MUTED,
    edge=MUTED,
    width=1.2,
)
draw_points(
    axes,
    best.assign(place=best["size"] - 0.12),
    x="place",
    y="gain",
    by="added",
    colours=colours,
    y_bounds=("low", "high"),
    size=24,
    width=1.2,
)
axes.plot([], [], "o", color=MUTED, label="best chain")
axes.plot([], [], "D", color=MUTED, mfc="white", markersize=4, label="mean over all subsets")
added = dict(zip(best["size"], best["added"], strict=True))
sizes = sorted(chains["size"].unique())
axes.set_xticks(
    sizes, [f"{size}\n+ {encoder_name(added[size])}" if size in added else f"{size}" for size in sizes]
)
for label, size in zip(axes.get_xticklabels(), sizes, strict=True):
    label.set_color(colours.get(added.get(size), INK))
axes.set_xlim(0.5, len(pool) + 0.5)
axes.tick_params(axis="x", length=0)
axes.set(xlabel="encoders after the step", ylabel="gain (points)")
light_grid(axes, "y")
axes.legend(loc="upper right", handletextpad=0.3)
if chains.empty:
    say_nothing_to_show(axes, "no chain of subsets was trained")

save_figure(figure, job.outputs)
