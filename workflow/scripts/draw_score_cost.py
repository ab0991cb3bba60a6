# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Score against cost
# Every model by its score and by what it costs to hold (parameters) and to train (FLOPs of both stages).
# Steps: the Pareto front, the best score up to a cost.

# %%
from encoder_roles.paper.fronts import draw_fronts
from encoder_roles.paper.job import open_figure
from encoder_roles.paper.style import save_figure, use_style

job = open_figure("score_cost", globals())
models = job.table("pareto")
large = models["parameters"].max() >= 1e9
costs = [
    ("parameters", "parameters (billion)", 1e9) if large else ("parameters", "parameters (million)", 1e6),
    ("flops", "training (exaFLOP)", 1e18) if large else ("flops", "training (teraFLOP)", 1e12),
]

# %%
use_style()
save_figure(draw_fronts(models, costs, len(job.settings.pool)), job.outputs)
