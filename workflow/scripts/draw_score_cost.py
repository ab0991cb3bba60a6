# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Score against cost
# Every model by its score and by what it costs to hold (parameters) and to ask (seconds a question). Steps:
# the Pareto front, the best score up to a cost.

# %%
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.style import (
    COLUMN,
    INK,
    MUTED,
    light_grid,
    save_figure,
    say_nothing_to_show,
    size_colours,
    use_style,
)

job = open_figure("score_cost", globals())
pool = job.settings.pool
models, lattice = job.table("pareto"), job.table("lattice")
questions = int(lattice.loc[lattice["level"] == "overall", "n"].max())
largest = models["parameters"].max()
million = ("million", 1e6) if largest < 1e9 else ("billion", 1e9)
# a cost, its axis, its unit
costs = [
    ("parameters", f"parameters ({million[0]})", million[1]),
    ("predict_seconds", "milliseconds a question", questions / 1000),
]
costs = [cost for cost in costs if cost[0] in models.columns and models[cost[0]].notna().any()]

# %%
use_style()
shades = size_colours(len(pool))
figure, panels = plt.subplots(1, max(1, len(costs)), figsize=(COLUMN, 2.35), sharey=True, squeeze=False)
for panel, (cost, label, unit) in zip(panels[0], costs, strict=False):
    of_cost = models.assign(x=models[cost] / unit).sort_values("x", kind="stable")
    for x, low, high in of_cost[["x", "low", "high"]].itertuples(index=False):
        panel.plot([x, x], [low, high], color="#bdbdbd", linewidth=0.7, zorder=0)
    front = of_cost[of_cost[f"front_{cost}"]]
    panel.step(front["x"], front["score"], where="post", color=MUTED, linewidth=0.9, zorder=1)
    for size, of_size in of_cost.groupby("size"):
        look = {"color": shades[size - 1], "lw": 0} if size else {"facecolor": "white", "edgecolor": MUTED}
        word = str(size) if size else "blind"
        panel.scatter(of_size["x"], of_size["score"], s=13, label=word, zorder=2, **look)
    panel.scatter(front["x"], front["score"], s=20, facecolor="none", edgecolor=INK, lw=0.7, zorder=3)
    panel.set_xlabel(label)
    panel.margins(x=0.08)
    light_grid(panel, "both")
panels[0, 0].set_ylabel("overall score")
handles, labels = panels[0, 0].get_legend_handles_labels()
figure.legend(
    handles,
    labels,
    title="encoders (ring: on the front)",
    title_fontsize=6.5,
    ncols=len(labels),
    loc="outside upper center",
    handletextpad=0,
    columnspacing=1.0,
)
if not costs:
    say_nothing_to_show(panels[0, 0], "no costs")

save_figure(figure, job.outputs)
