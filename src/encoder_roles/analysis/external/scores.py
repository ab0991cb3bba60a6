"""The analysis of anybody's scores, without training anything: `analyse_table` in Python, `encoder-roles
analyse-scores` as a command.

    from encoder_roles.analysis.external.scores import analyse_table
    found = analyse_table("scores.csv")
    found.tables["roles"], found.claims, found.notes

What the lattice, the questions or the seeds of a table cannot give has no row and is said in `notes`.
Intervals come from what the table has: its questions (the study's own bootstrap), or their stated number,
several seeds, a stated seed deviation; with none of them there are no intervals and no verdicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from encoder_roles.analysis.claims.claim import Claim
from encoder_roles.analysis.commands import analyse_lattices, write_tables
from encoder_roles.analysis.external.tables import OwnScores, read_external_scores
from encoder_roles.analysis.lattice import LatticeSet, arrange_lattices, build_lattices
from encoder_roles.analysis.statistics import Array, ScoreArrays, generator
from encoder_roles.analysis.tables import MODEL, number, order_benchmarks, read_costs, read_ranks
from encoder_roles.study.names import BENCHMARKS, study_of
from encoder_roles.study.sections import StatisticsSettings
from encoder_roles.study.stages import ExternalScoresStage, RoleStage, read_settings

STATISTICS = StatisticsSettings(resamples=10_000, level=0.95, seed=0, overall="benchmarks")
TAU = 0.1
NO_RANKS = pd.DataFrame(columns=["subset", "seed", "encoder", "erank", "ratio", "ratio_low", "ratio_high"])
NO_COSTS = pd.DataFrame({"subset": [], "seed": [], "parameters": np.zeros(0)})


@dataclass(frozen=True)
class Analysis:
    """What `analyse_table` finds: tables by name (docs/contracts.md), claims, notes on what is not there."""

    tables: dict[str, pd.DataFrame]
    claims: list[Claim]
    notes: list[dict[str, str]]


def analyse_table(
    scores: Path | str | pd.DataFrame,
    *,
    pool: Sequence[str] = (),
    leave_out: Sequence[int] = (),
    ranks: Path | None = None,
    costs: Path | None = None,
    statistics: StatisticsSettings = STATISTICS,
    tau: float = TAU,
    study: str = "own",
) -> Analysis:
    """Every table of the analysis that the scores allow.

    Args:
        scores: a CSV or parquet file or a frame: wide (a column that names the encoders, one per benchmark)
            or tidy (`encoders, benchmark, score`, and where there are any `seed, mask, operator, n,
            question, cluster, group`). In a wide table a row `n` gives each benchmark's number of questions.
        pool: encoders in the order in which subsets are written; by default as they first appear.
        leave_out: rows of the table, counted from 1, that are not analysed.
        ranks, costs: tables as ranks.csv and costs.csv, in the pool's names.
        statistics: resamples, level, seed, what the overall score is, a stated seed deviation.
        tau: tolerance of "survives" and "expands" of rank ratios.
        study: the study's name, where the table does not say it.

    Raises:
        StudyError: one line that says what is wrong, where, and what to do.
    """
    own = read_external_scores(scores, pool, leave_out, study)
    settings = RoleStage(study=own.study, pool=own.pool, statistics=statistics, tau=tau)
    rank_rows = NO_RANKS if ranks is None else read_ranks(ranks, own.pool, None)
    cost_rows = NO_COSTS if costs is None else read_costs(costs, own.pool, None)
    tables, claims, notes = analyse_lattices(_lattices(own, settings), rank_rows, cost_rows, settings)
    for table in tables.values():
        if "n" in table.columns:
            table["n"] = table["n"].where(table["n"] > 0)
    said = [{"table": "all", "note": note} for note in (*own.notes, *_left_to_say(own))]
    return Analysis({"averages": own.averages, **tables}, claims, [*said, *notes])


def _lattices(own: OwnScores, settings: RoleStage) -> LatticeSet:
    if own.questions is not None:
        return build_lattices(own.questions, settings)
    arrays = build_stated_board(own.table, settings.statistics)
    return arrange_lattices(arrays, settings, _intervals_in_words(own.table, settings.statistics))


def build_stated_board(table: pd.DataFrame, settings: StatisticsSettings) -> ScoreArrays:
    """Scores of benchmarks without questions: the resamples follow from the noise that the table states.

    With n stated, a score's error is normal with the binomial variance, the largest that scores between 0 and
    100 can have, and independent between models, because which questions they share in being right is not
    known. Seeds of a model answer the same questions: they share that error. Without n there are resamples
    only if something else gives them a spread (seeds, or a stated deviation: `join_seeds`).
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


def _intervals_in_words(table: pd.DataFrame, settings: StatisticsSettings) -> str:
    """What the intervals of a table without questions hold, and what they leave out."""
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


def _left_to_say(own: OwnScores) -> list[str]:
    """Which of the sixteen benchmarks the averages are without."""
    there = set(own.table["benchmark"])
    missing = [b for b in BENCHMARKS if b not in there]
    if not missing:
        return []
    return [f"no score on {', '.join(missing)}: averages are over the {len(there)} benchmarks there are."]


def analyse_scores(
    *,
    scores: Path,
    output: Path,
    pool: tuple[str, ...] = (),
    leave_out: tuple[int, ...] = (),
    ranks: Path | None = None,
    costs: Path | None = None,
    statistics: StatisticsSettings = STATISTICS,
    tau: float = TAU,
    settings: Path | None = None,
) -> None:
    """Analyse any table of scores: write every table that it allows, claims.json and notes.json; print the
    notes.

    Args:
        scores: CSV or parquet; wide (a column that names the encoders, one per benchmark; a row `n` may give
            the numbers of questions) or tidy (columns encoders, benchmark, score, ...): see
            docs/external-scores.md.
        output: the folder.
        pool: encoders in the order in which subsets are written; by default as they first appear.
        leave_out: rows, counted from 1 below the head, that are not analysed.
        ranks: a table as ranks.csv, if there is one.
        costs: a table as costs.csv, if there is one.
        statistics: resamples, level, seed of the bootstrap; a stated seed deviation.
        tau: tolerance of "survives" and "expands".
        settings: what the workflow gives instead of pool, leave_out, statistics and tau.
    """
    study = study_of(scores)
    if settings is not None:
        stage = read_settings(settings, ExternalScoresStage)
        study, pool, leave_out = stage.study, stage.pool, stage.leave_out
        statistics, tau = stage.statistics, stage.tau
    found = analyse_table(
        scores,
        pool=pool,
        leave_out=leave_out,
        ranks=ranks,
        costs=costs,
        statistics=statistics,
        tau=tau,
        study=study,
    )
    write_tables(output, found.tables, found.claims, found.notes)
    for note in found.notes:
        print(f"{note['table']}: {note['note']}")
    rows = ", ".join(f"{name} {len(table)}" for name, table in found.tables.items())
    print(f"{output}: rows written: {rows}; claims.json, notes.json")
