# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Score against measured time
# Every model by its score and by the time it took on the machine that ran it: for an answer, and for all.
# Steps: the Pareto front, the best score up to a cost. Measured time differs from run to run, so the paper
# does not show it.

# %%
from encoder_roles.paper.fronts import draw_fronts
from encoder_roles.paper.job import open_figure
from encoder_roles.paper.style import save_figure, use_style

job = open_figure("score_latency", globals())
models, lattice = job.table("pareto"), job.table("lattice")
questions = int(lattice.loc[lattice["level"] == "overall", "n"].max())
costs = [
    ("predict_seconds", "milliseconds a question", questions / 1000),
    ("core_hours", "core minutes in all", 1 / 60),
]

# %%
use_style()
save_figure(draw_fronts(models, costs, len(job.settings.pool)), job.outputs)
