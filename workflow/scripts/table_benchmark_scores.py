# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Scores of all models on all benchmarks

# %%
from encoder_roles.paper.job import open_table
from encoder_roles.paper.names import encoder_name, short_benchmark_name
from encoder_roles.paper.readings import OVERALL, benchmarks_of, retrained_scores
from encoder_roles.paper.tables import subset_rows, write_table
from encoder_roles.paper.wording import fixed

job = open_table("benchmark_scores", globals())
pool = job.settings.pool
lattice = job.table("lattice")
benchmarks = benchmarks_of(lattice)
columns = [retrained_scores(lattice, "benchmark", benchmark) for benchmark in benchmarks]
columns.append(retrained_scores(lattice))

# %%
rows = subset_rows(pool, columns, lambda score, *_: fixed(score))
head = [*(encoder_name(encoder)[:4] for encoder in pool), *map(short_benchmark_name, [*benchmarks, OVERALL])]
write_table(job.outputs["tex"], "c" * len(pool) + "r" * len(columns), head, rows)
