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
from encoder_roles.paper.points import FACE, draw_points
from encoder_roles.paper.style import COLUMN, INK, MUTED, encoder_colours, light_grid, save_figure, use_style
from encoder_roles.study.names import parse_subset

job = open_figure("rank_ratios", globals())
pool, tau = job.settings.pool, job.settings.tau
ranks = job.table("ranks")
ratios = ranks[ranks["subset"] != "pretrained"].groupby(["encoder", "subset"])
ratios = ratios[["ratio", "ratio_low", "ratio_high"]].mean().reset_index()
LOOKS = {  # of a model with the encoder: marker, area, edge
    "in a subset": ("o", 7, FACE),
    "alone": ("o", 22, INK),
    "in the full pool": ("s", 22, INK),
}

# %% [markdown]
# Within an encoder from small to large subsets. The grey band is the tolerance of the roles: a rank below it
# does not survive, and a rank above it expands.

# %%
ratios["size"] = [len(parse_subset(subset, pool)) for subset in ratios["subset"]]
ratios["kind"] = "in a subset"
ratios.loc[ratios["size"] == 1, "kind"] = "alone"
ratios.loc[ratios["size"] == len(pool), "kind"] = "in the full pool"
ratios = ratios.sort_values(["encoder", "size", "ratio"], kind="stable")
for number, encoder in enumerate(pool):
    of_encoder = ratios["encoder"] == encoder
    reach = 0.38 if of_encoder.sum() > 1 else 0.0
    ratios.loc[of_encoder, "place"] = np.linspace(number - reach, number + reach, of_encoder.sum())

# %%
use_style()
figure, axes = plt.subplots(figsize=(COLUMN, 2.35))
axes.axhspan(1 - tau, 1 + tau, color="#eeeeee", linewidth=0, zorder=0)
axes.axhline(1, color=MUTED, linewidth=0.8, zorder=1)
for kind, (marker, size, edge) in LOOKS.items():
    draw_points(
        axes,
        ratios[ratios["kind"] == kind],
        x="place",
        y="ratio",
        by="encoder",
        colours=encoder_colours(pool),
        markers=marker,
        y_bounds=("ratio_low", "ratio_high"),
        edge=edge,
        size=size,
        width=0.8,
    )
axes.set_xticks(range(len(pool)), [encoder_name(encoder) for encoder in pool])
axes.tick_params(axis="x", length=0)
axes.set_xlim(-0.55, len(pool) - 0.45)
axes.set(xlabel="", ylabel="rank ratio, trained / pretrained")
light_grid(axes, "y")
for kind, (marker, size, edge) in LOOKS.items():
    face, line = (MUTED, MUTED) if edge == FACE else ("white", edge)
    axes.scatter([], [], marker=marker, s=size, color=face, edgecolor=line, lw=0.7, label=kind)
axes.legend(
    ncols=3, loc="lower left", bbox_to_anchor=(0, 1), handletextpad=0.1, columnspacing=1, borderaxespad=0.2
)

save_figure(figure, job.outputs)
