"""Reading a study's score table: v(S) over the subsets, w(M) over the masks, each with its interval."""

from __future__ import annotations

import math

import pandas as pd

from encoder_roles.study.names import BENCHMARKS, BLIND, NO_MASK, NONE_KEPT, StudyError, all_subsets

OVERALL = "overall"


def retrained_scores(scores: pd.DataFrame, level: str = OVERALL, name: str = OVERALL) -> pd.DataFrame:
    """v(S): columns score, low, high (0-100), indexed by subset, `blind` among them; the mean over seeds.

    `level` and `name` choose what is scored: ("group", "General"), ("benchmark", "mme").
    Raises StudyError when no model was scored on it.
    """
    rows = _of(scores, level, name)
    rows = rows[rows["operator"] == NO_MASK]
    if rows.empty:
        raise StudyError(f"scores.csv: no unmasked row with level {level!r} and benchmark {name!r}")
    return _over_seeds(rows, "subset")


def masked_scores(
    scores: pd.DataFrame, full: str, operator: str, level: str = OVERALL, name: str = OVERALL
) -> pd.DataFrame:
    """w(M) of the full checkpoint: columns score, low, high, indexed by the kept encoders as a subset's name.

    The mask that keeps none is indexed `blind`; the one that keeps all is the unmasked model. Raises
    StudyError when the operator was not evaluated.
    """
    rows = _of(scores, level, name)
    rows = rows[(rows["subset"] == full) & rows["operator"].isin((operator, NO_MASK))]
    if (rows["operator"] != operator).all():
        raise StudyError(f"scores.csv: no row of {full!r} with operator {operator!r} at {level!r}/{name!r}")
    return _over_seeds(rows.assign(mask=rows["mask"].replace(NONE_KEPT, BLIND)), "mask")


def mask_operators(scores: pd.DataFrame) -> list[str]:
    """The operators masks were evaluated with, `zero` (the default of the literature) first."""
    found = [str(o) for o in scores["operator"].unique() if o != NO_MASK]
    return sorted(found, key=lambda o: (o != "zero", found.index(o)))


def in_lattice_order(names: list[str], pool: tuple[str, ...]) -> list[str]:
    """Names of subsets, smallest first and in pool order, `blind` before all."""
    order = {name: i for i, name in enumerate((BLIND, *all_subsets(pool)))}
    return sorted(names, key=order.__getitem__)


def _of(scores: pd.DataFrame, level: str, name: str) -> pd.DataFrame:
    return scores[(scores["level"] == level) & (scores["benchmark"] == name)]


def _over_seeds(rows: pd.DataFrame, key: str) -> pd.DataFrame:
    """The mean over seeds of each key, its interval widened by the spread of the seeds.

    Seeds answer the same questions, so the part of the interval that comes from the choice of questions is
    not divided by their number; the part that comes from training is (1.96 standard errors of the mean).
    """
    found = {}
    for name, of_key in rows.groupby(key, sort=False):
        score, seeds = of_key["score"].mean(), len(of_key)
        spread = 1.96 * of_key["score"].std(ddof=1) / math.sqrt(seeds) if seeds > 1 else 0.0
        below = math.hypot((of_key["score"] - of_key["low"]).mean(), spread)
        above = math.hypot((of_key["high"] - of_key["score"]).mean(), spread)
        found[name] = {"score": score, "low": score - below, "high": score + above}
    return pd.DataFrame.from_dict(found, orient="index")


def benchmarks_of(scores: pd.DataFrame) -> list[str]:
    """The benchmarks that were scored, group by group in the order of the study."""
    found = set(scores.loc[scores["level"] == "benchmark", "benchmark"])
    return [benchmark for benchmark in BENCHMARKS if benchmark in found]
