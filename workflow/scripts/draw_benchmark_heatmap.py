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
import pandas as pd
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.readings import benchmarks_of, retrained_scores
from encoder_roles.paper.style import (
    TEXT,
    benchmark_name,
    encoder_name,
    save_figure,
    text_on,
    use_style,
    whole_number,
)
from encoder_roles.study import BLIND, GROUPS, name_subset

job = open_figure("benchmark_heatmap", globals())
pool = job.settings.pool
scores = job.table("scores")
benchmarks = benchmarks_of(scores)

# %%
capacity, necessity = {}, {}
for benchmark in benchmarks:
    value = retrained_scores(scores, "benchmark", benchmark)["score"]
    full = value[name_subset(pool, pool)]
    without = {e: name_subset(tuple(o for o in pool if o != e), pool) for e in pool}
    capacity[benchmark] = {e: value.get(e, np.nan) - value[BLIND] for e in pool}
    necessity[benchmark] = {e: full - value.get(without[e], np.nan) for e in pool}
tables = {
    "Capacity − blind": pd.DataFrame(capacity),
    "Necessity": pd.DataFrame(necessity),
}

# %% [markdown]
# Each panel has a scale of its own, symmetric about zero: purple gains, orange loses. Gaps part the groups.

# %%
use_style()
n = len(pool)
figure, panels = plt.subplots(2, 1, figsize=(TEXT, 1.35 + 0.38 * n), sharex=True)
groups = {
    group: [b for b in benchmarks if b in of] for group, of in GROUPS.items() if set(of) & set(benchmarks)
}
for panel, (title, table) in zip(panels, tables.items(), strict=True):
    values = table.to_numpy()
    limit = np.nanmax(np.abs(values))
    image = panel.imshow(values, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = text_on(image.cmap(image.norm(value)))
            panel.text(j, i, whole_number(value), ha="center", va="center", color=ink, fontsize=6.5)
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
