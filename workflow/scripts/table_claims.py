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
from encoder_roles.paper.tables import write_table
from encoder_roles.paper.verdicts import claim_rows

job = open_table("claims", globals())

# %%
rows = claim_rows(job.claims("claims"), job.settings.pool)
write_table(job.outputs["tex"], "lp{3.1in}rl", ["", "Statement", "Estimate", "Verdict"], rows)
