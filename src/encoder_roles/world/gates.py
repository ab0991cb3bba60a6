"""Gates of the pretrained sources: skills measured when a source is made and checked before it is used."""

from __future__ import annotations

import csv
from pathlib import Path

from encoder_roles.provenance import write_rows
from encoder_roles.study.names import StudyError
from encoder_roles.study.stages import GateStage, read_settings

COLUMNS = ("source", "gate", "value", "low", "high", "n", "threshold", "passed")


def check_gates(*, settings: Path, gates: tuple[Path, ...], output: Path) -> None:
    """Put the gates of all sources into one table; stop at a missed gate if the study sets `gates: stop`.

    Args:
        settings: settings/gates.json.
        gates: a gates.csv of each source, columns as in docs/contracts.md. A row without a threshold is a
            comparison (such as the untrained network's) and cannot be missed.
        output: gates.csv, the rows in the order of the sources.

    Raises:
        StudyError: a file is missing, has other columns or no gate,
            a number does not parse, or a gate is missed.
    """
    stage = read_settings(settings, GateStage)
    rows = [row for path in gates for row in read_gates(path)]
    missed = [row for row in rows if row["passed"] == "false"]
    if missed and stage.gates == "stop":
        named = "; ".join(f"{r['source']}: {r['gate']} {r['value']} < {r['threshold']}" for r in missed)
        raise StudyError(
            f"gates missed: {named}. Make these sources again, or set `gates: report` in the config"
        )
    write_rows(output, COLUMNS, rows)


def read_gates(path: Path) -> list[dict[str, str]]:
    """The rows of one gates.csv; `passed` follows from value and threshold, and is empty without one."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except OSError as error:
        raise StudyError(f"{path}: {error.strerror}: a source needs its gates; make it again") from error
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise StudyError(f"{path}: has columns {reader.fieldnames}, not {','.join(COLUMNS)}")
    for number, row in enumerate(rows, start=2):
        try:
            value, threshold = float(row["value"]), float(row["threshold"] or "nan")
        except (TypeError, ValueError) as error:
            raise StudyError(f"{path}: line {number}: {error}") from error
        row["passed"] = str(value >= threshold).lower() if row["threshold"] else ""
    if not any(row["threshold"] for row in rows):
        raise StudyError(f"{path}: holds no gate with a threshold; make the source again")
    return rows
