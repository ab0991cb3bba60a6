"""Overall and group means of every model of an external table, beside the means that the table states."""

from __future__ import annotations

import pandas as pd

from encoder_roles.analysis.tables import order_benchmarks

TOLERANCE = 0.015  # points: a stated average and its sixteen scores are each rounded to 0.01


def average_models(table: pd.DataFrame, stated: pd.DataFrame) -> pd.DataFrame:
    """Overall and group means of every row of a wide table (of every model of a tidy one)."""
    wide = len(stated) > 0
    keys = ["row"] if wide else ["model", "seed", "operator", "kept"]
    if "question" in table.columns:
        table = table.groupby([*keys, "benchmark", "group"], sort=False)["score"].mean().reset_index()
    by_model = table.groupby(keys, sort=False)
    means = by_model["score"].mean().rename("overall").to_frame()
    order = order_benchmarks(table[["benchmark", "group"]].drop_duplicates())
    for group in dict.fromkeys(order["group"]):
        means[group] = table[table["group"] == group].groupby(keys, sort=False)["score"].mean()
    means = means.reset_index()
    if not wide:
        return means.drop(columns="kept").assign(row=float("nan"))
    means.insert(1, "model", means["row"].map(table.drop_duplicates("row").set_index("row")["model"]))
    renamed = {c: f"stated_{c.removeprefix('average ')}" for c in stated.columns if c != "row"}
    return means.merge(stated.rename(columns=renamed), on="row", how="left")


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
