# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # The Capacity-Necessity plane
# Capacity: what an encoder can do alone. Necessity: what the full pool loses without it. The first panel
# retrains a model for each; the others mask the full checkpoint.

# %%
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.points import draw_points, encoder_key
from encoder_roles.paper.readings import mask_operators, masked_scores, retrained_scores
from encoder_roles.paper.style import (
    COLUMN,
    MUTED,
    encoder_colours,
    encoder_markers,
    light_grid,
    save_figure,
    spare_panels,
    use_style,
)
from encoder_roles.study.names import BLIND

job = open_figure("capacity_necessity", globals())
pool = job.settings.pool
MEASURES = ("capacity", "necessity")
lattice, roles = job.table("lattice"), job.table("roles")
roles = roles[roles["level"] == "overall"]
blind = {"retrained": retrained_scores(lattice).loc[BLIND, "score"]}
for operator in mask_operators(lattice):
    blind[operator] = masked_scores(lattice, operator).loc[BLIND, "score"]


def measured(operator):
    """A row per encoder: columns capacity, capacity_low, capacity_high and those of necessity."""
    rows = roles[roles["operator"] == operator].set_index("encoder")
    rows = [rows[rows["measure"] == name][["value", "low", "high"]].reindex(pool) for name in MEASURES]
    columns = [name + ending for name in MEASURES for ending in ("", "_low", "_high")]
    return pd.concat(rows, axis=1).set_axis(columns, axis=1).rename_axis("encoder").reset_index()


# %% [markdown]
# On the broken line an encoder adds to the full pool what it adds to nothing (redundancy zero). Below it
# others can stand in for the encoder; above it the encoders need one another.

# %%
use_style()
rows = -(-(len(blind) + 1) // 2)  # two columns, and a place for the key
figure, panels = plt.subplots(rows, 2, figsize=(COLUMN, 1.55 * rows), sharex=True, sharey=True, squeeze=False)
for panel, operator in zip(panels.flat, blind, strict=False):
    draw_points(
        panel,
        measured(operator),
        x="capacity",
        y="necessity",
        by="encoder",
        colours=encoder_colours(pool),
        markers=encoder_markers(pool),
        x_bounds=("capacity_low", "capacity_high"),
        y_bounds=("necessity_low", "necessity_high"),
        size=20,
        width=0.9,
    )
    panel.set(xlabel="", ylabel="")
    panel.set_title("retrained" if operator == "retrained" else f"{operator} mask")
    light_grid(panel, "both")
figure.supxlabel("Capacity", fontsize=7)
figure.supylabel("Necessity", fontsize=7)

low, high = panels[0, 0].get_xlim()
bottom, top = panels[0, 0].get_ylim()
for panel, nothing in zip(panels.flat, blind.values(), strict=False):
    panel.axhline(0, color=MUTED, linewidth=0.6, zorder=0)
    x = np.array([min(low, nothing), max(high, nothing)])
    panel.plot(x, x - nothing, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0.8)
panels[0, 0].set(xlim=(low, high), ylim=(bottom, top))
encoder_key(spare_panels(panels, len(blind))[0], pool)

save_figure(figure, job.outputs)
