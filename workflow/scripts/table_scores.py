# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Scores of all models
# One row per subset, smallest first: the four groups and overall, each with the half-width of its interval.

# %%
from encoder_roles.paper.job import open_table
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.readings import groups_of, retrained_scores
from encoder_roles.paper.tables import subset_rows, write_table
from encoder_roles.paper.wording import with_half_width

job = open_table("scores", globals())
pool = job.settings.pool
lattice = job.table("lattice")
groups = groups_of(lattice)
columns = [*(retrained_scores(lattice, "group", group) for group in groups), retrained_scores(lattice)]

# %%
rows = subset_rows(pool, columns, with_half_width)
head = [*map(encoder_name, pool), *groups, "Overall"]
write_table(job.outputs["tex"], "c" * len(pool) + "r" * len(columns), head, rows)
