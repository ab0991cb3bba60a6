# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Capacity and Necessity on each benchmark
# Capacity is the score of the encoder alone, shown here above the blind score; Necessity is what the full
# pool loses when it is retrained without the encoder. Points of 100.

# %%
import numpy as np
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import benchmark_name, encoder_name
from encoder_roles.paper.readings import benchmarks_of, retrained_scores
from encoder_roles.paper.style import TEXT, save_figure, text_on, use_style
from encoder_roles.paper.wording import fixed
from encoder_roles.study import BLIND, GROUPS

job = open_figure("benchmark_heatmap", globals())
pool = job.settings.pool
scores, roles = job.table("scores"), job.table("roles")
benchmarks = benchmarks_of(scores)
roles = roles[(roles["level"] == "benchmark") & (roles["operator"] == "retrained")]
blind = [retrained_scores(scores, "benchmark", benchmark).loc[BLIND, "score"] for benchmark in benchmarks]


def measure(name, column):
    """One column of a measure, (encoders, benchmarks)."""
    rows = roles[roles["measure"] == name].pivot(index="encoder", columns="benchmark", values=column)
    return rows.reindex(index=pool, columns=benchmarks).to_numpy()


tables = {
    "Capacity − blind": [measure("capacity", column) - blind for column in ("value", "low", "high")],
    "Necessity": [measure("necessity", column) for column in ("value", "low", "high")],
}

# %% [markdown]
# Each panel has a scale of its own, symmetric about zero: purple gains, orange loses. Bold numbers have an
# interval that excludes zero (for Capacity: the blind score). Gaps part the groups.

# %%
use_style()
n = len(pool)
figure, panels = plt.subplots(2, 1, figsize=(TEXT, 1.35 + 0.38 * n), sharex=True)
groups = {
    group: [b for b in benchmarks if b in of] for group, of in GROUPS.items() if set(of) & set(benchmarks)
}
for panel, (title, (values, low, high)) in zip(panels, tables.items(), strict=True):
    limit = np.nanmax(np.abs(values))
    image = panel.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = text_on(image.cmap(image.norm(value)))
            weight = "bold" if low[i, j] > 0 or high[i, j] < 0 else "normal"
            text = fixed(value, 0)
            panel.text(j, i, text, ha="center", va="center", color=ink, fontsize=6.5, weight=weight)
    panel.set_ylabel(title, labelpad=6)
    panel.set_yticks(range(n), [encoder_name(encoder) for encoder in pool])
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    for of_group in list(groups.values())[1:]:
        panel.axvline(benchmarks.index(of_group[0]) - 0.5, color="white", linewidth=3)
for group, of_group in groups.items():
    middle = benchmarks.index(of_group[0]) + (len(of_group) - 1) / 2
    panels[0].text(middle, -0.62, group, ha="center", va="bottom")
names = [benchmark_name(benchmark) for benchmark in benchmarks]
panels[1].set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")

save_figure(figure, job.outputs)
