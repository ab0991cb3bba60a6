# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Pairs, best first

# %%
from encoder_roles.paper.job import open_table
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.tables import write_table
from encoder_roles.paper.wording import MISSING, fixed, percent, with_interval

job = open_table("pairs", globals())
pairs = job.table("pairs")
HEAD = [
    "Pair",
    "Score",
    "Of full pool",
    "Minus full pool",
    "Capacities",
    "Rank ratios",
    "Anchor",
    "Complement",
]


def named(encoder):
    return encoder_name(encoder) if isinstance(encoder, str) else MISSING


# %%
rows = [
    [
        f"{encoder_name(pair['first'])} + {encoder_name(pair['second'])}",
        with_interval(pair["score"], pair["low"], pair["high"]),
        percent(pair["share_of_full"]),
        with_interval(pair["difference_to_full"], pair["difference_low"], pair["difference_high"]),
        fixed(pair["capacity_sum"]),
        f"{fixed(pair['ratio_first'], 2)}, {fixed(pair['ratio_second'], 2)}",
        named(pair["anchor"]),
        named(pair["complement"]),
    ]
    for _, pair in pairs.iterrows()
]
write_table(job.outputs["tex"], "lrrrrrll", HEAD, rows or [["no pair was trained", *[MISSING] * 7]])
