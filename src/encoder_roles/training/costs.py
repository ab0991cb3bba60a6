"""The cost of every model: the records of its training and unmasked predictions, one row per model."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from encoder_roles.provenance import write_table
from encoder_roles.study.names import BLIND, NO_MASK, StudyError
from encoder_roles.study.stages import ScoreStage, read_settings

COLUMNS = (
    "study",
    "subset",
    "seed",
    "encoders",
    "parameters",
    "encoder_parameters",
    "connector_parameters",
    "language_model_parameters",
    "align_flops",
    "tune_flops",
    "align_seconds",
    "tune_seconds",
    "predict_seconds",
    "peak_memory_mb",
    "core_hours",
)
GPU_HOURS = "gpu_hours"  # a column if a GPU was used; each process has one GPU
CPU = "cpu"
Records = dict[tuple[str, int], dict[str, Any]]  # (subset, seed) -> record


def read_records(files: Iterable[Path], keys: tuple[str, ...]) -> list[dict[str, Any]]:
    """JSON records that have these keys. Raises StudyError naming the file and the key that is missing."""
    records = []
    for file in files:
        try:
            record = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise StudyError(f"{file}: not a readable record ({error})") from error
        if missing := [key for key in keys if not isinstance(record, dict) or key not in record]:
            raise StudyError(f"{file}: key {missing[0]!r} is missing")
        records.append(record)
    return records


def cost_row(
    study: str, align: dict[str, Any] | None, tune: dict[str, Any], predict: dict[str, Any] | None
) -> dict[str, Any]:
    """One model's row. A stage that it does not have costs 0; missing predictions leave an empty cell."""
    runs = [run for run in (align, tune, predict) if run is not None]
    on_gpu = [run for run in runs if run.get("device", CPU) != CPU]
    parameters = dict(tune["parameters"])
    connector, language_model = parameters.pop("connector", 0), parameters.pop("language_model")
    return {
        "study": study,
        "subset": tune["subset"],
        "seed": tune["seed"],
        "encoders": 0 if tune["subset"] == BLIND else len(tune["subset"].split("+")),
        "parameters": connector + language_model + sum(parameters.values()),
        "encoder_parameters": sum(parameters.values()),
        "connector_parameters": connector,
        "language_model_parameters": language_model,
        "align_flops": align["flops"] if align else 0,
        "tune_flops": tune["flops"],
        "align_seconds": align["seconds"] if align else 0.0,
        "tune_seconds": tune["seconds"],
        "predict_seconds": predict["seconds"] if predict else None,
        "peak_memory_mb": max(run["peak_memory_mb"] for run in runs),
        "core_hours": sum(run["seconds"] * run["threads"] * run.get("processes", 1) for run in runs) / 3600,
        GPU_HOURS: sum(run["seconds"] * run.get("processes", 1) for run in on_gpu) / 3600,
    }


def collect_costs(
    *, settings: Path, training: tuple[Path, ...], predictions: tuple[Path, ...] = (), output: Path
) -> None:
    """Gather costs.csv.

    Args:
        settings: settings/score.json, for the study's name.
        training: the training.json files of all align and tune folders.
        predictions: the prediction.json files of the unmasked predictions.
        output: costs.csv, one row per model, in the order of the tune records. Its columns are parameters,
            FLOPs, the wall-clock seconds of align, tune and predict, their peak memory, and their core hours
            (seconds x threads x processes); if a GPU was used, the GPU hours too.

    Raises:
        StudyError: a record is unreadable or incomplete, or a model has no tune record.
    """
    study = read_settings(settings, ScoreStage).study
    keys = ("subset", "seed", "seconds", "peak_memory_mb", "threads")
    trained = read_records(training, (*keys, "stage", "flops", "parameters"))
    stages: dict[str, Records] = {"align": {}, "tune": {}}
    for record in trained:
        stages[record["stage"]][record["subset"], record["seed"]] = record
    predicted = {
        (record["subset"], record["seed"]): record
        for record in read_records(predictions, (*keys, "operator"))
        if record["operator"] == NO_MASK
    }
    if untuned := [key for key in (*stages["align"], *predicted) if key not in stages["tune"]]:
        raise StudyError(
            f"subset {untuned[0][0]!r} seed {untuned[0][1]}: the training.json of its tune stage is missing"
        )
    rows = [
        cost_row(study, stages["align"].get(key), tune, predicted.get(key))
        for key, tune in stages["tune"].items()
    ]
    columns = [*COLUMNS, *([GPU_HOURS] if any(row[GPU_HOURS] for row in rows) else [])]
    write_table(output, pd.DataFrame(rows, columns=columns), None)
