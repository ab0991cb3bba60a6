"""The analysis of a table of scores from anywhere, without any training.

`analyse_table` in Python, `encoder-roles analyse-scores` as a command. A measure that the table cannot give
has no row, and `notes` says so. Intervals come from the table's questions (with a study's bootstrap), from a
stated number of questions, from several seeds or from a stated seed deviation. Without any of these there are
no intervals and no verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from encoder_roles.analysis.claims.claim import Claim
from encoder_roles.analysis.commands import analyse_lattices
from encoder_roles.analysis.external.summary import role_frame, summarise, to_html
from encoder_roles.analysis.external.tables import ExternalScores, read_external_scores
from encoder_roles.analysis.lattice import LatticeSet, arrange_lattices, build_lattices
from encoder_roles.analysis.statistics import Array, ScoreArrays, generator
from encoder_roles.analysis.tables import MODEL, number, order_benchmarks, read_costs, read_ranks
from encoder_roles.study.names import BENCHMARKS
from encoder_roles.study.sections import StatisticsSettings
from encoder_roles.study.stages import RoleStage

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STATISTICS = StatisticsSettings(resamples=10_000, level=0.95, seed=0, overall="benchmarks")
TAU = 0.1
NO_RANKS = pd.DataFrame(columns=["subset", "seed", "encoder", "erank", "ratio", "ratio_low", "ratio_high"])
NO_COSTS = pd.DataFrame({"subset": [], "seed": [], "parameters": np.zeros(0)})


@dataclass(frozen=True, repr=False)
class Analysis:
    """The result of `analyse_table`. As text: its summary. A notebook shows it as HTML.

    Attributes:
        tables: the tables of docs/contracts.md, by file name without ending; and `averages`.
        claims: every claim of the study's text, tested or not.
        notes: what the tables lack, and why: {table, note}.
        settings: the study's name, its encoders in order, statistics and tau.
    """

    tables: dict[str, pd.DataFrame]
    claims: list[Claim]
    notes: list[dict[str, str]]
    settings: RoleStage

    @property
    def pool(self) -> tuple[str, ...]:
        """The encoders, in order."""
        return self.settings.pool

    def summary(self) -> str:
        """Scores, roles, best pair and verdicts in at most twenty lines of text."""
        return "\n".join(summarise(self.tables, self.claims, self.notes, self.pool))

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return to_html(self.summary(), role_frame(self.tables, self.pool).reset_index(names="encoder"))

    # Drawing is imported by name and when it is used: it stands a floor above, and every command that reads a
    # table of scores would otherwise depend on the figures.

    def save(self, folder: Path | str, *, figures: bool = True) -> None:
        """Write the tables, claims, notes, figures and report.html into a folder.

        Args:
            folder: it is made if it does not exist; files of the same names are replaced.
            figures: draw the figures, which take most of the time.
        """
        resolve_name("encoder_roles.paper.external_report:write_report")(self, Path(folder), figures=figures)

    def figure(self, name: str) -> Figure:
        """A figure, such as `subset_lattice`. Raises StudyError if the scores do not allow it."""
        figure: Figure = resolve_name("encoder_roles.paper.drawing:draw_analysis")(self, name)
        return figure


def analyse_table(
    scores: Path | str | pd.DataFrame,
    *,
    pool: Sequence[str] = (),
    leave_out: Sequence[int] = (),
    scales: Mapping[str, float] | None = None,
    ranks: Path | None = None,
    costs: Path | None = None,
    statistics: StatisticsSettings = STATISTICS,
    tau: float = TAU,
    study: str = "external",
) -> Analysis:
    """Every table of the analysis that the scores allow.

    Args:
        scores: a CSV or parquet file or a frame: wide (a column that names the encoders, one per benchmark)
            or tidy (`encoders, benchmark, score` and optionally `seed, mask, operator, n, question, cluster,
            group`). In a wide table a row `n` gives each benchmark's number of questions.
        pool: encoders in the order in which subsets are written; by default as they first appear.
        leave_out: rows of the table, counted from 1 without empty rows, that are not analysed.
        scales: benchmark -> its greatest score, where the table does not show it; `score` for all others.
        ranks, costs: tables as ranks.csv and costs.csv, in the pool's names.
        statistics: resamples, confidence level, seed, definition of the overall score, a stated seed
            deviation in points.
        tau: tolerance of rank ratios: a rank survives above 1 - tau and expands above 1 + tau.
        study: the study's name, if the table has no column `study`.

    Raises:
        StudyError: one line that says what is wrong, where, and what to do.

    >>> scores = {"encoders": ["blind", "clip", "dinov2", "clip+dinov2"], "gqa": [38.0, 61.0, 55.0, 63.0]}
    >>> analysis = analyse_table(pd.DataFrame(scores))
    >>> roles = analysis.tables["roles"].query("level == 'overall' and measure == 'necessity'")
    >>> roles[["encoder", "value"]].set_index("encoder")["value"].to_dict()
    {'clip': 8.0, 'dinov2': 2.0}
    >>> games = analysis.tables["games"].query("level == 'overall' and index == 'shapley'")
    >>> dict(zip(games["coalition"], games["value"], strict=True))
    {'clip': 15.5, 'dinov2': 9.5}
    >>> analysis.claims[7].statement, analysis.claims[7].estimate
    ('The pair clip+dinov2 beats either encoder alone.', 2.0)
    """
    external = read_external_scores(scores, pool, leave_out, study, scales)
    settings = RoleStage(study=external.study, pool=external.pool, statistics=statistics, tau=tau)
    rank_rows = NO_RANKS if ranks is None else read_ranks(ranks, external.pool, None)
    cost_rows = NO_COSTS if costs is None else read_costs(costs, external.pool, None)
    tables, claims, notes = analyse_lattices(_lattices(external, settings), rank_rows, cost_rows, settings)
    for table in tables.values():
        if "n" in table.columns:
            table["n"] = table["n"].where(table["n"] > 0)
    of_table = [{"table": "all", "note": note} for note in (*external.notes, *_absent_benchmarks(external))]
    return Analysis({"averages": external.averages, **tables}, claims, [*of_table, *notes], settings)


def _lattices(external: ExternalScores, settings: RoleStage) -> LatticeSet:
    if external.questions is not None:
        return build_lattices(external.questions, settings)
    arrays = build_stated_arrays(external.table, settings.statistics)
    return arrange_lattices(arrays, settings, _interval_note(external.table, settings.statistics))


def build_stated_arrays(table: pd.DataFrame, settings: StatisticsSettings) -> ScoreArrays:
    """Scores of benchmarks without questions; the resamples follow from the noise that the table states.

    With n stated, a score's error is normal with the binomial variance, the largest that scores between 0 and
    100 can have. It is independent between models, because the table does not say which questions both answer
    correctly. Seeds of a model answer the same questions and share that error. Without n there are resamples
    only if seeds or a stated deviation give them a spread (`join_seeds`).
    """
    model, models = number(table, MODEL)
    order = models.sort_values(MODEL).index.to_numpy()
    models, model = models.iloc[order].reset_index(drop=True), np.argsort(order)[model]
    benchmarks = order_benchmarks(number(table, ["benchmark", "group"])[1])
    place = pd.Index(benchmarks["benchmark"]).get_indexer(table["benchmark"])
    point, n = (np.full((len(models), len(benchmarks)), np.nan) for _ in range(2))
    point[model, place], n[model, place] = table["score"], table["n"]
    known = ~np.isnan(n).any()
    benchmarks["n"] = n[0].astype(int) if known else 0
    unit, units = number(models, ["subset", "mask", "operator"])
    spread = known or settings.seed_deviation is not None or len(units) < len(models)
    draws = np.broadcast_to(point, (settings.resamples if spread else 0, *point.shape)).copy()
    if known:
        noise = _stated_noise(units, benchmarks, settings)[:, unit]
        draws += noise * np.sqrt(point * (100 - point) / n)
        draws = draws.clip(0, 100)
    return ScoreArrays(models, benchmarks, (), np.zeros_like(point), point, draws)


def _stated_noise(units: pd.DataFrame, benchmarks: pd.DataFrame, settings: StatisticsSettings) -> Array:
    """Standard normal numbers (resamples, units, benchmarks), a stream for every benchmark."""
    shape = (settings.resamples, len(units))
    streams = [generator(settings.seed, "stated", name) for name in benchmarks["benchmark"]]
    return np.stack([stream.standard_normal(shape) for stream in streams], axis=-1)


def _interval_note(table: pd.DataFrame, settings: StatisticsSettings) -> str:
    """What the intervals of a table without questions contain, and what they leave out."""
    seeds, held, lacking = table.groupby(["subset", "mask", "operator"])["seed"].nunique().max(), [], []
    if table["n"].notna().all():
        held.append(
            "the stated numbers of questions (binomial; models are taken as independent, which makes "
            "differences between models that answered the same questions too wide)"
        )
    else:
        lacking.append("the choice of questions")
    if settings.seed_deviation is not None:
        held.append(f"a stated seed deviation of {settings.seed_deviation:g} points")
    elif seeds > 1:
        held.append(f"the spread of {seeds} training seeds")
    else:
        lacking.append("the noise between training seeds")
    if not held:
        return (
            "No intervals: the table has no questions, no number of questions (a column or row n) and one "
            "seed, and no seed deviation is stated. Nothing is judged."
        )
    missing = f"; {' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not in them" * bool(lacking)
    return f"Intervals hold {' and '.join(held)}{missing}."


def _absent_benchmarks(external: ExternalScores) -> list[str]:
    """Which of the sixteen benchmarks the table lacks, in at most one sentence."""
    present = set(external.table["benchmark"])
    missing = [b for b in BENCHMARKS if b not in present]
    if not missing or external.only_means:
        return []
    return [f"no score on {', '.join(missing)}: averages are over the {len(present)} benchmarks present."]
