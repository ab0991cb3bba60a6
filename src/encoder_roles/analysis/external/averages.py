"""Overall and group means of every model of somebody's table, beside those that the table states itself."""

from __future__ import annotations

import pandas as pd

from encoder_roles.analysis.tables import order_benchmarks

TOLERANCE = 0.015  # of a stated average: it and its sixteen scores are each rounded to 0.01


def average_models(table: pd.DataFrame, stated: pd.DataFrame) -> pd.DataFrame:
    """Overall and group means of every row of a wide table (of every model of a tidy one)."""
    wide = len(stated) > 0
    keys = ["row"] if wide else ["model", "seed", "operator", "kept"]
    if "question" in table.columns:
        table = table.groupby([*keys, "benchmark", "group"], sort=False)["score"].mean().reset_index()
    by_model = table.groupby(keys, sort=False)
    found = by_model["score"].mean().rename("overall").to_frame()
    order = order_benchmarks(table[["benchmark", "group"]].drop_duplicates())
    for group in dict.fromkeys(order["group"]):
        found[group] = table[table["group"] == group].groupby(keys, sort=False)["score"].mean()
    found = found.reset_index()
    if not wide:
        return found.drop(columns="kept").assign(row=float("nan"))
    found.insert(1, "model", found["row"].map(table.drop_duplicates("row").set_index("row")["model"]))
    renamed = {c: f"stated_{c.removeprefix('average ')}" for c in stated.columns if c != "row"}
    return found.merge(stated.rename(columns=renamed), on="row", how="left")


def average_notes(averages: pd.DataFrame) -> list[str]:
    """Which of the averages that the table states are not those of its scores."""
    notes = []
    for column in averages.columns:
        own = str(column).removeprefix("stated_")
        if own == column or own not in averages.columns:
            continue
        off = (pd.to_numeric(averages[column], errors="coerce") - averages[own]).abs() > TOLERANCE
        for _, row in averages[off].iterrows():
            said = f"states {own} {row[column]:g}, its scores give {row[own]:.2f}."
            notes.append(f"row {row['row']} ({row['model']}): {said}")
    return notes
