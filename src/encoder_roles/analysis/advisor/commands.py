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
from encoder_roles.analysis.external.aliases import match_encoders
from encoder_roles.analysis.external.columns import load_table, role_of
from encoder_roles.analysis.external.numbers import read_numbers
from encoder_roles.analysis.external.subset_scores import read_subset_scores
from encoder_roles.analysis.external.tables import require_numbers
from encoder_roles.analysis.statistics import normal_quantile
from encoder_roles.provenance import write_table
from encoder_roles.study.names import BLIND, StudyError, all_subsets, name_subset, parse_subset
from encoder_roles.study.stages import AdvisorStage, read_settings


def read_part(
    path: Path,
    level: str = "overall",
    standard_error: float | None = None,
    confidence: float = 0.95,
    pool: tuple[str, ...] = (),
) -> dict[str, tuple[float, float]]:
    """The (score, standard error) of each subset of a table, without `blind`: see `average_seeds`.

    Raises:
        StudyError: one line on a table that cannot be read so.
    """
    return average_seeds(read_subset_scores(path, level, pool).table, standard_error, confidence, path)


def average_seeds(
    table: pd.DataFrame, standard_error: float | None, confidence: float, path: Path
) -> dict[str, tuple[float, float]]:
    """The (score, standard error) of each subset, without `blind`. The spread of seeds is part of the error.

    Args:
        table: as of `read_subset_scores`.
        standard_error: in points, for all subsets, in place of the table's.
        confidence: the level of the table's intervals.
        path: the table's file, for error messages.

    Raises:
        StudyError: one line on a table without errors.
    """
    pool = find_pool(["+".join(encoders) for encoders in table["trained"] if encoders])
    named = table.assign(subset=[name_subset(encoders, pool) for encoders in table["trained"]])
    named = named[named["subset"] != BLIND]
    if named.empty:
        raise StudyError(f"{path}: no row of a model with encoders")
    named = named.assign(error=_errors(named, standard_error, confidence, path))
    part = {}
    for subset, rows in named.groupby("subset", sort=False):
        spread = rows["score"].std(ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else 0.0
        part[str(subset)] = (float(rows["score"].mean()), float(np.hypot(rows["error"].mean(), spread)))
    return part


def _errors(table: pd.DataFrame, stated: float | None, confidence: float, path: Path) -> pd.Series[float]:
    if stated is not None:
        return pd.Series(stated, index=table.index)
    if "standard_error" in table:
        return table["standard_error"]
    if not {"low", "high"} <= set(table):
        raise StudyError(f"{path}: no column standard_error, nor low and high; state one by --standard-error")
    errors = (table["high"] - table["low"]) / (2 * normal_quantile(confidence))
    if (wrong := ~(errors >= 0)).any():
        row = table[wrong].iloc[0]
        raise StudyError(f"{path}: row {row['row']} ({row['model']}): low and high are no interval")
    return errors


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
    leave_out: tuple[int, ...] = (),
    costs: Path | None = None,
    cost: str = "parameters",
    covariates: Path | None = None,
    standard_error: float | None = None,
    scales: dict[str, float] | None = None,
    confidence: float = 0.95,
    count: int = 3,
    output: Path | None = None,
) -> None:
    """Print the predicted scores of all subsets, and which to train next.

    Args:
        scores: scores.csv, any table with columns subset (encoders joined with +), score, standard_error, or
            any table that analyse-scores reads.
        at_most: find the best subset of at most this many encoders; default 2, or with a budget all of them.
        budget: the most that an answer may cost, in the unit of `cost`.
        match: also find a proper subset that falls short of the full pool by at most this many points.
        level: of scores.csv: overall, a group's name or a benchmark's.
        pool: the encoders, in order; those of the table if not given.
        leave_out: rows of the table, counted from 1 below the head without empty rows, that are not read.
        costs: costs.csv: probabilities per unit of cost then decide. The costs of untrained subsets are
            estimated from those of their encoders.
        cost: the column of costs.csv to use.
        covariates: a CSV with a column subset and columns of numbers known of every subset, trained or not.
        standard_error: of every score, in points, where the table has none.
        scales: a benchmark (or `score`) and its greatest score, where the table does not show it
            (`--scales score 1`).
        confidence: of the intervals read and printed.
        count: how many next trainings to name.
        output: also write the predictions as a CSV file.
    """
    table = read_subset_scores(scores, level, pool, scales, leave_out)
    for note in table.notes:
        print(f"{scores}: {note}")
    part = average_seeds(table.table, standard_error, confidence, scores)
    names = pool or find_pool(list(part))
    prices = None if costs is None else extend_costs(_read_costs(costs, cost, names), names)
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


def _read_costs(path: Path, column: str, pool: tuple[str, ...]) -> dict[str, float]:
    """The mean of a column for every subset, blind included."""
    table = _read_table(path, pool)
    if column not in table:
        names = ", ".join(map(str, table.columns.drop("row")))
        raise StudyError(f"{path}: no column {column!r}; it has {names}")
    numbers = read_numbers(table, (column,), str(path))
    require_numbers(table, numbers, column, str(path))
    return {str(name): float(mean) for name, mean in numbers.groupby("subset")[column].mean().items()}


def _read_covariates(path: Path, pool: tuple[str, ...]) -> dict[str, list[float]]:
    table = _read_table(path, pool)
    if (twice := table["subset"].duplicated()).any():
        raise StudyError(f"{path}: subset {table['subset'][twice].iloc[0]!r} appears twice")
    columns = [str(column) for column in table.columns.drop(["row", "subset"])]
    numbers = read_numbers(table, columns, str(path))
    if wrong := [c for c in columns if numbers[c].isna().all()]:
        raise StudyError(f"{path}: column {wrong[0]!r} holds no numbers; remove it")
    for column in columns:
        require_numbers(table, numbers, column, str(path))
    return {row["subset"]: [float(row[c]) for c in columns] for _, row in numbers.iterrows()}


def _read_table(path: Path, pool: tuple[str, ...]) -> pd.DataFrame:
    """A table whose column of encoders is called `subset` and names subsets of the pool, and its rows."""
    table, where = load_table(path)
    named = [column for column in table.columns if role_of(column) == "subset"]
    if len(named) != 1 or not table.columns.is_unique:
        has = ", ".join(map(str, table.columns))
        raise StudyError(f"{where}: needs one column 'subset', and no column twice; it has {has}")
    table = table.rename(columns={named[0]: "subset"})
    table.insert(0, "row", np.arange(1, len(table) + 1))
    names = []
    for row, label in enumerate(table["subset"], start=1):
        try:
            names.append(name_subset(match_encoders("" if pd.isna(label) else label, pool), pool))
        except StudyError as error:
            raise StudyError(f"{where}: row {row}: {error}") from None
    return table.assign(subset=names)


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
    part = read_part(scores, confidence=stage.level, pool=stage.pool)
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
