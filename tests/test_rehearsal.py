"""A rehearsal runs a study's own commands in small, and what passes 90% of a limit is a fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from encoder_roles.cluster.rehearsed import check_rehearsal
from encoder_roles.cluster.site import Site
from encoder_roles.rehearsal import rehearse
from encoder_roles.rehearsal.rehearse import Processes, plan_of, run_rehearsal
from encoder_roles.rehearsal.report import Line
from encoder_roles.rehearsal.step import Step, clear_host_peak, host_peak, rehearse_step
from encoder_roles.study.config import Study, load_study
from encoder_roles.study.names import StudyError

ROOT = Path(__file__).parents[1]
HALF = [0.5, 0.5, 0.5]
CLIP = {"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
CLIP |= {"num_attention_heads": 2, "image_size": 48, "patch_size": 12}
DINO = {"model_type": "dinov2", "hidden_size": 24, "mlp_ratio": 2, "num_hidden_layers": 2}
DINO |= {"num_attention_heads": 2, "image_size": 64, "patch_size": 16}
QWEN = {"model_type": "qwen2", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
QWEN |= {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 64, "tie_word_embeddings": True}


def row(pixels: int, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "library": "transformers",
        "source": "nowhere",
        "pixels": pixels,
        "mean": HALF,
        "std": HALF,
        "library_config": config,
    }


def tiny(**changes: Any) -> Study:
    """A study of two tiny encoders and a tiny language model, whose weights are nowhere."""
    study = load_study(ROOT / "config.yaml").model_dump(mode="json")
    training = study["training"]
    training["align"] |= {"batch_pictures": 4, "features": "computed"}
    training["tune"] |= {"batch_pictures": 4, "epochs": 1}
    study |= {
        "study": "tiny",
        "pool": ["clip", "dinov2"],
        "encoders": {"clip": row(48, CLIP), "dinov2": row(64, DINO)},
        "language_model": {"source": "nowhere", "library_config": QWEN},
        "connector": {"kind": "mlp", "layers": 2, "grid": 2},
        "training": training | {"max_tokens": 48, "threads": 1},
        "masks": {"operators": ["zero", "mean"], "calibration_pictures": 4},
        "effective_rank": study["effective_rank"] | {"pictures": 8, "resamples": 5},
    }
    return Study.model_validate(study | changes)


def in_this_process(step: Step, folder: Path, training: bool) -> int:  # noqa: ARG001
    """Run a step here: nothing is imported again."""
    try:
        rehearse_step(job=step.write(folder / "step.json"))
    except SystemExit as end:
        return int(end.code) if isinstance(end.code, int) else pytest.fail(str(end.code))
    return 0


@pytest.fixture(scope="module")
def rehearsed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    """A study that was rehearsed whole, and its folder."""
    place, study = tmp_path_factory.mktemp("rehearsal"), tiny()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run_rehearsal(study, Site(), in_this_process)
    return study, place / "results/tiny/rehearsal"


def table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "rehearsal.csv").set_index(["model", "what", "quantity", "unit"])


def test_it_leaves_tables_and_records_and_no_weights(rehearsed: tuple[Study, Path]) -> None:
    _, folder = rehearsed
    assert {path.name for path in folder.iterdir()} == {"rehearsal.csv", "peaks.csv", "passed.json", "logs"}
    assert not list(folder.rglob("*.safetensors"))
    assert [path.name for path in (folder.parent).iterdir()] == ["rehearsal"]


def test_the_smallest_the_largest_and_the_blind_model_are_trained_and_answer(
    rehearsed: tuple[Study, Path],
) -> None:
    ran = table(rehearsed[1]).reset_index().groupby("model")["what"].agg(set)
    assert {"align", "tune", "predict"} <= ran["clip"]
    both = {"align", "tune", "tune resumed", "predict", "masks zero", "masks mean", "ranks pretrained", "ranks"}
    assert both <= ran["clip+dinov2"]
    assert ran["blind"] == {"tune", "predict"}
