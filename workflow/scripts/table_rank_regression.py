# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Does effective rank explain what parameters do not?
# One row per model: the share of the residual it explains, in sample and leaving one subset out, beside the
# same regression on random numbers.

# %%
from encoder_roles.paper.job import open_table
from encoder_roles.paper.tables import RULE, write_table
from encoder_roles.paper.wording import MISSING, fixed, p_value

job = open_table("rank_regression", globals())
regression = job.table("rank_regression").drop_duplicates("model")
NAMES = {
    "parameters": "log parameters",
    "ranks": "all rank terms",
    "log_erank_sum": "log sum of ranks",
    "ratio_mean": "mean ratio",
    "ratio_min": "smallest ratio",
    "ratio_max": "largest ratio",
    "random": "random numbers per encoder",
    "encoders": "log parameters and encoders",
    "ranks_over_encoders": "what rank terms add to it",
}
ENDING = "_within_size"

# %%
rows = []
for within in (False, True):
    of_kind = regression[regression["model"].str.endswith(ENDING) == within]
    rows += [RULE] if rows and len(of_kind) else []
    for _, row in of_kind.iterrows():
        name = NAMES[row["model"].removesuffix(ENDING)]
        rows.append(
            [
                f"{name}, within size" if within else name,
                fixed(row["r2"], 2),
                fixed(row["r2_leave_one_out"], 2),
                p_value(row["permutation_p"]),
                p_value(row["relabel_p"]),
                p_value(row["random_p"]),
            ]
        )
HEAD = ["Terms", "R²", "left out", "p", "p relabel", "p random"]
write_table(job.outputs["tex"], "lrrrrr", HEAD, rows or [["too few subsets", *[MISSING] * 5]])
