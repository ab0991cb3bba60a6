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
from encoder_roles.paper.names import encoder_name, group_order
from encoder_roles.paper.readings import in_lattice_order, retrained_scores
from encoder_roles.paper.tables import RULE, bold, write_table
from encoder_roles.paper.wording import fixed
from encoder_roles.study.names import parse_subset

job = open_table("scores", globals())
pool = job.settings.pool
scores = job.table("scores")
columns = {group: ("group", group) for group in group_order(scores["group"].dropna())}
columns["Overall"] = ("overall", "overall")
found = {name: retrained_scores(scores, *level) for name, level in columns.items()}
best = {name: of_name["score"].max() for name, of_name in found.items()}

# %%
rows, size = [], 0
for subset in in_lattice_order(list(found["Overall"].index), pool):
    members = parse_subset(subset, pool)
    if len(members) > size:
        rows.append(RULE)
        size = len(members)
    cells = (
        ["•" if encoder in members else "" for encoder in pool]
        if members
        else ["blind", *[""] * (len(pool) - 1)]
    )
    for name, of_name in found.items():
        score, low, high = of_name.loc[subset, ["score", "low", "high"]]
        text = f"{fixed(score)} ± {fixed((high - low) / 2)}"
        cells.append(bold(text) if score == best[name] else text)
    rows.append(cells)
head = [*map(encoder_name, pool), *columns]
write_table(job.outputs["tex"], "c" * len(pool) + "r" * len(columns), head, rows)
