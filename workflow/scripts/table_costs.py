# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Costs by number of encoders
# Counted, not measured: seconds and memory differ between runs and machines; they are in costs.csv.

# %%
from encoder_roles.paper.job import open_table
from encoder_roles.paper.readings import retrained_scores
from encoder_roles.paper.tables import write_table
from encoder_roles.paper.wording import fixed
from encoder_roles.study.names import BLIND

job = open_table("costs", globals())
costs = job.table("costs")
costs = costs[costs["subset"] != BLIND].groupby("subset").mean(numeric_only=True)
costs = costs.join(retrained_scores(job.table("lattice"))["score"])
costs["flops"] = costs["align_flops"] + costs["tune_flops"]

# %%
unit, prefix = (1e9, "B") if costs["parameters"].max() >= 1e9 else (1e6, "M")
exponent = 12 if costs["flops"].max() < 1e16 else 15
rows = [
    [
        fixed(size, 0),
        f"{len(of_size)}",
        fixed(of_size["score"].mean()),
        fixed(of_size["parameters"].mean() / unit, 2),
        fixed(of_size["flops"].mean() / 10**exponent, 1),
    ]
    for size, of_size in costs.groupby("encoders")
]
flops = {12: "TFLOPs", 15: "PFLOPs"}[exponent]
HEAD = ["Size", "Models", "Score", f"{prefix} param.", flops]
write_table(job.outputs["tex"], "rrrrr", HEAD, rows)
