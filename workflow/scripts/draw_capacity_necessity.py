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
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import encoder_name
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
lattice, roles = job.table("lattice"), job.table("roles")
roles = roles[roles["level"] == "overall"]
blind = {"retrained": retrained_scores(lattice).loc[BLIND, "score"]}
for operator in mask_operators(lattice):
    blind[operator] = masked_scores(lattice, operator).loc[BLIND, "score"]


def measure(name, operator):
    """value, low, high of one measure, indexed by encoder."""
    rows = roles[(roles["measure"] == name) & (roles["operator"] == operator)]
    return rows.set_index("encoder").reindex(pool)[["value", "low", "high"]]


# %% [markdown]
# On the broken line an encoder adds to the full pool what it adds to nothing (redundancy zero). Below it
# others can stand in for the encoder; above it the encoders need one another.

# %%
use_style()
colours, markers = encoder_colours(pool), encoder_markers(pool)
rows = -(-(len(blind) + 1) // 2)  # two columns, and a place for the key
figure, panels = plt.subplots(rows, 2, figsize=(COLUMN, 1.55 * rows), sharex=True, sharey=True, squeeze=False)
for panel, operator in zip(panels.flat, blind, strict=False):
    capacity, necessity = measure("capacity", operator), measure("necessity", operator)
    for e in pool:
        x, y = capacity.loc[e], necessity.loc[e]
        panel.plot([x["low"], x["high"]], [y["value"]] * 2, color=colours[e], linewidth=0.9, alpha=0.7)
        panel.plot([x["value"]] * 2, [y["low"], y["high"]], color=colours[e], linewidth=0.9, alpha=0.7)
        panel.plot(x["value"], y["value"], markers[e], color=colours[e], label=encoder_name(e), markersize=4)
    panel.set_title("retrained" if operator == "retrained" else f"{operator} mask")
    light_grid(panel, "both")
figure.supxlabel("Capacity", fontsize=7)
figure.supylabel("Necessity", fontsize=7)

low, high = panels[0, 0].get_xlim()
bottom, top = panels[0, 0].get_ylim()
for panel, nothing in zip(panels.flat, blind.values(), strict=False):
    panel.axhline(0, color=MUTED, linewidth=0.6, zorder=0)
    x = np.array([min(low, nothing), max(high, nothing)])
    panel.plot(x, x - nothing, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
panels[0, 0].set(xlim=(low, high), ylim=(bottom, top))
handles, labels = panels[0, 0].get_legend_handles_labels()
spare_panels(panels, len(blind))[0].legend(handles, labels, loc="center", handletextpad=0.2)

save_figure(figure, job.outputs)
