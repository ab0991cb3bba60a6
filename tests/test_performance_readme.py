"""performance/README.md: every script has its row, and every number in the table is in a result file."""

from __future__ import annotations

import json
import re
from functools import reduce
from pathlib import Path

import pandas as pd
import pytest

FOLDER = Path(__file__).resolve().parent.parent / "performance"
COLUMNS = 6


def table() -> list[list[str]]:
    """The cells of each row of the table."""
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    assert all(len(row) == COLUMNS for row in rows)
    return rows


def statements() -> list[tuple[str, str]]:
    """Result files, each with one statement about it."""
    return [(row[4].strip("`"), text) for row in table() for text in re.findall(r"`([^`]+)`", row[5])]


def value_in(file: Path, statement: str) -> tuple[float, float]:
    """The number in a statement `[column=value, ...: ]key number` and the number in the file."""
    filters, _, claim = statement.rpartition(": ")
    key, number = claim.split()
    if file.suffix == ".json":
        value = reduce(lambda part, name: part[name], key.split("."), json.loads(file.read_text()))
        return float(number), float(value)
    rows = pd.read_csv(file)
    for condition in filters.split(", "):
        column, wanted = condition.split("=")
        rows = rows[rows[column].astype(str) == wanted]
    return float(number), float(rows[key].item())


@pytest.mark.parametrize(("name", "statement"), statements(), ids=lambda text: str(text))
def test_a_committed_number_is_the_result_file_s(name: str, statement: str) -> None:
    file = FOLDER / "results" / name
    if file.suffix == ".txt":
        assert re.search(rf"(?<![\d.,]){re.escape(statement)}(?![\d.,]*\d)", file.read_text(encoding="utf-8"))
    else:
        stated, measured = value_in(file, statement)
        assert stated == measured


def test_every_script_and_every_result_file_has_a_row() -> None:
    scripts = {re.findall(r"performance/(\w+\.py)", row[0])[0] for row in table()}
    assert scripts == {path.name for path in FOLDER.glob("*.py")}
    results = {row[4].strip("`") for row in table()} - {"–"}
    assert results == {path.name for path in (FOLDER / "results").iterdir()}


def test_a_warm_job_meets_its_limit() -> None:
    (row,) = [row for row in table() if row[4] == "`job_start.json`"]
    limit = float(row[3].split()[0])
    measured = json.loads((FOLDER / "results/job_start.json").read_text())
    assert measured["warm_cpu_seconds"] <= limit
