"""costs.csv: one row a model, from the records its stages wrote."""

from __future__ import annotations

import pandas as pd
import pytest

from encoder_roles.provenance import write_json
from encoder_roles.study.names import StudyError
from encoder_roles.training.costs import COLUMNS, collect_costs

SCORE = {
    "study": "tiny",
    "overlays": [],
    "statistics": {"resamples": 10, "level": 0.95, "seed": 0, "overall": "benchmarks"},
}


def record(folder, stage, subset, **changes):
    parameters = {"connector": 10, "language_model": 100} | dict.fromkeys(subset.split("+"), 7)
    if subset == "blind":
        parameters = {"language_model": 100}
    row = {"subset": subset, "seed": 0, "stage": stage, "seconds": 36.0, "peak_memory_mb": 500, "threads": 2}
    row |= {"flops": 1000, "parameters": parameters}
    file = folder / f"{subset}-{stage}.json"
    write_json(file, row | changes)
    return file


def collect(tmp_path, training, predictions=()):
    write_json(tmp_path / "score.json", SCORE)
    collect_costs(
        settings=tmp_path / "score.json",
        training=tuple(training),
        predictions=tuple(predictions),
        output=tmp_path / "costs.csv",
    )
    return pd.read_csv(tmp_path / "costs.csv")


def test_costs_are_joined_by_model_and_sum_to_core_hours(tmp_path):
    training = [
        record(tmp_path, "align", "clip+sam", seconds=18.0, peak_memory_mb=900),
        record(tmp_path, "tune", "clip+sam"),
        record(tmp_path, "tune", "blind"),
    ]
    write_json(
        tmp_path / "p.json",
        {
            "subset": "clip+sam",
            "seed": 0,
            "operator": "unmasked",
            "seconds": 9.0,
            "peak_memory_mb": 1,
            "threads": 1,
        },
    )
    costs = collect(tmp_path, training, [tmp_path / "p.json"])
    assert tuple(costs.columns) == COLUMNS
    full, blind = costs.iloc[0], costs.iloc[1]
    assert (full["encoders"], full["parameters"], full["encoder_parameters"]) == (2, 124, 14)
    assert full["core_hours"] == pytest.approx((18 * 2 + 36 * 2 + 9) / 3600)
    assert full["peak_memory_mb"] == 900
    assert (blind["encoders"], blind["parameters"], blind["align_seconds"]) == (0, 100, 0)
    assert pd.isna(blind["predict_seconds"])


def test_gpu_hours_count_every_rank_that_had_a_gpu_and_no_other(tmp_path):
    training = [
        record(tmp_path, "align", "clip", processes=8, device="H100"),
        record(tmp_path, "tune", "clip"),
        record(tmp_path, "tune", "blind", device="cpu"),
    ]
    costs = collect(tmp_path, training).set_index("subset")
    assert costs["gpu_hours"].to_dict() == pytest.approx({"clip": 36 * 8 / 3600, "blind": 0})
    assert costs.loc["clip", "core_hours"] == pytest.approx((36 * 2 * 8 + 36 * 2) / 3600)


def test_a_record_without_its_key_or_its_tune_stage_is_named(tmp_path):
    (tmp_path / "broken.json").write_text('{"subset": "clip"}')
    with pytest.raises(StudyError, match=r"broken\.json: key 'seed' is missing"):
        collect(tmp_path, [tmp_path / "broken.json"])
    with pytest.raises(StudyError, match=r"'clip' seed 0: the training\.json of its tune stage is missing"):
        collect(tmp_path, [record(tmp_path, "align", "clip")])
