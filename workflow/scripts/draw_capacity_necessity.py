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
    MUTED,
    TEXT,
    encoder_colours,
    encoder_markers,
    light_grid,
    save_figure,
    use_style,
)
from encoder_roles.study import BLIND, name_subset

job = open_figure("capacity_necessity", globals())
pool = job.settings.pool
scores, roles = job.table("scores"), job.table("roles")
roles = roles[roles["level"] == "overall"]
blind = {"retrained": retrained_scores(scores).loc[BLIND, "score"]}
for operator in mask_operators(scores):
    blind[operator] = masked_scores(scores, name_subset(pool, pool), operator).loc[BLIND, "score"]


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
figure, panels = plt.subplots(1, len(blind), figsize=(TEXT, 2.6), sharex=True, sharey=True, squeeze=False)
for panel, operator in zip(panels[0], blind, strict=True):
    capacity, necessity = measure("capacity", operator), measure("necessity", operator)
    for e in pool:
        x, y = capacity.loc[e], necessity.loc[e]
        panel.plot([x["low"], x["high"]], [y["value"]] * 2, color=colours[e], linewidth=0.9, alpha=0.7)
        panel.plot([x["value"]] * 2, [y["low"], y["high"]], color=colours[e], linewidth=0.9, alpha=0.7)
        panel.plot(x["value"], y["value"], markers[e], color=colours[e], label=encoder_name(e), markersize=5)
    panel.set_title("retrained" if operator == "retrained" else f"{operator} mask")
    panel.set_xlabel("Capacity" if operator == "retrained" else "masked Capacity")
    light_grid(panel, "both")
panels[0, 0].set_ylabel("Necessity")

low, high = panels[0, 0].get_xlim()
bottom, top = panels[0, 0].get_ylim()
for panel, nothing in zip(panels[0], blind.values(), strict=True):
    panel.axhline(0, color=MUTED, linewidth=0.6, zorder=0)
    x = np.array([min(low, nothing), max(high, nothing)])
    panel.plot(x, x - nothing, color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
panels[0, 0].set(xlim=(low, high), ylim=(bottom, top))
panels[0, -1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handletextpad=0.2)

save_figure(figure, job.outputs)
