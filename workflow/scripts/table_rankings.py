# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Agreement of retrained and masked rankings

# %%
from encoder_roles.paper.job import open_table
from encoder_roles.paper.names import subset_name
from encoder_roles.paper.tables import RULE, write_table
from encoder_roles.paper.wording import MISSING, p_value, percent, with_interval

job = open_table("rankings", globals())
rankings = job.table("rankings")
HEAD = ["Scores", "Mask", "Kendall τ", "p", "Spearman ρ", "First retrained", "First masked", "First differs"]


def row_of(row, scope):
    """The cells of one comparison; first places of 31 subsets are too long for a column and are left out."""
    encoders = row["comparison"] == "encoders"
    return [
        scope,
        row["operator"],
        with_interval(row["kendall_tau"], row["kendall_low"], row["kendall_high"], 2),
        p_value(row["kendall_p"]),
        with_interval(row["spearman_rho"], row["spearman_low"], row["spearman_high"], 2),
        subset_name(row["first_retrained"]) if encoders else "",
        subset_name(row["first_masked"]) if encoders else "",
        percent(row["probability_first_differs"]),
    ]


# %%
rows = []
for comparison, measure, title in (("encoders", "necessity", "encoders"), ("subsets", "score", "subsets")):
    of_kind = rankings[(rankings["comparison"] == comparison) & (rankings["measure"] == measure)]
    of_kind = of_kind if comparison == "encoders" else of_kind[of_kind["level"] == "overall"]
    rows += [RULE] if rows and len(of_kind) else []
    for (_, group), of_group in of_kind.groupby(["level", "group"], sort=False):
        scope = f"{title}, {'overall' if group == 'overall' else group}"
        rows += [row_of(row, scope if i == 0 else "") for i, (_, row) in enumerate(of_group.iterrows())]
write_table(job.outputs["tex"], "llrrrllr", HEAD, rows or [["nothing to compare", *[MISSING] * 7]])
