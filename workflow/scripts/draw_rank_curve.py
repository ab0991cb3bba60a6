# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Effective rank against the number of probe pictures
# The entropy form of effective rank grows with the number of pictures. The curve shows how far the chosen
# number is from where it levels off. The bar at its end is the interval for all pictures.

# %%
from matplotlib import pyplot as plt
from matplotlib.ticker import NullLocator, ScalarFormatter

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.style import (
    COLUMN,
    encoder_colours,
    encoder_markers,
    light_grid,
    save_figure,
    spread_labels,
    use_style,
)

job = open_figure("rank_curve", globals())
pool = job.settings.pool
curve = job.table("rank_curve")
ranks = job.table("ranks")
ranks = ranks[ranks["subset"] == "pretrained"].groupby("encoder")[["erank_low", "erank_high"]].mean()

# %%
use_style()
colours, markers = encoder_colours(pool), encoder_markers(pool)
figure, axes = plt.subplots(figsize=(COLUMN, 2.2))
ends = {}
for encoder in pool:
    of_encoder = curve[curve["encoder"] == encoder].sort_values("pictures")
    axes.plot(
        of_encoder["pictures"],
        of_encoder["erank"],
        color=colours[encoder],
        marker=markers[encoder],
        markersize=3.5,
    )
    ends_at = of_encoder["pictures"].iloc[-1]
    axes.plot([ends_at, ends_at], ranks.loc[encoder], color=colours[encoder], linewidth=2.2, alpha=0.6)
    ends[encoder] = of_encoder["erank"].iloc[-1]
pictures = sorted(curve["pictures"].unique())
axes.set_xscale("log", base=2)
axes.set_xticks(pictures[:: max(1, len(pictures) // 7)])
axes.xaxis.set_major_formatter(ScalarFormatter())
axes.xaxis.set_minor_locator(NullLocator())
axes.set_ylim(bottom=0)
axes.set(xlabel="probe pictures", ylabel="effective rank, pretrained")
light_grid(axes, "y")
spread_labels(axes, {encoder_name(e): (end, colours[e]) for e, end in ends.items()})

save_figure(figure, job.outputs)
