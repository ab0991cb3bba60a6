"""Overall and group means of every model of an external table, beside the means that the table states."""

from __future__ import annotations

import pandas as pd

from encoder_roles.analysis.tables import MODEL, order_benchmarks

TOLERANCE = 0.015  # points: a stated average and its sixteen scores are each rounded to 0.01


def average_models(table: pd.DataFrame, stated: pd.DataFrame) -> pd.DataFrame:
    """Overall and group means of every row of a wide table, of every model of a tidy one.

    Args:
        table: row, model (as labelled), the columns of MODEL, benchmark, group, score (0-100).
        stated: row and the means that a wide table states; no rows for a tidy table.

    Returns:
        row (NaN in a tidy table), model, seed, mask, operator, overall, a column per group, `stated_<mean>`.
    """
    wide = len(stated) > 0
    keys = ["row"] if wide else MODEL
    if "question" in table.columns:
        table = _mean_scores(table, keys)
    means = table.groupby(keys, sort=False)["score"].mean().rename("overall").to_frame()
    order = order_benchmarks(table[["benchmark", "group"]].drop_duplicates())
    for group in filter(None, dict.fromkeys(order["group"])):
        means[group] = table[table["group"] == group].groupby(keys, sort=False)["score"].mean()
    labels = table.drop_duplicates(keys).set_index(keys, drop=False)
    for place, column in enumerate(["row", "model", "seed", "mask", "operator"]):
        means.insert(place, column, labels[column].reindex(means.index), allow_duplicates=False)
    means = means.reset_index(drop=True)
    if not wide:
        return means.assign(row=float("nan"))
    renamed = {c: f"stated_{c}" for c in stated.columns if c != "row"}
    return means.merge(stated.rename(columns=renamed), on="row", how="left")


def _mean_scores(table: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """A row per model and benchmark of a table of questions."""
    labels = [c for c in ("row", "model", *MODEL) if c not in keys]
    by_benchmark = table.groupby([*keys, "benchmark", "group"], sort=False)
    return by_benchmark.agg({**dict.fromkeys(labels, "first"), "score": "mean"}).reset_index()


def average_notes(averages: pd.DataFrame) -> list[str]:
    """The stated averages that differ from those of the scores, a sentence each."""
    notes = []
    for column in averages.columns:
        name = str(column).removeprefix("stated_")
        if name == column or name not in averages.columns:
            continue
        off = (pd.to_numeric(averages[column], errors="coerce") - averages[name]).abs() > TOLERANCE
        for _, row in averages[off].iterrows():
            difference = f"states {name} {row[column]:g}, its scores give {row[name]:.2f}."
            notes.append(f"row {row['row']} ({row['model']}): {difference}")
    return notes
