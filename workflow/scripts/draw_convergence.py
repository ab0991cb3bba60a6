# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Convergence
# Top: by how much the last part of tune still lowers the loss of each model, against its final loss. Below:
# what an encoder that joins a subset does to the final loss.

# %%
from matplotlib import pyplot as plt

from encoder_roles.paper.convergence import gated_rows
from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.points import ARM, draw_points, size_key, size_palette
from encoder_roles.paper.style import (
    COLUMN,
    MUTED,
    WARM,
    encoder_colours,
    encoder_markers,
    light_grid,
    save_figure,
    say_nothing_to_show,
    use_style,
)
from encoder_roles.paper.wording import percent
from encoder_roles.study.names import parse_subset
from encoder_roles.study.stages import ConvergenceStage

job = open_figure("convergence", globals())
stage = job.stage("convergence_settings", ConvergenceStage)
pool, gate = stage.pool, stage.gate
models = gated_rows(job.table("convergence"))
edges = job.table("loss_edges")

# %% [markdown]
# A point per model and seed; above the line a training has not converged. Below, above zero an encoder raises
# the loss; intervals are the noise between seeds, where there are several.

# %%
use_style()
figure, (above, below) = plt.subplots(2, figsize=(COLUMN, 4.0), height_ratios=(1, 1.1))
models["size"] = [len(parse_subset(subset, pool)) for subset in models["subset"]]
for column in ("gate_fall", "gate_low", "gate_high"):
    models[column] *= 100
above.axhline(100 * gate.loss_fall, color=WARM, linewidth=0.9, linestyle="--")
draw_points(
    above,
    models.sort_values("size", kind="stable"),
    x="loss",
    y="gate_fall",
    by="size",
    colours=size_palette(len(pool)),
    y_bounds=("gate_low", "gate_high"),
    arms=ARM,
)
above.annotate(
    f"gate: {percent(gate.loss_fall, 1)}",
    (0, 100 * gate.loss_fall),
    (2, 2),
    xycoords=("axes fraction", "data"),
    textcoords="offset points",
    color=WARM,
    fontsize=6.5,
)
above.set(xlabel="final loss of tune", ylabel=f"fall over the last {percent(gate.last_part)} (%)")
light_grid(above, "y")
if models.empty:
    say_nothing_to_show(above, "every training is too short to be judged")

# %%
colours, markers = encoder_colours(pool), encoder_markers(pool)
below.axhline(0, color=MUTED, linewidth=0.8)
draw_points(
    below,
    edges,
    x="loss_without",
    y="rise",
    by="added",
    colours=colours,
    markers=markers,
    y_bounds=("low", "high"),
    arms=ARM,
)
below.set(xlabel="final loss without the encoder", ylabel="change of the loss with it")
light_grid(below, "y")
handles = [
    below.plot([], [], marker=markers[e], color=colours[e], linestyle="", label=encoder_name(e))[0]
    for e in pool
]
figure.legend(handles=handles, ncols=min(5, len(pool)), loc="outside lower center", handletextpad=0.1)
if edges.empty:
    say_nothing_to_show(below, "no two trained subsets differ by one encoder")
size_key(figure, sorted(models["size"].unique()), len(pool), "encoders")

save_figure(figure, job.outputs)
