"""The command `pretrain-encoder`: pretrain one encoder and measure its gates."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from encoder_roles.encoders.loading import load_source
from encoder_roles.provenance import atomic_folder, sha256_of, write_rows, write_text
from encoder_roles.study.names import StudyError
from encoder_roles.world.gates import COLUMNS as GATE_COLUMNS
from encoder_roles.world.pretraining.cards import model_card
from encoder_roles.world.pretraining.loop import Objective, train
from encoder_roles.world.pretraining.pictures import draw_album
from encoder_roles.world.pretraining.probes import SKILLS, Reading, probe
from encoder_roles.world.pretraining.recipes import MARGIN, Pretraining, pretraining_of
from encoder_roles.world.sampling import sample_scenes

UNTRAINED = "untrained"
Row = dict[str, object]


def pretrain_encoder(*, encoder: str, output: Path, seed: int = 0, steps: int | None = None) -> None:
    """Pretrain one of the laptop study's encoders; write it, its gates and its model card into `output`.

    Args:
        encoder: clip, siglip, dinov2, convnext or sam.
        output: the folder to make: the library's own format, SHA256SUMS, gates.csv, README.md.
        seed: of the weights, the training pictures and the batches.
        steps: training steps; by default the recipe's.

    Raises:
        StudyError: the encoder has no recipe, or steps is not positive.
    """
    plan = pretraining_of(encoder)
    steps = plan.recipe.steps if steps is None else steps
    if steps < 1:
        raise StudyError(f"pretrain-encoder: steps is {steps}; it must be positive")
    torch.set_num_threads(1)
    begin = time.perf_counter()
    objective, losses = pretrain(plan, seed, steps)
    seconds = time.perf_counter() - begin
    with atomic_folder(output) as folder:
        objective.save(folder)
        sums = "".join(f"{sha256_of(file)}  {file.name}\n" for file in sorted(folder.iterdir()))
        readings = probe(load_source(encoder, plan.spec, folder), list(SKILLS))
        rows = gate_rows(encoder, plan, readings, probe_untrained(encoder, plan, seed))
        write_text(folder / "SHA256SUMS", sums)
        write_rows(folder / "gates.csv", GATE_COLUMNS, rows)
        card = model_card(encoder, plan, objective, steps, seed, seconds, float(np.mean(losses[-20:])), rows)
        write_text(folder / "README.md", card)


def pretrain(plan: Pretraining, seed: int, steps: int) -> tuple[Objective, list[float]]:
    """The trained objective and the loss of every step. Equal arguments give equal bytes."""
    recipe = plan.recipe
    scenes = sample_scenes(seed, "train", recipe.mix, recipe.pictures)
    scenes += sample_scenes(seed, "train", "objects", recipe.singles, things=1)
    album = draw_album(scenes, recipe.pixels)
    objective = build(plan, seed)
    losses = train(objective, album, recipe, steps, torch.Generator().manual_seed(seed))
    print(f"loss {losses[0]:.3f} -> {np.mean(losses[-20:]):.3f} in {steps} steps", file=sys.stderr)
    return objective, losses


def build(plan: Pretraining, seed: int) -> Objective:
    """An untrained objective. Libraries use the global generator, which is restored afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return plan.build()


def probe_untrained(encoder: str, plan: Pretraining, seed: int) -> dict[str, Reading]:
    """The probes of the same network with its initial weights."""
    with tempfile.TemporaryDirectory() as temporary:
        build(plan, seed).save(Path(temporary))
        return probe(load_source(encoder, plan.spec, Path(temporary)), list(SKILLS))


def gate_rows(
    encoder: str, plan: Pretraining, readings: dict[str, Reading], untrained: dict[str, Reading]
) -> list[Row]:
    """Rows of gates.csv: every skill of the trained encoder, then of the untrained network.

    A skill that the encoder must have is a gate and has a threshold.
    A threshold is MARGIN points above the upper end of the untrained network's interval.
    """
    rows: list[Row] = []
    for skill, reading in readings.items():
        gate: Row = {"threshold": "", "passed": ""}
        if skill in plan.skills:
            threshold = round(untrained[skill].high + MARGIN, 2)
            gate = {"threshold": f"{threshold:.2f}", "passed": str(reading.value >= threshold).lower()}
        rows.append({"source": encoder, "gate": skill, **_numbers(reading), **gate})
    for skill, reading in untrained.items():
        row = {"source": encoder, "gate": f"{skill} {UNTRAINED}", **_numbers(reading)}
        rows.append(row | {"threshold": "", "passed": ""})
    return rows


def _numbers(reading: Reading) -> Row:
    value, low, high = (f"{number:.2f}" for number in (reading.value, reading.low, reading.high))
    return {"value": value, "low": low, "high": high, "n": reading.n}
