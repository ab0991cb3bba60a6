# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Every statement that was tested
# The verdicts are computed from the tables; nothing here is written by hand. Long cells break over lines.
# A verdict says so if trainings had not converged.

# %%
from encoder_roles.paper.convergence import verdict_warning
from encoder_roles.paper.job import open_table
from encoder_roles.paper.tables import write_table
from encoder_roles.paper.verdicts import claim_rows

job = open_table("claims", globals())

# %%
warning = verdict_warning(job.table("convergence"))
rows = claim_rows(job.claims("claims"), job.settings.pool, warning)
write_table(job.outputs["tex"], "lp{2.8in}rp{1.5in}", ["", "Statement", "Estimate", "Verdict"], rows)
