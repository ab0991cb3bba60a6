# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # What one more encoder adds
# Along the chain of subsets with the best scores, and on average over all subsets one encoder smaller.

# %%
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.style import (
    COLUMN,
    INK,
    MUTED,
    encoder_colours,
    interval_arms,
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
for rows, shift, marker, face in ((mean, 0.12, "D", "white"), (best, -0.12, "o", None)):
    inks = [colours.get(encoder, MUTED) for encoder in rows["added"]]
    arms = interval_arms(rows["low"], rows["gain"], rows["high"])
    axes.errorbar(rows["size"] + shift, rows["gain"], yerr=arms, fmt="none", ecolor=inks)
    for size, gain, ink in zip(rows["size"], rows["gain"], inks, strict=True):
        axes.plot(
            size + shift, gain, marker, color=ink, mfc=face or ink, markersize=3.6 if face is None else 3.2
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
