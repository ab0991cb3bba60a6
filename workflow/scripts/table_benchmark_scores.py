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
from encoder_roles.paper.readings import benchmarks_of, in_lattice_order, retrained_scores
from encoder_roles.paper.tables import RULE, bold, write_table
from encoder_roles.paper.wording import fixed
from encoder_roles.study.names import parse_subset

job = open_table("benchmark_scores", globals())
pool = job.settings.pool
scores = job.table("scores")
found = {name: retrained_scores(scores, "benchmark", name)["score"] for name in benchmarks_of(scores)}
found["overall"] = retrained_scores(scores)["score"]

# %%
rows, size = [], 0
for subset in in_lattice_order(list(found["overall"].index), pool):
    members = parse_subset(subset, pool)
    if len(members) > size:
        rows.append(RULE)
        size = len(members)
    cells = (
        ["•" if encoder in members else "" for encoder in pool]
        if members
        else ["blind", *[""] * (len(pool) - 1)]
    )
    for of_name in found.values():
        text = fixed(of_name[subset])
        cells.append(bold(text) if of_name[subset] == of_name.max() else text)
    rows.append(cells)
head = [*(encoder_name(encoder)[:4] for encoder in pool), *map(short_benchmark_name, found)]
write_table(job.outputs["tex"], "c" * len(pool) + "r" * len(found), head, rows)
