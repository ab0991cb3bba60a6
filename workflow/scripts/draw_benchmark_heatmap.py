# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Necessity and Capacity on each benchmark
# Necessity is what the full pool loses when it is retrained without the encoder; Capacity is the score of
# the encoder alone, shown here above the blind score. Points of 100.

# %%
import numpy as np
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.matrices import Label, draw_matrix, symmetric_limits
from encoder_roles.paper.names import benchmark_name, encoder_name, group_order
from encoder_roles.paper.readings import benchmarks_of, retrained_scores
from encoder_roles.paper.style import COLUMN, MUTED, save_figure, use_style
from encoder_roles.paper.wording import fixed
from encoder_roles.study.names import BLIND

job = open_figure("benchmark_heatmap", globals())
pool = job.settings.pool
lattice, roles = job.table("lattice"), job.table("roles")
benchmarks = benchmarks_of(lattice)
roles = roles[(roles["level"] == "benchmark") & (roles["operator"] == "retrained")]
blind = [retrained_scores(lattice, "benchmark", benchmark).loc[BLIND, "score"] for benchmark in benchmarks]


def measure(name, column):
    """One column of a measure, (benchmarks, encoders)."""
    rows = roles[roles["measure"] == name].pivot(index="benchmark", columns="encoder", values=column)
    return rows.reindex(index=benchmarks, columns=pool).to_numpy(float)


bounds = ("value", "low", "high")
tables = {
    "Necessity": [measure("necessity", column) for column in bounds],
    "Capacity − blind": [measure("capacity", column) - np.array(blind)[:, None] for column in bounds],
}

# %% [markdown]
# Each panel has its colour scale, symmetric about zero: purple gains, orange loses. Bold Necessity: its
# interval excludes zero. Bold Capacity: its interval excludes the blind score. Gaps separate the groups.

# %%
use_style()
figure, panels = plt.subplots(1, 2, figsize=(COLUMN, 0.75 + 0.165 * len(benchmarks)), sharey=True)
group_of = (
    lattice[lattice["level"] == "benchmark"].drop_duplicates("benchmark").set_index("benchmark")["group"]
)
groups = {group: [b for b in benchmarks if group_of[b] == group] for group in group_order(group_of)}
for panel, (title, (values, low, high)) in zip(panels, tables.items(), strict=True):
    labels = {
        place: Label(fixed(value, 0), bold=low[place] > 0 or high[place] < 0)
        for place, value in np.ndenumerate(values)
        if not np.isnan(value)
    }
    draw_matrix(panel, values, labels, cmap="PuOr", limits=symmetric_limits(values), gap=0, size=6.2)
    panel.set_title(title, fontsize=7)
    names = [encoder_name(encoder) for encoder in pool]
    panel.set_xticks(np.arange(len(pool)) + 0.5, names, rotation=40, ha="right", rotation_mode="anchor")
    panel.tick_params(length=0, pad=2)
    for of_group in list(groups.values())[1:]:
        panel.axhline(benchmarks.index(of_group[0]), color="white", linewidth=3)
panels[0].set_yticks(np.arange(len(benchmarks)) + 0.5, [benchmark_name(name) for name in benchmarks])
for group, of_group in groups.items():
    middle = benchmarks.index(of_group[0]) + len(of_group) / 2
    panels[1].annotate(
        group,
        (1, middle),
        (4, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        rotation=270,
        va="center",
        fontsize=6.2,
        color=MUTED,
        annotation_clip=False,
    )

save_figure(figure, job.outputs)
