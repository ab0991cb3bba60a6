# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Effective rank under joint training
# Left: how the effective rank of each encoder's features changes in every model that has it. Right: whether a
# model whose ranks grew scores more than its parameters say.

# %%
import numpy as np
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.readings import retrained_scores
from encoder_roles.paper.style import (
    INK,
    MUTED,
    TEXT,
    encoder_colours,
    light_grid,
    save_figure,
    size_colours,
    use_style,
)
from encoder_roles.study import name_subset

job = open_figure("rank_ratios", globals())
pool, tau = job.settings.pool, job.settings.tau
full = name_subset(pool, pool)
ranks = job.table("ranks")
ratios = ranks[ranks["subset"] != "pretrained"].groupby(["encoder", "subset"])
ratios = ratios[["ratio", "ratio_low", "ratio_high"]].mean()
parameters = job.table("costs").groupby("subset")["parameters"].mean()
regression = job.table("rank_regression")

# %% [markdown]
# The residual is that of the first stage of the regression: overall score on the logarithm of the parameters.

# %%
mean_ratios = ratios["ratio"].groupby("subset").mean()  # of every model but the blind one, which has none
models = retrained_scores(job.table("scores")).join(parameters, how="inner").join(mean_ratios, how="inner")
models["size"] = models.index.str.count(r"\+") + 1
if models["parameters"].nunique() > 1:
    slope, start = np.polyfit(np.log(models["parameters"]), models["score"], 1)
    models["residual"] = models["score"] - start - slope * np.log(models["parameters"])
else:
    models["residual"] = models["score"] - models["score"].mean()

use_style()
colours, shades = encoder_colours(pool), size_colours(len(pool))
figure, (left, right) = plt.subplots(1, 2, figsize=(TEXT, 2.7), width_ratios=(1.45, 1))
left.axhspan(1 - tau, 1 + tau, color="#eeeeee", linewidth=0, zorder=0)
left.axhline(1, color=MUTED, linewidth=0.8, zorder=1)
for place, encoder in enumerate(pool):
    of_encoder = ratios.loc[encoder]
    order = sorted(of_encoder.index, key=lambda subset: (subset.count("+"), of_encoder.loc[subset, "ratio"]))
    spread = np.linspace(-0.36, 0.36, len(order)) if len(order) > 1 else np.zeros(1)
    for x, subset in zip(place + spread, order, strict=True):
        ratio, low, high = of_encoder.loc[subset]
        left.plot([x, x], [low, high], color=colours[encoder], linewidth=0.8, alpha=0.6)
        marked = subset in (encoder, full)
        left.plot(
            x,
            ratio,
            "o" if subset == encoder else "s" if subset == full else ".",
            color=colours[encoder],
            markersize=5 if marked else 4,
            mec=INK if marked else colours[encoder],
            mew=0.7 if marked else 0,
        )
left.set_xticks(range(len(pool)), [encoder_name(encoder) for encoder in pool])
left.tick_params(axis="x", length=0)
left.set_xlim(-0.55, len(pool) - 0.45)
left.set_ylabel("rank ratio, trained / pretrained")
light_grid(left, "y")
for marker, label in (("o", "alone"), ("s", "full pool")):
    left.plot([], [], marker, color="white", mec=INK, mew=0.7, markersize=5, label=label)
left.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1), handletextpad=0.1, borderaxespad=0.2)

# %%
for size, of_size in models.groupby("size"):
    right.scatter(of_size["ratio"], of_size["residual"], s=18, color=shades[size - 1], label=str(size), lw=0)
fit = np.polyfit(models["ratio"], models["residual"], 1)
x = np.array([models["ratio"].min(), models["ratio"].max()])
right.plot(x, np.polyval(fit, x), color=MUTED, linewidth=0.9)
right.axhline(0, color=MUTED, linewidth=0.6, zorder=0)
row = regression[regression["model"] == "ratio_mean"]
if len(row):
    note = f"R² = {row['r2'].iloc[0]:.2f}, permutation p = {row['permutation_p'].iloc[0]:.3f}"
    right.set_title(note.replace("-", "−"), fontsize=6.5)
right.set(xlabel="mean rank ratio of the subset", ylabel="score − fit on log parameters")
light_grid(right, "both")
right.legend(
    title="encoders", title_fontsize=6.5, loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0
)

save_figure(figure, job.outputs)
