# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Masked against retrained
# For every subset, the score of the model trained on it against the score of the full checkpoint with only
# these encoders kept. On the diagonal a mask would say what retraining says.

# %%
import numpy as np
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.readings import mask_operators, masked_scores, retrained_scores
from encoder_roles.paper.style import (
    COLUMN,
    INK,
    MUTED,
    light_grid,
    save_figure,
    size_colours,
    use_style,
)
from encoder_roles.study.names import BLIND

job = open_figure("masked_vs_retrained", globals())
pool = job.settings.pool
lattice = job.table("lattice")
rankings = job.table("rankings")
rankings = rankings[(rankings["level"] == "overall") & (rankings["measure"] == "score")]
retrained = retrained_scores(lattice)
operators = mask_operators(lattice)

# %% [markdown]
# One panel per operator: how the features of the encoders that are not kept are replaced. The full model lies
# on the diagonal by definition; the other end is the blind model against a checkpoint with all masked.

# %%
use_style()
LINE = "#c4c4c4"
shades = size_colours(len(pool))
figure, panels = plt.subplots(
    1,
    len(operators),
    figsize=(COLUMN, 0.75 + COLUMN / len(operators)),
    sharex=True,
    sharey=True,
    squeeze=False,
)
everything = [retrained[["low", "high"]].to_numpy()]
for panel, operator in zip(panels[0], operators, strict=True):
    both = retrained.join(masked_scores(lattice, operator), suffixes=("", "_masked"), how="inner")
    everything.append(both[["low_masked", "high_masked"]].to_numpy())
    sizes = np.array([0 if name == BLIND else name.count("+") + 1 for name in both.index])
    for x, y, low, high, low_y, high_y in both[
        ["score", "score_masked", "low", "high", "low_masked", "high_masked"]
    ].to_numpy():
        panel.plot([low, high], [y, y], color=LINE, linewidth=0.5, zorder=1)
        panel.plot([x, x], [low_y, high_y], color=LINE, linewidth=0.5, zorder=1)
    for size in range(len(pool) + 1):
        of_size = both[sizes == size]
        panel.scatter(
            of_size["score"],
            of_size["score_masked"],
            s=13,
            facecolor="white" if size == 0 else shades[size - 1],
            edgecolor=INK if size == 0 else "white",
            linewidth=0.8 if size == 0 else 0.4,
            zorder=2,
            label="none (blind)" if size == 0 else f"{size}",
        )
    tau = rankings.loc[rankings["operator"] == operator, "kendall_tau"]
    note = f"Kendall τ = {tau.iloc[0]:.2f}" if len(tau) else ""
    panel.set_title(f"{operator} mask", loc="left")
    panel.text(0.03, 0.97, note, transform=panel.transAxes, va="top", color=INK, fontsize=6.5)
    panel.set_xlabel("retrained score v(S)")
    light_grid(panel, "both")

ends = np.concatenate(everything)
low, high = np.nanmin(ends) - 1.5, np.nanmax(ends) + 1.5
for panel in panels[0]:
    panel.plot([low, high], [low, high], color=MUTED, linewidth=0.8, zorder=0)
    panel.set(xlim=(low, high), ylim=(low, high), aspect="equal")
panels[0, 0].set_ylabel("masked score w(S)")
handles, labels = panels[0, 0].get_legend_handles_labels()
figure.legend(
    handles,
    labels,
    title="encoders kept",
    title_fontsize=6.5,
    ncols=len(labels),
    loc="outside upper center",
    handletextpad=0,
    columnspacing=0.9,
)

save_figure(figure, job.outputs)
