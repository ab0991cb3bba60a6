"""Model cards: an encoder, its pretraining and its measured skills."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence

from encoder_roles.world.pretraining.loop import Objective
from encoder_roles.world.pretraining.recipes import Pretraining


def model_card(
    encoder: str,
    plan: Pretraining,
    objective: Objective,
    steps: int,
    seed: int,
    seconds: float,
    loss: float,
    rows: Sequence[dict[str, object]],
) -> str:
    """The README of an encoder's folder; every number in it is a measurement or a setting."""
    recipe = plan.recipe
    what = inspect.getdoc(sys.modules[type(objective).__module__]) or ""
    parameters = sum(weight.numel() for weight in objective.vision.parameters())
    mix = ", ".join(f"{kind} {share:.0%}" for kind, share in recipe.mix.items())
    return f"""# The laptop study's {encoder}

{what}

- Made by `encoder-roles pretrain-encoder --encoder {encoder} --seed {seed} --steps {steps}`; the same command
  gives the same weights on the same machine.
- Network: {type(objective.vision).__name__} ({plan.library}), {parameters:,} parameters, {recipe.pixels} x
  {recipe.pixels} pixels.
- Data: {recipe.pictures:,} drawn pictures of the procedural world's train split ({mix}). No picture of
  another split.
- Training: {steps:,} steps of {recipe.batch} pictures in {seconds:.0f} seconds on one thread, AdamW
  {recipe.learning_rate:g}, seed {seed}; mean loss of the last 20 steps {loss:.4f}.
- Use: with the procedural world only. It has seen nothing else.

Accuracy (%) of linear readouts of its frozen features on development scenes, 95% intervals over pictures; the
untrained network beside it. A gate is a skill that this encoder is meant to have.

| skill | value | interval | questions | gate | untrained |
|---|---|---|---|---|---|
{_table(rows)}
"""


def _table(rows: Sequence[dict[str, object]]) -> str:
    trained = [row for row in rows if not str(row["gate"]).endswith(" untrained")]
    untrained = {str(row["gate"]): row["value"] for row in rows}
    return "\n".join(
        f"| {row['gate']} | {row['value']} | {row['low']}–{row['high']} | {row['n']} | {_gate(row)} "
        + f"| {untrained[str(row['gate']) + ' untrained']} |"
        for row in trained
    )


def _gate(row: dict[str, object]) -> str:
    if row["threshold"] == "":
        return ""
    return f"at least {row['threshold']}: {'passed' if row['passed'] == 'true' else 'missed'}"
