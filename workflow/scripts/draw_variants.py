# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Variants against the baseline
# Each variant's difference to the study as it stands, on the same questions: the mean over the subsets with
# its interval, and every subset as a small mark. At the right: training FLOPs in units of the baseline's.

# %%
import numpy as np
from matplotlib import pyplot as plt

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.points import HOLLOW, draw_points
from encoder_roles.paper.style import (
    ACCENT,
    COLUMN,
    FAINT,
    INK,
    MUTED,
    light_grid,
    save_figure,
    say_nothing_to_show,
    use_style,
)
from encoder_roles.paper.wording import signed
from encoder_roles.study.names import BLIND
from encoder_roles.study.variants import MEAN, VariantStage

job = open_figure("variants", globals())
stage = job.stage("variant_settings", VariantStage)
table = job.table("variants")
overall = table[(table["level"] == "overall") & (table["subset"] != BLIND)]
means = overall[overall["subset"] == MEAN].set_index("variant")
others = means.drop(index=stage.baseline).sort_values("difference").copy()

# %%
use_style()
figure, axes = plt.subplots(figsize=(COLUMN, 0.75 + 0.36 * max(2, len(others))))
if others.empty:
    say_nothing_to_show(axes, "the study has no variant but its baseline")
axes.axvline(0, color=MUTED, linewidth=0.8, zorder=1)
others["place"] = np.arange(float(len(others)))
others["sure"] = others["p_holm"] < 1 - stage.statistics.level
single = overall[overall["variant"].isin(others.index) & (overall["subset"] != MEAN) & ~overall["shared"]]
single = single.assign(place=single["variant"].map(others["place"]) - 0.22)
draw_points(
    axes, single, x="difference", y="place", by="level", colours={"overall": FAINT}, edge=MUTED, size=8
)
draw_points(
    axes,
    others,
    x="difference",
    y="place",
    by="sure",
    colours={True: ACCENT, False: HOLLOW},
    x_bounds=("difference_low", "difference_high"),
    arms=ACCENT,
    edge=ACCENT,
    size=20,
    width=1.4,
)
for _, row in others.iterrows():
    factor = row["flops"] / means.loc[stage.baseline, "flops"]
    axes.annotate(
        f"{signed(row['difference'])}  ({factor:.2f}×)",
        (1, row["place"]),
        (4, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        fontsize=6.5,
        color=INK,
        annotation_clip=False,
    )
if not others.empty:
    axes.set_yticks(range(len(others)), others.index)
    axes.set_ylim(-0.6, len(others) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.annotate(
        "points (FLOPs)",
        (1, len(others) - 0.5),
        (4, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        fontsize=6.5,
        color=MUTED,
        annotation_clip=False,
    )
    axes.set(xlabel=f"points over {stage.baseline} (overall score)", ylabel="")
    light_grid(axes, "x")

save_figure(figure, job.outputs)
