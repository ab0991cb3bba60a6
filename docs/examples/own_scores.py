# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # What does each encoder contribute? Your own scores, without any training
# Run this in the folder of the project, or change the name of the table. `jupytext --to notebook` makes a
# notebook of this file.

# %%
import encoder_roles as er

# %% [markdown]
# ## A published table
# The ensembles of Cambrian-1, as printed: seven models of four encoders. Row 6 has the label of row 5.

# %%
cambrian = er.analyse_table("docs/examples/cambrian1_ensemble_table2.csv", leave_out=[6])
cambrian  # as text: print(cambrian)

# %% [markdown]
# No encoder was trained alone, so there is no Capacity. `notes` says what else the table cannot give.

# %%
for note in cambrian.notes[:4]:
    print(note["table"], "-", note["note"])

# %% [markdown]
# ## All subsets of three encoders
# With every subset, the blind model and the numbers of questions there are roles, interactions and intervals.

# %%
import pandas as pd

scores = pd.DataFrame(
    [
        ("blind", 38.0, 21.0),
        ("clip", 61.0, 34.0),
        ("dinov2", 55.0, 42.0),
        ("sam", 47.0, 33.0),
        ("clip+dinov2", 66.0, 47.0),
        ("clip+sam", 62.0, 38.0),
        ("dinov2+sam", 56.0, 44.0),
        ("clip+dinov2+sam", 66.5, 48.0),
        ("n", 12000, 2600),
    ],
    columns=["encoders", "gqa", "cvbench2d"],
)
analysis = er.analyse_table(scores)
analysis

# %%
analysis.tables["games"].query("level == 'overall' and index == 'shapley'")[
    ["coalition", "value", "low", "high"]
]

# %% [markdown]
# Every subset with its score; a line adds one encoder. `analysis.save("out")` writes all tables and
# figures, and one page of HTML.

# %%
analysis.figure("subset_lattice")

# %% [markdown]
# ## Which subset to train next
# Four of seven subsets are trained; each score has a standard error of half a point.

# %%
trained = {"clip": (47.5, 0.5), "dinov2": (48.5, 0.5), "sam": (40.0, 0.5), "clip+dinov2+sam": (57.2, 0.5)}
advice = er.advise(trained, ("clip", "dinov2", "sam"), [er.Goal(at_most=2), er.Goal(at_most=2, margin=1)])
advice

# %%
advice.figure("subset_lattice")
