# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Every statement that was tested
# The verdicts are computed from the tables; nothing here is written by hand. Statements break over lines.

# %%
from encoder_roles.paper.job import open_table
from encoder_roles.paper.tables import bold, write_table
from encoder_roles.paper.wording import print_names, with_interval

job = open_table("claims", globals())
pool = job.settings.pool

# %%
rows = [
    [
        claim["claim"],
        print_names(claim["statement"], pool),
        with_interval(claim["estimate"], claim["low"], claim["high"], 2),
        bold(claim["verdict"]) if claim["verdict"] == "holds" else claim["verdict"],
    ]
    for claim in job.json("claims")
]
write_table(job.outputs["tex"], "lp{3.1in}rl", ["", "Statement", "Estimate", "Verdict"], rows)
