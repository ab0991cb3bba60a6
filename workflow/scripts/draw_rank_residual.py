# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Rank ratio against residual
# Whether a model whose ranks grew scores more than its parameters say: the residual of the overall score on
# the logarithm of the parameters, against the mean rank ratio of the model's encoders.

# %%
import numpy as np
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.points import ARM, draw_points, size_key, size_palette
from encoder_roles.paper.readings import retrained_scores
from encoder_roles.paper.style import COLUMN, MUTED, light_grid, save_figure, use_style
from encoder_roles.paper.wording import fixed

job = open_figure("rank_residual", globals())
pool = job.settings.pool
ranks = job.table("ranks")
ratios = ranks[ranks["subset"] != "pretrained"].groupby("subset")[["ratio", "ratio_low", "ratio_high"]].mean()
parameters = job.table("costs").groupby("subset")["parameters"].mean()
scores = retrained_scores(job.table("lattice"))
regression = job.table("rank_regression")

# %% [markdown]
# Vertical lines are the intervals of the scores. Horizontal lines average the intervals of the encoders,
# which bounds the interval of their mean.

# %%
models = scores.join(parameters, how="inner").join(ratios, how="inner")
models["size"] = models.index.str.count(r"\+") + 1
expected = np.full(len(models), models["score"].mean())
if models["parameters"].nunique() > 1:
    expected = np.polyval(
        np.polyfit(np.log(models["parameters"]), models["score"], 1), np.log(models["parameters"])
    )
models[["score", "low", "high"]] = models[["score", "low", "high"]].sub(expected, axis=0)  # the residuals

use_style()
figure, axes = plt.subplots(figsize=(COLUMN, 2.4))
axes.axhline(0, color=MUTED, linewidth=0.6, zorder=0)
draw_points(
    axes,
    models.sort_values("size", kind="stable"),
    x="ratio",
    y="score",
    by="size",
    colours=size_palette(len(pool)),
    x_bounds=("ratio_low", "ratio_high"),
    y_bounds=("low", "high"),
    arms=ARM,
    size=17,
    width=0.6,
)
fit = np.polyfit(models["ratio"], models["score"], 1)
x = np.array([models["ratio"].min(), models["ratio"].max()])
axes.plot(x, np.polyval(fit, x), color=MUTED, linewidth=0.9, zorder=1)
row = regression[regression["model"] == "ratio_mean"]
if len(row):
    share, ahead, p = (float(row[c].iloc[0]) for c in ("r2", "r2_leave_one_out", "permutation_p"))
    note = f"R² {fixed(share, 2)}, leave-one-out {fixed(ahead, 2)}, permutation p {fixed(p, 3)}"
    axes.set_title(note, fontsize=6.5)
axes.set(xlabel="mean rank ratio of the subset", ylabel="score − fit on log parameters")
light_grid(axes, "both")
size_key(figure, sorted(models["size"].unique()), len(pool), "encoders")

save_figure(figure, job.outputs)
