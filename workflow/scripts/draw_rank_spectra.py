# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # Singular values before and after joint training
# What effective rank is made of: each encoder's singular values, as shares of their sum, before any
# training, trained alone, trained in the full pool and in every subset between. A flat line is a high rank.

# %%
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D
from matplotlib.ticker import FormatStrFormatter, MaxNLocator

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.names import encoder_name
from encoder_roles.paper.style import (
    COLUMN,
    INK,
    MUTED,
    encoder_colours,
    light_grid,
    save_figure,
    spare_panels,
    use_style,
)
from encoder_roles.paper.wording import fixed
from encoder_roles.study.names import name_subset

NOTHING = 1e-5  # of the largest: a direction that normalisation took away, which a logarithm would drop to

job = open_figure("rank_spectra", globals())
pool = job.settings.pool
full = name_subset(pool, pool)
spectra, ranks = job.table("spectra"), job.table("ranks")
sigma = spectra.groupby(["encoder", "subset", "k"], sort=False)["sigma"].mean()  # over seeds
share = sigma / sigma.groupby(["encoder", "subset"], sort=False).transform("sum")
share = share[share > share.max() * NOTHING]
erank = ranks.groupby(["encoder", "subset"])[["erank", "erank_low", "erank_high"]].mean()

# %% [markdown]
# The numbers are effective ranks with the half-widths of their intervals: pretrained, alone, in the full
# pool.

# %%
use_style()
colours = encoder_colours(pool)
columns = min(len(pool) + 1, 3) if len(pool) > 2 else len(pool)
rows = -(-(len(pool) + 1) // columns) if len(pool) > 2 else 2
figure, panels = plt.subplots(rows, columns, figsize=(COLUMN, 0.25 + 1.25 * rows), sharey=True, squeeze=False)
looks = {"pretrained": ((0, (2.5, 1.2)), MUTED, 1.1), "alone": ("-", None, 1.3), "full pool": ("-", INK, 0.8)}
for panel, encoder in zip(panels.flat, pool, strict=False):
    of_encoder = share.loc[encoder]
    named = {"pretrained": "pretrained", "alone": encoder, "full pool": full}
    for subset in dict.fromkeys(of_encoder.index.get_level_values("subset")):
        if subset not in named.values():
            values = of_encoder.loc[subset]
            panel.plot(values.index, values, color="#c4c4c4", linewidth=0.45, zorder=1)
    lines = []
    for label, subset in named.items():
        if (encoder, subset) not in erank.index:
            continue
        style, colour, width = looks[label]
        values = of_encoder.loc[subset]
        panel.plot(
            values.index, values, ls=style, color=colour or colours[encoder], linewidth=width, zorder=2
        )
        rank, low, high = erank.loc[(encoder, subset)]
        lines.append((f"{fixed(rank)} ±{fixed((high - low) / 2)}", colour or colours[encoder]))
    for i, (text, colour) in enumerate(lines):
        panel.text(
            0.98,
            0.99 - 0.115 * i,
            text,
            ha="right",
            va="top",
            transform=panel.transAxes,
            fontsize=6,
            color=colour,
        )
    panel.set_title(encoder_name(encoder), fontsize=7, pad=2)
    panel.set_yscale("log")
    panel.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    light_grid(panel, "both")
panels[0, 0].set_ylim(bottom=share.min() / 1.5)
panels[0, 0].yaxis.set_major_formatter(FormatStrFormatter("%g"))  # exponents would be too small to read

# %%
handles = [
    Line2D([], [], ls=looks["pretrained"][0], color=MUTED, label="pretrained"),
    Line2D([], [], color=colours[pool[0]], linewidth=1.6, label="trained alone\n(encoder's colour)"),
    Line2D([], [], color=INK, linewidth=1.0, label="full pool"),
    Line2D([], [], color="#c4c4c4", linewidth=0.6, label="other subsets"),
]
if spare := spare_panels(panels, len(pool)):
    spare[-1].legend(handles=handles, loc="center", fontsize=6.2, handlelength=1.6, labelspacing=0.7)
figure.supxlabel("singular value, from the largest", fontsize=7)
figure.supylabel("share of their sum", fontsize=7)

save_figure(figure, job.outputs)
