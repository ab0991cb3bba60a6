# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Which questions the complement fixes, and which are crowded out
# Left: the questions of each skill that both of two encoders solve alone, only one of them, or neither.
# Right: the share of the questions of only one encoder that joint models solve. Sums over all pairs.

# %%
import itertools
from textwrap import shorten

import numpy as np
from matplotlib import pyplot as plt

from encoder_roles.analysis.skills import ALL
from encoder_roles.paper.complements import SHOWN, pooled_rows, skill_name
from encoder_roles.paper.job import open_figure
from encoder_roles.paper.points import HOLLOW, draw_points
from encoder_roles.paper.style import (
    ACCENT,
    COLUMN,
    FAINT,
    INK,
    WARM,
    light_grid,
    save_figure,
    say_nothing_to_show,
    use_style,
)

job = open_figure("complementarity", globals())
rows = pooled_rows(job.table("complementarity"))
classes = {name: of.set_index("skill") for name, of in rows.groupby("questions")}

# %% [markdown]
# All questions come first, then the skills, best kept first. A study with many skills shows those with the
# most questions of only one encoder.

# %%
use_style()
figure, (left, right) = plt.subplots(1, 2, figsize=(COLUMN, 2.4), sharey=True, width_ratios=(1, 1.35))
if classes:
    one = classes["only_one"]
    most = one.drop(ALL).nlargest(SHOWN, "n", keep="first")
    order = [ALL, *most.sort_values("pair", ascending=False, kind="stable").index]
    figure.set_size_inches(COLUMN, 1.0 + 0.135 * len(order))
    places = np.arange(len(order)) + 0.4 * (np.arange(len(order)) > 0)  # a gap below all questions
    start = np.zeros(len(order))
    for name, colour, word in (
        ("both", ACCENT, "both"),
        ("only_one", WARM, "one"),
        ("neither", FAINT, "neither"),
    ):
        share = 100 * classes[name].loc[order, "share"].to_numpy()
        left.barh(places, share, 0.72, left=start, color=colour, label=word)
        start += share
    shown = one.loc[order].assign(place=places)
    for solver in ("pair", "full", "retraining"):
        for end in ("", "_low", "_high"):
            shown[solver + end] *= 100
    again = shown.dropna(subset="retraining")
    right.plot(again["retraining"], again["place"], "|", color=INK, markersize=6, zorder=3)
    for solver, face, marker, shift in (("full", HOLLOW, "D", 0.2), ("pair", WARM, "o", -0.14)):
        known = shown.dropna(subset=solver)
        draw_points(
            right,
            known.assign(place=known["place"] + shift, solver=solver),
            x=solver,
            y="place",
            by="solver",
            colours={solver: face},
            markers=marker,
            x_bounds=(f"{solver}_low", f"{solver}_high"),
            arms=INK if face == HOLLOW else face,
            edge=INK if face == HOLLOW else None,
            size=11,
        )
    left.set_yticks(
        places, ["all questions", *(shorten(skill_name(name), 26, placeholder="…") for name in order[1:])]
    )
    left.set(xlim=(0, 100), ylim=(places[-1] + 0.6, -0.6), xlabel="solved alone (%)")
    right.set(xlim=(-4, 104), xlabel="of one, jointly (%)", ylabel="")
    left.tick_params(axis="y", length=0)
    right.tick_params(axis="y", length=0)
    right.set_xticks([0, 50, 100])
    light_grid(right, "x")
    marks = [
        right.plot([], [], "o", color=WARM, markersize=3.6, label="pair")[0],
        right.plot([], [], "D", mfc="white", color=INK, markersize=3.2, label="full pool")[0],
        *(right.plot([], [], "|", color=INK, label="other seed") if len(again) else ()),
    ]
    bars = left.get_legend_handles_labels()[0]
    # a legend is filled by column: bars in the upper row, marks in the lower one
    keys = [key for column in itertools.zip_longest(bars, marks) for key in column if key]
    figure.legend(handles=keys, ncols=3, loc="outside upper center", handlelength=0.9)
else:
    left.set_axis_off()
    say_nothing_to_show(right, "no two encoders were trained alone")

save_figure(figure, job.outputs)
