# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Variants: scores, differences to the baseline, costs
# Means over the subsets; p is corrected over the variants, FLOPs are in units of the baseline's. Seconds,
# which differ between runs and machines, are in variants.csv.

# %%
from encoder_roles.paper.job import open_table
from encoder_roles.paper.tables import bold, write_table
from encoder_roles.paper.wording import MISSING, fixed, interval_text, signed
from encoder_roles.study.variants import MEAN, VariantStage

job = open_table("variants", globals())
stage = job.stage("variant_settings", VariantStage)
table = job.table("variants")
rows_of = table[(table["level"] == "overall") & (table["subset"] == MEAN)]
base = rows_of.set_index("variant").loc[stage.baseline]

# %%
unit, prefix = (1e9, "B") if rows_of["parameters"].max() >= 1e9 else (1e6, "M")
rows = []
for row in rows_of.sort_values("score", ascending=False, kind="stable").to_dict("records"):
    is_baseline = row["variant"] == stage.baseline
    bounds = interval_text(row["difference_low"], row["difference_high"])
    p = row["p_holm"]
    rows.append(
        [
            bold(row["variant"]) if is_baseline else row["variant"],
            fixed(row["score"]),
            MISSING if is_baseline else f"{signed(row['difference'])} {bounds}",
            MISSING if is_baseline else "< 0.001" if p < 0.001 else fixed(p, 3),
            fixed(row["parameters"] / unit, 2),
            fixed(row["flops"] / base["flops"], 2),
        ]
    )
HEAD = ["Variant", "Score", f"Over {stage.baseline}", "p", f"{prefix} param.", "FLOPs"]
write_table(job.outputs["tex"], "lrrrrr", HEAD, rows)
