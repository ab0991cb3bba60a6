"""`encoder-roles advise` and `encoder-roles replay-advisor`: the design advisor on a table of scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from encoder_roles.analysis.advisor.advisor import Goal, advise
from encoder_roles.analysis.advisor.replay import (
    COLUMNS,
    COVERAGE_COLUMNS,
    KnownLattice,
    coverage_table,
    replay,
    replay_table,
)
from encoder_roles.analysis.statistics import normal_quantile
from encoder_roles.provenance import write_table
from encoder_roles.study.names import BLIND, NO_MASK, StudyError, all_subsets, name_subset, parse_subset
from encoder_roles.study.stages import AdvisorStage, read_settings


def read_part(
    path: Path,
    level: str = "overall",
    standard_error: float | None = None,
    confidence: float = 0.95,
) -> dict[str, tuple[float, float]]:
    """The (score, standard error) of each subset of a table, without `blind`.

    Seeds are averaged; their spread is part of the error.

    Args:
        path: a scores.csv, or any CSV with columns subset, score and standard_error.
        level: of scores.csv: overall, a group's name or a benchmark's.
        standard_error: in points, for all subsets, in place of the table's.
        confidence: the level of the table's intervals.

    Raises:
        StudyError: one line on a table that cannot be read so.
    """
    table = _read_table(path, ("subset", "score"))
    if "level" in table:
        table = _rows_of_level(table, level, path)
    key = ["subset", "seed"] if "seed" in table else ["subset"]
    if table.duplicated(key).any():
        row = table[table.duplicated(key)].iloc[0]
        raise StudyError(f"{path}: {', '.join(f'{k} {row[k]!r}' for k in key)} appears twice; keep one row")
    table = table[table["subset"] != BLIND].assign(error=_errors(table, standard_error, confidence, path))
    part = {}
    for subset, rows in table.groupby("subset", sort=False):
        spread = rows["score"].std(ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else 0.0
        part[str(subset)] = (float(rows["score"].mean()), float(np.hypot(rows["error"].mean(), spread)))
    return part


def _rows_of_level(table: pd.DataFrame, level: str, path: Path) -> pd.DataFrame:
    """The unmasked rows of a level: overall, the name of a group or of a benchmark."""
    rows = table[table["operator"] == NO_MASK] if "operator" in table else table
    chosen = rows[rows["benchmark"] == level]
    if chosen.empty:
        known = ", ".join(dict.fromkeys(rows["benchmark"]))
        raise StudyError(f"{path}: no row of {level!r}; known are {known}")
    return chosen


def _errors(table: pd.DataFrame, stated: float | None, confidence: float, path: Path) -> pd.Series[float]:
    if stated is not None:
        return pd.Series(stated, index=table.index)
    if "standard_error" in table:
        return table["standard_error"]
    if {"low", "high"} <= set(table):
        return (table["high"] - table["low"]) / (2 * normal_quantile(confidence))
    raise StudyError(f"{path}: no column standard_error, nor low and high; state one by --standard-error")


def find_pool(subsets: Sequence[str]) -> tuple[str, ...]:
    """The encoders of some subsets, in the order of the largest, then of appearance.

    >>> find_pool(["sam", "clip+dinov2"])
    ('clip', 'dinov2', 'sam')
    """
    ordered = sorted(subsets, key=lambda s: -s.count("+"))
    return tuple(dict.fromkeys(e for subset in ordered for e in subset.split("+")))


def extend_costs(known: Mapping[str, float], pool: tuple[str, ...]) -> dict[str, float]:
    """The cost of every subset from those of some: a fixed part and a part per encoder, by least squares.

    Exact for parameters, which are such a sum, and an estimate for seconds. Raises StudyError if the known
    subsets do not determine every encoder's part.

    >>> known = {"clip": 5.0, "sam": 6.0, "clip+sam": 8.0, "clip+dinov2": 9.0}
    >>> round(extend_costs(known, ("clip", "sam", "dinov2"))["clip+sam+dinov2"], 6)
    12.0
    """
    subsets = all_subsets(pool)
    rows = {subset: np.array([1.0, *(e in subset.split("+") for e in pool)]) for subset in subsets}
    seen = {name_subset(parse_subset(s, pool), pool): cost for s, cost in known.items() if s != BLIND}
    design = np.stack([rows[s] for s in seen]) if seen else np.empty((0, len(pool) + 1))
    if np.linalg.matrix_rank(design) < len(pool) + 1:
        raise StudyError(
            "costs: too few subsets to know what each encoder adds; give the single encoders and a pair"
        )
    parts = np.linalg.lstsq(design, np.array(list(seen.values())), rcond=None)[0]
    return {subset: float(seen.get(subset, rows[subset] @ parts)) for subset in subsets}


def advise_next(
    *,
    scores: Path,
    at_most: int | None = None,
    budget: float | None = None,
    match: float | None = None,
    level: str = "overall",
    pool: tuple[str, ...] = (),
    costs: Path | None = None,
    cost: str = "parameters",
    covariates: Path | None = None,
    standard_error: float | None = None,
    confidence: float = 0.95,
    count: int = 3,
    output: Path | None = None,
) -> None:
    """Print the predicted scores of all subsets, and which to train next.

    Args:
        scores: scores.csv, or any CSV with columns subset (encoders joined with +), score, standard_error.
        at_most: find the best subset of at most this many encoders; default 2, or with a budget all of them.
        budget: the most that an answer may cost, in the unit of `cost`.
        match: also find a proper subset that falls short of the full pool by at most this many points.
        level: of scores.csv: overall, a group's name or a benchmark's.
        pool: the encoders, in order; those of the table if not given.
        costs: costs.csv: probabilities per unit of cost then decide. The costs of untrained subsets are
            estimated from those of their encoders.
        cost: the column of costs.csv to use.
        covariates: a CSV with a column subset and columns of numbers known of every subset, trained or not.
        standard_error: of every score, in points, where the table has none.
        confidence: of the intervals read and printed.
        count: how many next trainings to name.
        output: also write the predictions as a CSV file.
    """
    part = read_part(scores, level, standard_error, confidence)
    names = pool or find_pool(list(part))
    prices = None if costs is None else extend_costs(_read_costs(costs, cost), names)
    within: tuple[frozenset[str] | None, str] = (None, "")
    if budget is not None:
        if prices is None:
            raise StudyError("budget: needs costs, a table with what the subsets cost")
        within = frozenset(s for s, price in prices.items() if price <= budget), f"at most {budget:g} {cost}"
    most = at_most or (2 if budget is None else len(names))
    goals = [Goal(most, None, *within)]
    if match is not None:
        goals.append(Goal(len(names) - 1, match, *within))
    known = None if covariates is None else _read_covariates(covariates, names)
    advice = advise(part, names, goals, costs=prices, covariates=known, count=count, level=confidence)
    print(advice)
    if output:
        write_table(output, advice.predictions)


def _read_costs(path: Path, column: str) -> dict[str, float]:
    table = _read_table(path, ("subset", column))
    return {str(subset): float(value) for subset, value in table.groupby("subset")[column].mean().items()}


def _read_covariates(path: Path, pool: tuple[str, ...]) -> dict[str, list[float]]:
    table = _read_table(path, ("subset",)).set_index("subset")
    if table.index.has_duplicates:
        raise StudyError(f"{path}: subset {table.index[table.index.duplicated()][0]!r} appears twice")
    if wrong := [str(c) for c in table if not pd.api.types.is_numeric_dtype(table[c])]:
        raise StudyError(f"{path}: column {wrong[0]!r} holds no numbers; remove it")
    return {name_subset(parse_subset(str(s), pool), pool): list(row) for s, row in table.iterrows()}


def _read_table(path: Path, needed: Sequence[str]) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: not a readable CSV file: {error}") from error
    if missing := [column for column in needed if column not in table]:
        raise StudyError(f"{path}: no column {missing[0]!r}; it has {', '.join(map(str, table.columns))}")
    return table


def replay_advisor(*, settings: Path, scores: Path, output: Path, coverage: Path) -> None:
    """Write advisor.csv and advisor_coverage.csv: the advisor and other orders on the study's lattice.

    A study that lacks a subset has nothing to replay: both files are then a head without rows.

    Args:
        settings: results/<study>/settings/advisor.json.
        scores: scores.csv.
        output: regret against number of trainings, per question and strategy.
        coverage: how often predicted intervals hold the scores of subsets that were left out.
    """
    stage = read_settings(settings, AdvisorStage)
    part = read_part(scores, confidence=stage.level)
    regret, held = pd.DataFrame(columns=list(COLUMNS)), pd.DataFrame(columns=list(COVERAGE_COLUMNS))
    if len(stage.pool) > 2 and set(all_subsets(stage.pool)) <= set(part):
        lattice = KnownLattice(part, stage.pool)
        n, advisor = len(stage.pool), stage.advisor
        goals = [Goal(min(advisor.at_most, n)), Goal(n - 1, advisor.margin)]
        regrets = replay(lattice, goals, advisor.replays, stage.seed)
        regret = replay_table(regrets, goals, stage.level)
        held = coverage_table(lattice, advisor.replays, stage.seed, stage.level)
    for path, table in ((output, regret), (coverage, held)):
        write_table(path, table)
