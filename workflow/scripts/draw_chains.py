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
from encoder_roles.paper.style import (
    COLUMN,
    MUTED,
    encoder_colours,
    encoder_name,
    interval_arms,
    light_grid,
    save_figure,
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
axes.errorbar(
    mean["size"] + 0.13,
    mean["gain"],
    yerr=interval_arms(mean["low"], mean["gain"], mean["high"]),
    fmt="D",
    color=MUTED,
    mfc="white",
    markersize=4,
    label="mean over all subsets",
)
axes.errorbar(
    best["size"] - 0.13,
    best["gain"],
    yerr=interval_arms(best["low"], best["gain"], best["high"]),
    fmt="none",
    ecolor=[colours[encoder] for encoder in best["added"]],
)
for _, step in best.iterrows():
    axes.plot(step["size"] - 0.13, step["gain"], "o", color=colours[step["added"]], markersize=5)
    axes.annotate(
        f"+ {encoder_name(step['added'])}",
        (step["size"] - 0.13, step["high"]),
        (0, 3),
        textcoords="offset points",
        ha="center",
        color=colours[step["added"]],
        fontsize=6.5,
    )
if len(best):
    axes.plot([], [], "o", color=MUTED, label="best chain")
sizes = sorted(chains["size"].unique())
axes.set_xticks(sizes)
axes.set_xlim(min(sizes) - 0.5, max(sizes) + 0.5)
axes.tick_params(axis="x", length=0)
axes.set(xlabel="encoders after the step", ylabel="gain (points)")
axes.margins(y=0.12)
light_grid(axes, "y")
axes.legend(loc="upper right", handletextpad=0.3)

save_figure(figure, job.outputs)
