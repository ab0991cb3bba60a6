# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # What the variants say of the claims
# The verdicts are computed from the tables; nothing here is written by hand.

# %%
from encoder_roles.paper.job import open_table
from encoder_roles.paper.tables import bold, write_table
from encoder_roles.paper.wording import with_interval

job = open_table("variant_claims", globals())

# %%
rows = [
    [
        claim["claim"],
        claim["statement"],
        with_interval(claim["estimate"], claim["low"], claim["high"], 2),
        bold(claim["verdict"]) if claim["verdict"] == "holds" else claim["verdict"],
    ]
    for claim in job.json("variant_claims")
]
write_table(job.outputs["tex"], "lp{3.1in}rl", ["", "Statement", "Estimate", "Verdict"], rows)
