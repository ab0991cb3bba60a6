# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Effective rank under joint training
# How the effective rank of each encoder's features changes in every model that has it, as a ratio to the
# pretrained encoder, with its interval.

# %%
import numpy as np
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.style import COLUMN, INK, MUTED, encoder_colours, light_grid, save_figure, use_style
from encoder_roles.study.names import name_subset

job = open_figure("rank_ratios", globals())
pool, tau = job.settings.pool, job.settings.tau
full = name_subset(pool, pool)
ranks = job.table("ranks")
ratios = ranks[ranks["subset"] != "pretrained"].groupby(["encoder", "subset"])
ratios = ratios[["ratio", "ratio_low", "ratio_high"]].mean()

# %% [markdown]
# Within an encoder from small to large subsets; the grey band is the tolerance of the roles: below it a
# rank does not survive, above it it expands.

# %%
use_style()
colours = encoder_colours(pool)
figure, axes = plt.subplots(figsize=(COLUMN, 2.35))
axes.axhspan(1 - tau, 1 + tau, color="#eeeeee", linewidth=0, zorder=0)
axes.axhline(1, color=MUTED, linewidth=0.8, zorder=1)
for place, encoder in enumerate(pool):
    of_encoder = ratios.loc[encoder]
    order = sorted(of_encoder.index, key=lambda subset: (subset.count("+"), of_encoder.loc[subset, "ratio"]))
    spread = np.linspace(-0.38, 0.38, len(order)) if len(order) > 1 else np.zeros(1)
    for x, subset in zip(place + spread, order, strict=True):
        ratio, low, high = of_encoder.loc[subset]
        axes.plot([x, x], [low, high], color=colours[encoder], linewidth=0.8, alpha=0.7)
        marked = subset in (encoder, full)
        axes.plot(
            x,
            ratio,
            "o" if subset == encoder else "s" if subset == full else ".",
            color=colours[encoder],
            markersize=4.5 if marked else 3,
            mec=INK if marked else colours[encoder],
            mew=0.7 if marked else 0,
        )
axes.set_xticks(range(len(pool)), [encoder_name(encoder) for encoder in pool])
axes.tick_params(axis="x", length=0)
axes.set_xlim(-0.55, len(pool) - 0.45)
axes.set_ylabel("rank ratio, trained / pretrained")
light_grid(axes, "y")
looks = (("o", "alone", 4.5, INK), (".", "in a subset", 3.5, MUTED), ("s", "in the full pool", 4.5, INK))
for marker, label, size, edge in looks:
    face = MUTED if marker == "." else "white"
    axes.plot([], [], marker, color=face, mec=edge, mew=0.7, markersize=size, label=label)
axes.legend(
    ncols=3, loc="lower left", bbox_to_anchor=(0, 1), handletextpad=0.1, columnspacing=1, borderaxespad=0.2
)

save_figure(figure, job.outputs)
