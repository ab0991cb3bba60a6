"""A figure shows the numbers of its tables, which are read back from what matplotlib drew, and the same data
have the same bytes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from drawn import cells, faces, labels, near, points, same_rows, segments
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.text import Text
from paper_study import PaperStudy, make_paper_study
from PIL import Image

from encoder_roles.paper.catalogue import FIGURES, FILES
from encoder_roles.paper.style import COLUMN, FAINT, encoder_colours
from encoder_roles.paper.wording import fixed, percent, signed
from encoder_roles.study.names import BENCHMARKS, GROUPS, all_subsets, name_subset, parse_subset

POOL = ("clip", "siglip", "sam")
FULL = "clip+siglip+sam"
OPERATORS = ("zero", "mean")
COLOURS = encoder_colours(POOL)
BOUNDS = ["low", "high"]
SCORE = ["score", "low", "high"]
VALUE = ["value", "low", "high"]

Check = Callable[[PaperStudy, Figure], None]


def shows_bars(study: PaperStudy, figure: Figure) -> None:
    top, bottom = figure.axes
    columns = {  # place of a bar -> the encoders that are marked beneath it
        place: tuple(e for i, e in enumerate(POOL) if place in points(bottom, 2 * i + 1)[:, 0])
        for place in range(7)
    }
    scores = study.scores()
    bars = [bar for bar in top.containers[0] if isinstance(bar, Rectangle)]
    for place, members in columns.items():
        score, low, high = scores.loc[name_subset(members, POOL)]
        assert bars[place].get_y() == scores.loc["blind", "score"]
        assert bars[place].get_y() + bars[place].get_height() == pytest.approx(score)
        near(segments(top)[place], [[place, low], [place, high]])
    heights = [bar.get_height() for bar in bars]
    assert heights == sorted(heights, reverse=True)


def shows_lattice(study: PaperStudy, figure: Figure) -> None:
    (axes,) = figure.axes
    scores, subsets = study.scores(), ["blind", *all_subsets(POOL)]
    written = [text.get_text() for text in axes.texts[: 2 * len(subsets)]]
    rows = scores.loc[subsets].to_numpy()
    assert written == [t for score, low, high in rows for t in (fixed(score), f"±{half(low, high)}")]
    shades = [sum(patch.get_facecolor()[:3]) for patch in axes.patches if isinstance(patch, FancyBboxPatch)]
    assert np.argsort(np.argsort(-rows[:, 0])).tolist() == np.argsort(np.argsort(shades)).tolist()
    gains = study.rows("differences").query("operator == 'retrained' and measure == 'score'")
    one = [len(set(parse_subset(a, POOL)) ^ set(parse_subset(b, POOL))) == 1 for a, b in pairs_of(gains)]
    steps = gains[one]
    settled = ((steps["low"] > 0) | (steps["high"] < 0)).sum()
    lines = axes.lines[: len(steps)]
    assert sum(to_hex(line.get_color()) != FAINT for line in lines) == settled


def shows_plane(study: PaperStudy, figure: Figure) -> None:
    roles = study.rows("roles").query("level == 'overall'")
    for panel, operator in zip(figure.axes, ("retrained", *OPERATORS), strict=False):
        of = roles[roles["operator"] == operator].set_index(["measure", "encoder"])
        x, y = (of.loc[measure].loc[list(POOL), VALUE].to_numpy() for measure in ("capacity", "necessity"))
        near(points(panel), np.column_stack([x[:, 0], y[:, 0]]))
        near(segments(panel, 0)[:, :, 0], x[:, 1:])
        near(segments(panel, 1)[:, :, 1], y[:, 1:])
        assert faces(panel) == list(COLOURS.values())


def shows_ranks(study: PaperStudy, figure: Figure) -> None:
    roles = study.rows("roles").query("measure == 'necessity'")
    scopes = [("overall", "overall"), *(("group", group) for group in GROUPS)]
    for panel, (level, group) in zip(figure.axes, scopes, strict=False):
        rows = roles[(roles["level"] == level) & (roles["group"] == group)]
        values = rows.pivot(index="operator", columns="encoder", values="value")
        values = values.loc[["retrained", *OPERATORS], list(POOL)].to_numpy()
        expected = 1 + (values[:, None, :] > values[:, :, None]).sum(axis=2)
        for i, encoder in enumerate(POOL):
            assert panel.lines[2 * i].get_color() == COLOURS[encoder]
            near(panel.lines[2 * i].get_ydata(), expected[:, i])


def shows_masked(study: PaperStudy, figure: Figure) -> None:
    retrained = study.scores()
    for panel, operator in zip(figure.axes, OPERATORS, strict=True):
        masked = study.scores(operator).loc[retrained.index]
        order = sorted(range(8), key=lambda i: len(parse_subset(retrained.index[i], POOL)))
        x, y = retrained.to_numpy()[order], masked.to_numpy()[order]
        same_rows(points(panel), np.column_stack([x[:, 0], y[:, 0]]))
        same_rows(segments(panel, 0)[:, :, 0], x[:, 1:])
        same_rows(segments(panel, 1)[:, :, 1], y[:, 1:])


def shows_pairs(study: PaperStudy, figure: Figure) -> None:
    (axes,) = figure.axes
    scores, pairs = study.scores(), study.rows("pairs").set_index(["first", "second"])
    values, written = cells(axes), labels(axes)
    for i, first in enumerate(POOL):
        for j, second in enumerate(POOL[: i + 1]):
            score, low, high = scores.loc[name_subset({first, second}, POOL)]
            assert values[i, j] == pytest.approx(score) and values[j, i] == pytest.approx(score)
            assert written[i, j] == [fixed(score), f"±{half(low, high)}"]
            if i != j:
                pair = pairs.loc[(second, first)]
                spread = percent((pair["share_high"] - pair["share_low"]) / 2)
                assert written[j, i] == [percent(pair["share_of_full"]), f"±{spread}"]
    best = pairs["score"].idxmax()
    frame = next(patch for patch in axes.patches if isinstance(patch, Rectangle))
    assert np.floor(frame.get_center()).tolist() == [POOL.index(encoder) for encoder in best]


def shows_ratios(study: PaperStudy, figure: Figure) -> None:
    (axes,) = figure.axes
    ranks = study.rows("ranks").query("subset != 'pretrained'")
    columns = ["ratio", "ratio_low", "ratio_high"]
    expected = ranks.groupby(["encoder", "subset"])[columns].mean()
    for place, encoder in enumerate(POOL):
        drawn = [
            (y, low, high)
            for kind in range(3)
            for (x, y), ((_, low), (_, high)) in zip(points(axes, kind), segments(axes, kind), strict=True)
            if round(x) == place
        ]
        same_rows(drawn, expected.loc[encoder])


def shows_residual(study: PaperStudy, figure: Figure) -> None:
    (axes,) = figure.axes
    ranks = study.rows("ranks").query("subset != 'pretrained'").groupby("subset")
    ratios = ranks[["ratio", "ratio_low", "ratio_high"]].mean()
    parameters = np.log(study.rows("costs").groupby("subset")["parameters"].mean()[ratios.index])
    scores = study.scores().loc[ratios.index].to_numpy()
    residual = scores - np.polyval(np.polyfit(parameters, scores[:, 0], 1), parameters)[:, None]
    same_rows(points(axes), np.column_stack([ratios["ratio"], residual[:, 0]]))
    same_rows(segments(axes, 0)[:, :, 0], ratios[["ratio_low", "ratio_high"]])
    same_rows(segments(axes, 1)[:, :, 1], residual[:, 1:])


def shows_curve(study: PaperStudy, figure: Figure) -> None:
    (axes,) = figure.axes
    curve = study.rows("rank_curve").set_index("encoder")
    ranks = study.rows("ranks").query("subset == 'pretrained'").groupby("encoder")
    ends = ranks[["erank_low", "erank_high"]].mean()
    for encoder, line, bar in zip(POOL, axes.lines[::2], axes.lines[1::2], strict=True):
        assert line.get_color() == COLOURS[encoder]
        same_rows(line.get_xydata(), curve.loc[encoder, ["pictures", "erank"]])
        near(bar.get_ydata(), ends.loc[encoder])


def shows_spectra(study: PaperStudy, figure: Figure) -> None:
    sigma = study.rows("spectra").groupby(["encoder", "subset", "k"])["sigma"].mean()
    ranks = study.rows("ranks").groupby(["encoder", "subset"])[["erank", "erank_low", "erank_high"]].mean()
    for panel, encoder in zip(figure.axes, POOL, strict=False):
        (alone,) = [line for line in panel.lines if line.get_color() == COLOURS[encoder]]
        values = sigma.loc[encoder, encoder].to_numpy()
        near(alone.get_ydata(), (values / values.sum())[: len(alone.get_ydata())])
        written = [text.get_text() for text in panel.texts]
        rows = [ranks.loc[(encoder, subset)] for subset in ("pretrained", encoder, FULL)]
        assert written == [f"{fixed(rank)} ±{half(low, high)}" for rank, low, high in rows]


def shows_interactions(study: PaperStudy, figure: Figure) -> None:
    (axes,) = figure.axes
    games = study.rows("games").query("level == 'overall'").set_index(["operator", "index", "coalition"])
    values, written = cells(axes), labels(axes)
    masked = next(o for o in games.index.get_level_values("operator") if o != "retrained")
    for i, first in enumerate(POOL):
        value, low, high = games.loc[("retrained", "shapley", first), VALUE]
        assert written[i, i] == [signed(value), f"±{half(low, high)}"] and np.isnan(values[i, i])
        for j in range(i):
            for operator, place in (("retrained", (i, j)), (masked, (j, i))):
                value, low, high = games.loc[(operator, "shapley_interaction", f"{POOL[j]}+{first}"), VALUE]
                assert values[place] == pytest.approx(value)
                assert written[place] == [signed(value), f"±{half(low, high)}"]


def shows_benchmarks(study: PaperStudy, figure: Figure) -> None:
    roles = study.rows("roles").query("level == 'benchmark' and operator == 'retrained'")
    lattice = study.rows("lattice").query("level == 'benchmark' and operator == 'retrained'")
    blind = lattice.query("subset == 'blind'").set_index("benchmark")["score"]
    for panel, measure in zip(figure.axes, ("necessity", "capacity"), strict=True):
        rows = roles[roles["measure"] == measure].pivot(index="benchmark", columns="encoder", values=VALUE)
        value, low, high = (rows[column].loc[list(BENCHMARKS), list(POOL)] for column in VALUE)
        shift = blind[list(BENCHMARKS)].to_numpy()[:, None] if measure == "capacity" else 0
        near(cells(panel), value - shift)
        for text in panel.texts[: value.size]:
            x, y = (int(c) for c in text.get_position())
            bounds = (low.iloc[y, x], high.iloc[y, x]) - np.ravel(shift)[y if np.ndim(shift) else 0]
            assert text.get_text() == fixed(cells(panel)[y, x], 0)
            assert (text.get_fontweight() == "bold") == (bounds[0] > 0 or bounds[1] < 0)


def shows_chains(study: PaperStudy, figure: Figure) -> None:
    (axes,) = figure.axes
    chains = study.rows("chains").sort_values("size")
    for number, kind in enumerate(("lattice_mean", "best_chain")):
        rows = chains[chains["kind"] == kind]
        near(points(axes, number)[:, 1], rows["gain"])
        near(np.round(points(axes, number)[:, 0]), rows["size"])
        near(segments(axes, number)[:, :, 1], rows[BOUNDS])
    assert faces(axes, 1) == [COLOURS[encoder] for encoder in rows["added"]]


def shows_costs(*costs: str) -> Check:
    def check(study: PaperStudy, figure: Figure) -> None:
        models = study.rows("pareto")
        for panel, cost in zip(figure.axes, costs, strict=True):
            rows = models.sort_values(cost, kind="stable")
            drawn = points(panel, 0)
            near(drawn[:, 1], rows["score"])
            near(drawn[:, 0] / drawn[0, 0], rows[cost] / rows[cost].iloc[0])
            near(segments(panel)[:, :, 1], rows[BOUNDS])
            near(points(panel, 1)[:, 1], rows.loc[rows[f"front_{cost}"], "score"])

    return check


def shows_regret(study: PaperStudy, figure: Figure) -> None:
    advisor = study.rows("advisor")
    advisor = advisor[advisor["trainings"] <= 2 * advisor["trainings"].max() / 3]
    order = ("random", "singles_first", "answers_first", "top_two", "forward_selection", "advisor")
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert {"both", *titles[1:]} == set(advisor["question"])
    for panel, question in zip(figure.axes, ["both", *titles[1:]], strict=True):
        for strategy, line in zip(order, panel.lines, strict=False):
            chosen = (advisor["question"] == question) & (advisor["strategy"] == strategy)
            rows = advisor[chosen].sort_values("trainings")
            near(line.get_xdata(), rows["trainings"])
            near(line.get_ydata(), 100 * rows["share_found"] if question == "both" else rows["regret"])


def shows_convergence(study: PaperStudy, figure: Figure) -> None:
    above, below = figure.axes
    models, edges = study.rows("convergence"), study.rows("loss_edges")
    falls = 100 * models[["gate_fall", "gate_low", "gate_high"]]
    same_rows(points(above), np.column_stack([models["loss"], falls["gate_fall"]]))
    same_rows(segments(above)[:, :, 1], falls[["gate_low", "gate_high"]])
    assert above.lines[0].get_ydata()[0] == 2.0
    same_rows(points(below), edges[["loss_without", "rise"]])
    same_rows(segments(below)[:, :, 1], edges[BOUNDS])
    assert faces(below) == [COLOURS[encoder] for encoder in edges["added"]]


def shows_complements(study: PaperStudy, figure: Figure) -> None:
    left, right = figure.axes
    rows = study.rows("complementarity").query("first == 'all'").set_index(["questions", "skill"])
    one = rows.loc["only_one"]
    order = ["all", *one.drop("all").sort_values("pair", ascending=False).index]
    start = np.zeros(len(order))
    for bars, name in zip(left.containers, ("both", "only_one", "neither"), strict=True):
        share = 100 * rows.loc[name].loc[order, "share"].to_numpy()
        near([[bar.get_x(), bar.get_width()] for bar in bars], np.column_stack([start, share]))
        start += share
    near(right.lines[0].get_xdata(), 100 * one.loc[order, "retraining"])
    for number, solver in enumerate(("full", "pair")):
        near(points(right, number)[:, 0], 100 * one.loc[order, solver])
        near(segments(right, number)[:, :, 0], 100 * one.loc[order, [f"{solver}_low", f"{solver}_high"]])


CHECKS: dict[str, Check] = {
    "subset_bars": shows_bars,
    "subset_lattice": shows_lattice,
    "capacity_necessity": shows_plane,
    "retrained_vs_masked_ranks": shows_ranks,
    "masked_vs_retrained": shows_masked,
    "pair_matrix": shows_pairs,
    "rank_ratios": shows_ratios,
    "rank_residual": shows_residual,
    "rank_curve": shows_curve,
    "rank_spectra": shows_spectra,
    "interactions": shows_interactions,
    "benchmark_heatmap": shows_benchmarks,
    "chains": shows_chains,
    "score_cost": shows_costs("parameters", "flops"),
    "score_latency": shows_costs("predict_seconds", "core_hours"),
    "advisor_regret": shows_regret,
    "complementarity": shows_complements,
    "convergence": shows_convergence,
}
# figure -> a table, two values of a column whose rows exchange their numbers, and these numbers
EXCHANGES: dict[str, tuple[str, str, object, object, list[str]]] = {
    "subset_bars": ("lattice", "subset", "clip", "sam", SCORE),
    "subset_lattice": ("lattice", "subset", "clip", "sam", SCORE),
    "capacity_necessity": ("roles", "encoder", "clip", "sam", VALUE),
    "retrained_vs_masked_ranks": ("roles", "encoder", "clip", "sam", VALUE),
    "masked_vs_retrained": ("lattice", "operator", "retrained", "zero", SCORE),
    "pair_matrix": ("lattice", "subset", "clip+siglip", "siglip+sam", SCORE),
    "rank_ratios": ("ranks", "encoder", "clip", "sam", ["ratio", "ratio_low", "ratio_high"]),
    "rank_residual": ("lattice", "subset", "clip", "sam", SCORE),
    "rank_curve": ("rank_curve", "encoder", "clip", "sam", ["erank"]),
    "rank_spectra": ("spectra", "encoder", "clip", "siglip", ["sigma"]),
    "interactions": ("games", "coalition", "clip+siglip", "siglip+sam", VALUE),
    "benchmark_heatmap": ("roles", "encoder", "clip", "sam", VALUE),
    "chains": ("chains", "size", 2, 3, ["gain", "low", "high"]),
    "score_cost": ("pareto", "subset", "clip", "sam", SCORE),
    "score_latency": ("pareto", "subset", "clip", "clip+siglip", SCORE),
    "advisor_regret": ("advisor", "strategy", "advisor", "random", ["regret", "low", "high", "share_found"]),
    "complementarity": (
        "complementarity",
        "questions",
        "only_one",
        "both",
        ["share", "pair", "full", "retraining"],
    ),
    "convergence": ("convergence", "subset", "clip", "sam", ["loss"]),
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PaperStudy:
    return make_paper_study(tmp_path_factory.mktemp("figures") / "study", POOL, seeds=(0, 1, 2))


def test_every_figure_is_read_back() -> None:
    assert set(CHECKS) == set(EXCHANGES) == set(FIGURES)


@pytest.fixture(scope="module", params=CHECKS)
def figure(request: pytest.FixtureRequest) -> str:
    """Each figure in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def drawn(figure: str, study: PaperStudy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Its files."""
    return study.draw(figure, tmp_path_factory.mktemp("drawn"))


def test_a_figure_shows_the_numbers_of_its_tables_and_exchanged_numbers_exchanged(
    figure: str, study: PaperStudy, drawn: dict[str, Path], tmp_path: Path
) -> None:
    CHECKS[figure](study, study.figures[figure])
    other = exchanged(study, tmp_path / "other", *EXCHANGES[figure])
    after = other.draw(figure, tmp_path / "after", ["png"])
    assert after["png"].read_bytes() != drawn["png"].read_bytes()
    CHECKS[figure](other, other.figures[figure])
    with pytest.raises(AssertionError):
        CHECKS[figure](study, other.figures[figure])


def test_a_figure_has_the_same_bytes_when_drawn_again(
    figure: str, study: PaperStudy, drawn: dict[str, Path], tmp_path: Path
) -> None:
    again = study.draw(figure, tmp_path)
    assert [kind for kind in drawn if again[kind].read_bytes() != drawn[kind].read_bytes()] == []


def test_a_figure_fits_a_column_and_its_words_can_be_read(
    figure: str, study: PaperStudy, drawn: dict[str, Path]
) -> None:
    with Image.open(drawn["png"]) as picture:
        assert picture.width / picture.info["dpi"][0] <= COLUMN + 0.01
        assert np.unique(np.asarray(picture.convert("L"))).size > 4, "an empty picture"
    texts = [text for text in study.figures[figure].findobj(Text) if text.get_text().strip()]
    assert min(text.get_fontsize() for text in texts if text.get_visible()) >= 6


def exchanged(
    study: PaperStudy, folder: Path, name: str, column: str, first: object, second: object, numbers: list[str]
) -> PaperStudy:
    """A copy of a study in which the rows of two values of a column have each other's numbers."""
    shutil.copytree(study.folder, folder)
    table = study.rows(name)
    one, two = table.index[table[column] == first], table.index[table[column] == second]
    size = min(len(one), len(two))
    values = table[numbers].to_numpy(copy=True)
    values[[*one[:size], *two[:size]]] = values[[*two[:size], *one[:size]]]
    table[numbers] = values
    table.to_csv(folder / FILES[name], index=False)
    return PaperStudy(folder)


def pairs_of(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return zip(table["first"], table["second"], strict=True)


def half(low: float, high: float) -> str:
    return fixed((high - low) / 2)
