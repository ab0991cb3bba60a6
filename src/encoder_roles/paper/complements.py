"""What encoders give each other, in words, from complementarity.csv."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from encoder_roles.analysis.skills import ALL
from encoder_roles.paper.names import benchmark_name
from encoder_roles.paper.wording import interval_text, percent

LEAST = 20  # questions that a skill needs to be named in the text
SHOWN = 16  # skills in the figure, which has half a page


def skill_name(skill: str) -> str:
    """`bar_value` as `bar value`, `mme: OCR` as `MME: OCR`."""
    benchmark, colon, category = skill.partition(": ")
    return f"{benchmark_name(benchmark)}: {category}" if colon else benchmark_name(skill).replace("_", " ")


def pooled_rows(complementarity: pd.DataFrame) -> pd.DataFrame:
    """The rows over all pairs; with one pair, those of the pair."""
    pooled = complementarity[complementarity["first"] == ALL]
    return complementarity if pooled.empty else pooled


def complement_sentence(complementarity: pd.DataFrame) -> str:
    """What joint models keep of the questions that one encoder alone solves, and the extremes by skill."""
    rows = pooled_rows(complementarity)
    rows = rows[(rows["questions"] == "only_one") & rows["pair"].notna()]
    whole = rows[rows["skill"] == ALL]
    if whole.empty:
        return ""
    row = whole.iloc[0]
    text = (
        f"Of two encoders, exactly one solves {percent(row['share'])} of the questions alone; the joint "
        f"model of the pair still solves {_share(row, 'pair')} of these, and the full pool "
        f"{_share(row, 'full')}"
    )
    if not math.isnan(row["retraining"]):
        text += (
            f", where a retraining of the same encoder with another seed solves {_share(row, 'retraining')}"
        )
    skills = rows[(rows["skill"] != ALL) & (rows["n"] >= LEAST)].sort_values("pair")
    if len(skills) < 2:
        return f"{text}."
    last, first = skills.iloc[0], skills.iloc[-1]
    return (
        f"{text}. By skill the pair keeps most of {skill_name(first['skill'])} ({_share(first, 'pair')}) and "
        f"least of {skill_name(last['skill'])} ({_share(last, 'pair')})."
    )


def _share(row: pd.Series[Any], column: str) -> str:
    bounds = interval_text(100 * row[f"{column}_low"], 100 * row[f"{column}_high"], 0)
    return f"{percent(row[column])} {bounds}".strip()
