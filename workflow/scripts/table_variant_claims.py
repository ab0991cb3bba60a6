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
from encoder_roles.paper.tables import write_table
from encoder_roles.paper.verdicts import claim_rows

job = open_table("variant_claims", globals())

# %%
rows = claim_rows(job.claims("variant_claims"))
write_table(job.outputs["tex"], "lp{3.1in}rl", ["", "Statement", "Estimate", "Verdict"], rows)
