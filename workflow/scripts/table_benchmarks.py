# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # The benchmarks

# %%
from encoder_roles.paper.job import open_table
from encoder_roles.paper.names import benchmark_name
from encoder_roles.paper.readings import benchmarks_of
from encoder_roles.paper.tables import RULE, write_table
from encoder_roles.paper.wording import grouped, percent
from encoder_roles.study.names import NO_MASK

job = open_table("benchmarks", globals())
scores, manifest = job.table("scores"), job.json("manifest")
scores = scores[(scores["level"] == "benchmark") & (scores["operator"] == NO_MASK)]

# %%
rows, group = [], None
for benchmark in benchmarks_of(scores):
    entry = manifest[benchmark]
    rows += [RULE] if group not in (None, entry["group"]) else []
    unparsable = scores.loc[scores["benchmark"] == benchmark, "unparsable_share"].mean()
    rows.append(
        [
            entry["group"] if entry["group"] != group else "",
            benchmark_name(benchmark),
            grouped(entry["n"]),
            grouped(entry["clusters"]),
            entry["metric"].replace("_", " "),
            percent(unparsable, 1),
        ]
    )
    group = entry["group"]
write_table(job.outputs["tex"], "llrrlr", ["Group", "Format of", "n", "Clusters", "Metric", "Unparsed"], rows)
