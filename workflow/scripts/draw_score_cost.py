# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Score against size
# Every model by its parameters and its score. Steps: the best score up to a size.

# %%
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.readings import retrained_scores
from encoder_roles.paper.style import COLUMN, FAINT, MUTED, light_grid, save_figure, size_colours, use_style

job = open_figure("score_cost", globals())
pool = job.settings.pool
parameters = job.table("costs").groupby("subset")["parameters"].mean()
models = retrained_scores(job.table("scores")).join(parameters, how="inner")
models["size"] = models.index.str.count(r"\+") + 1
models = models.sort_values("parameters", kind="stable")
front = models[models["score"] > models["score"].cummax().shift(fill_value=-1)]

# %%
use_style()
shades = size_colours(len(pool))
unit, name = (1e9, "billion") if models["parameters"].max() >= 1e9 else (1e6, "million")
figure, axes = plt.subplots(figsize=(COLUMN, 2.4))
axes.step(front["parameters"] / unit, front["score"], where="post", color=MUTED, linewidth=0.9, zorder=1)
for x, low, high in zip(models["parameters"] / unit, models["low"], models["high"], strict=True):
    axes.plot([x, x], [low, high], color=FAINT, linewidth=0.9, zorder=0)
for size, of_size in models.groupby("size"):
    axes.scatter(
        of_size["parameters"] / unit,
        of_size["score"],
        s=18,
        color=shades[size - 1],
        lw=0,
        label=str(size),
        zorder=2,
    )
axes.set(xlabel=f"parameters ({name})", ylabel="overall score")
light_grid(axes, "both")
axes.legend(title="encoders", title_fontsize=6.5, loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0)

save_figure(figure, job.outputs)
