# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Gates of the language model
# Accuracy on questions about a text that stands for the picture.

# %%
from encoder_roles.paper.job import open_table
from encoder_roles.paper.names import benchmark_name
from encoder_roles.paper.tables import write_table
from encoder_roles.paper.wording import MISSING, fixed, grouped, with_interval

job = open_table("language_gates", globals())
gates = job.table("gates")
gates = gates[gates["source"] == "language_model"]
STEM = "text accuracy "


def name(gate):
    return benchmark_name(gate.removeprefix(STEM))


# %%
rows = [
    [
        name(row["gate"]),
        with_interval(row["value"], row["low"], row["high"]),
        grouped(row["n"]),
        fixed(row["threshold"], 0),
        {"true": "yes", "false": "no"}.get(str(row["passed"]).lower(), MISSING),
    ]
    for _, row in gates.iterrows()
]
HEAD = ["Text accuracy", "%", "n", "Gate", "Passed"]
write_table(job.outputs["tex"], "lrrrl", HEAD, rows or [["none", *[MISSING] * 4]])
