"""Trainings with two processes, for test_training_processes.py, one after the other in the same two.

Each scenario is `name: (engine, changes of tune, data)`; its output is <root>/out/<name>.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from tiny_study import TUNE, TinyStudy

NAMES = ("clip", "sam")
STOPPED_AT = 4  # the step after whose checkpoint a run is stopped
ZERO2 = {"kind": "deepspeed", "processes": 2, "zero_stage": 2}
ZERO3 = {"kind": "deepspeed", "processes": 2, "zero_stage": 3}
# Rates at which rounding does not grow to what is tested within STEPS.
RATES = {"learning_rates": {"connector": 2e-3, "language_model": 2e-3, "encoders": 2e-4}}
STEPS = 6
LONG = {"epochs": 2, **RATES}  # STEPS steps of 8 pictures
MICRO = {**LONG, "micro_batch": 2}  # two micro batches a rank
MIXED = {"epochs": 2, "length_grouped": True, **RATES}  # batches of pictures alone and of text alone
# ZeRO-2 first: ZeRO-3 replaces torch's linear function in its process, for one that rounds otherwise.
SCENARIOS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "zero2": (ZERO2, MICRO, "train"),
    "zero2-resumed": (ZERO2, MICRO, "train"),
    "zero3": (ZERO3, MICRO, "train"),
    "zero3-resumed": (ZERO3, MICRO, "train"),
    "zero2-offload-text": (ZERO2 | {"offload": True}, MIXED, "mixed"),
    "zero3-text": (ZERO3, MIXED, "mixed"),
    "zero3-checkpointing": (ZERO3 | {"gradient_checkpointing": True}, LONG, "train"),
    "zero3-frozen": (ZERO3, {**LONG, "train_encoders": False}, "train"),
    "zero2-bf16": (ZERO2 | {"precision": "bf16"}, LONG, "train"),
}


def settings_of(study: TinyStudy, name: str) -> Path:
    """The settings of a scenario, written by the test before the processes start."""
    return study.root / "settings" / f"{name}.json"


def write_settings(study: TinyStudy, name: str, engine: dict[str, Any], changes: dict[str, Any]) -> None:
    study.settings(name, TUNE | {"engine": engine, "tune": TUNE["tune"] | changes})


def tune(study: TinyStudy, name: str, data: str = "train", restart: str | None = None) -> Path:
    """Train a scenario; `restart` is another scenario's name whose checkpoints it takes up."""
    from encoder_roles.training.tune import train_tune

    output = study.root / "out" / name
    train_tune(
        settings=settings_of(study, name),
        subset="+".join(NAMES),
        seed=0,
        encoders=tuple(study.encoders[encoder] for encoder in NAMES),
        language_model=study.language_model,
        align=study.root / "align",
        data=study.data.with_name(f"{data}.jsonl"),
        restart=study.root / ".restart" / (restart or name),
        output=output,
    )
    return output


def stop_after(step: int) -> Any:
    """Have a run end right after the checkpoint of a step, as if it were killed; returns how to undo it."""
    from encoder_roles.training.checkpoints import Checkpoints

    save = Checkpoints.save

    def save_and_stop(self: Checkpoints, engine: Any, log: list[dict[str, Any]], wait: bool) -> None:
        save(self, engine, log, wait or len(log) == step)
        if len(log) == step:
            raise KeyboardInterrupt

    Checkpoints.save = save_and_stop  # type: ignore[method-assign]
    return lambda: setattr(Checkpoints, "save", save)


def keep_checkpoints(study: TinyStudy, name: str) -> None:
    """Copy the checkpoints of a stopped run, which it removes when it ends, from -resumed to -stopped."""
    stopped = name.removesuffix("-resumed") + "-stopped"
    shutil.copytree(study.root / ".restart" / name, study.root / ".restart" / stopped)


def train_all(study: TinyStudy) -> None:
    """Train every scenario; those that end in -resumed are stopped once."""
    for name, (_, _, data) in SCENARIOS.items():
        if name.endswith("-resumed"):
            undo = stop_after(STOPPED_AT)
            try:
                tune(study, name, data)
            except KeyboardInterrupt:
                undo()
            if os.environ["RANK"] == "0":  # the others wait for it when they continue
                keep_checkpoints(study, name)
        tune(study, name, data)
