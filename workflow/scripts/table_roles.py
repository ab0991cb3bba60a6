# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Roles of the encoders
# Retrained measures first, then those of each mask operator.

# %%
from encoder_roles.paper.job import open_table
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.tables import RULE, write_table
from encoder_roles.paper.wording import MISSING, with_interval

job = open_table("roles", globals())
pool = job.settings.pool
roles, games = job.table("roles"), job.table("games")
roles = roles[roles["level"] == "overall"]
shapley = games[(games["level"] == "overall") & (games["index"] == "shapley")]
shapley = shapley.rename(columns={"coalition": "encoder"}).assign(measure="shapley")
MEASURES = {
    "Capacity": ("capacity",),
    "Necessity": ("necessity",),
    "N/v(P), %": ("necessity_relative", "cur"),
    "Redundancy": ("redundancy",),
    "Shapley": ("shapley",),
}


def cell(operator, encoder, names):
    """One measure of one encoder, by the first of its names that has a row."""
    for table in (roles, shapley):
        chosen = (table["operator"] == operator) & (table["encoder"] == encoder)
        for _, row in table[chosen & table["measure"].isin(names)].iterrows():
            scale = 100 if "cur" in names else 1
            return with_interval(*(scale * row[column] for column in ("value", "low", "high")))
    return MISSING


# %%
rows = []
for operator in roles["operator"].unique():
    rows += [RULE] if rows else []
    for place, encoder in enumerate(pool):
        name = operator if operator == "retrained" else f"{operator} mask"
        cells = [cell(operator, encoder, names) for names in MEASURES.values()]
        rows.append([name if place == 0 else "", encoder_name(encoder), *cells])
write_table(job.outputs["tex"], "ll" + "r" * len(MEASURES), ["", "Encoder", *MEASURES], rows)
