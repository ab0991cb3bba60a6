# ---
# jupyter:
#   jupytext:
#     formats: py:percent
# ---

# %% [markdown]
# # How many trainings the design advisor saves
# The advisor and other orders of training, replayed on the finished lattice. The first panel counts the
# replays that have answered every question. The others show the regret of the best answer so far.

# %%
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from encoder_roles.paper.job import open_figure
from encoder_roles.paper.style import (
    ACCENT,
    COLUMN,
    INK,
    MUTED,
    WARM,
    light_grid,
    save_figure,
    say_nothing_to_show,
    spread_labels,
    use_style,
)

job = open_figure("advisor_regret", globals())
advisor = job.table("advisor")
LOOKS = {  # strategy -> its name, colour and dashes; the last ones are drawn on top
    "random": ("random", MUTED, (0, (5, 1, 1, 1))),
    "singles_first": ("singles first", "#cc79a7", (0, (1, 1))),
    "answers_first": ("size first", "#009e73", (0, (4, 1.2))),
    "top_two": ("top 2 Capacity", INK, (0, (2, 2))),
    "forward_selection": ("forward selection", WARM, (0, (8, 1))),
    "advisor": ("advisor", ACCENT, "-"),
}
BANDS = ("random", "forward_selection", "advisor")  # more of them would hide one another

# %%
use_style()
# placed by hand: with several rows the constrained layout differs in the last digit from run to run
plt.rcParams["figure.constrained_layout.use"] = False
questions = sorted(advisor["question"].unique(), key=lambda question: question != "both")
figure, axes = plt.subplots(3, 1, figsize=(COLUMN, 4.2), sharex=True, height_ratios=[1.2, 1, 1])
figure.subplots_adjust(left=0.13, right=0.735, top=0.935, bottom=0.09, hspace=0.3)
third = advisor["trainings"].max() / 3 if len(advisor) else 1
for panel, question in zip(axes, questions, strict=False):
    ends, shares = {}, question == "both"
    for strategy, (name, colour, dashes) in LOOKS.items():
        rows = advisor[(advisor["question"] == question) & (advisor["strategy"] == strategy)]
        rows = rows[rows["trainings"] <= 2 * third].sort_values("trainings")
        height = 100 * rows["share_found"] if shares else rows["regret"]
        panel.plot(rows["trainings"], height, color=colour, linestyle=dashes)
        if not shares and strategy in BANDS:
            panel.fill_between(rows["trainings"], rows["low"], rows["high"], color=colour, alpha=0.15, lw=0)
        ends[name] = (float(height.iloc[-1]), colour)
    panel.axvline(third, color=MUTED, linewidth=0.6)
    panel.set_title("every question answered" if shares else question)
    panel.set_ylabel("replays (%)" if shares else "regret (points)")
    panel.set_ylim(0, 102 if shares else None)
    panel.set_xlim(1, None)
    light_grid(panel, "y")
    if shares:
        spread_labels(panel, ends)
axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
axes[-1].set_xlabel("subsets trained (line: a third of all)")
if not questions:
    for panel in axes:
        say_nothing_to_show(panel, "no replay: the lattice lacks subsets")

save_figure(figure, job.outputs)
