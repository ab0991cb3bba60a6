# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Masked against retrained
# For every subset, the score of the model trained on it against the score of the full checkpoint with only
# these encoders kept. On the diagonal, masking and retraining agree.

# %%
import numpy as np
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.points import ARM, draw_points, size_key, size_palette
from encoder_roles.paper.readings import mask_operators, masked_scores, retrained_scores
from encoder_roles.paper.style import (
    COLUMN,
    INK,
    MUTED,
    light_grid,
    save_figure,
    use_style,
)
from encoder_roles.study.names import parse_subset

job = open_figure("masked_vs_retrained", globals())
pool = job.settings.pool
lattice = job.table("lattice")
rankings = job.table("rankings")
rankings = rankings[(rankings["level"] == "overall") & (rankings["measure"] == "score")]
retrained = retrained_scores(lattice)
operators = mask_operators(lattice)

# %% [markdown]
# One panel per operator: how the features of the encoders that are not kept are replaced. The full model lies
# on the diagonal by definition. The ring is the blind model against the checkpoint with all encoders masked.

# %%
use_style()
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
    both["size"] = [len(parse_subset(subset, pool)) for subset in both.index]
    draw_points(
        panel,
        both.sort_values("size", kind="stable"),
        x="score",
        y="score_masked",
        by="size",
        colours=size_palette(len(pool)),
        x_bounds=("low", "high"),
        y_bounds=("low_masked", "high_masked"),
        arms=ARM,
        width=0.5,
    )
    tau = rankings.loc[rankings["operator"] == operator, "kendall_tau"]
    note = f"Kendall τ = {tau.iloc[0]:.2f}" if len(tau) else ""
    panel.set_title(f"{operator} mask", loc="left")
    panel.text(0.03, 0.97, note, transform=panel.transAxes, va="top", color=INK, fontsize=6.5)
    panel.set(xlabel="retrained score v(S)", ylabel="")
    light_grid(panel, "both")

ends = np.concatenate(everything)
low, high = np.nanmin(ends) - 1.5, np.nanmax(ends) + 1.5
for panel in panels[0]:
    panel.plot([low, high], [low, high], color=MUTED, linewidth=0.8, zorder=0.8)
    panel.set(xlim=(low, high), ylim=(low, high), aspect="equal")
panels[0, 0].set_ylabel("masked score w(S)")
size_key(figure, range(len(pool) + 1), len(pool), "encoders kept", "none (blind)")

save_figure(figure, job.outputs)
