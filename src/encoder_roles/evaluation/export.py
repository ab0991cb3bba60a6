"""`encoder-roles export-model`: a copy of a trained model with its scores in the model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd

from encoder_roles.provenance import atomic_folder, write_text
from encoder_roles.study.names import NO_MASK, StudyError

CARD, SCORES = "README.md", "## Scores\n"


def export_model(*, model: Path, scores: Path, output: Path, force: bool = False) -> None:
    """Copy a trained model's folder and write its scores into the model card.

    Args:
        model: the folder written by train-tune.
        scores: the study's scores.csv.
        output: the folder to write, whole or not at all.
        force: replace `output` if it exists.

    Raises:
        StudyError: the folder holds no model with a card, the scores cannot be read or lack this model, or
            `output` exists.
    """
    if output.exists() and not force:
        raise StudyError(f"{output}: exists; name another folder, or replace it with --force")
    if output.resolve() in (model.resolve(), *model.resolve().parents):
        raise StudyError(f"{output}: holds the model itself; name another folder")
    try:
        training = json.loads((model / "training.json").read_text(encoding="utf-8"))
        card = (model / CARD).read_text(encoding="utf-8")
        subset, seed = str(training["subset"]), int(training["seed"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{model}: not the folder of a tuned model with its card ({error})") from error
    table = score_lines(scores, subset, seed)
    before, heading, _ = card.partition(SCORES)
    if not heading:
        raise StudyError(f"{model / CARD}: no section of scores; train-tune did not write this card")
    with atomic_folder(output) as folder:
        shutil.copytree(model, folder, dirs_exist_ok=True)
        write_text(folder / CARD, f"{before}{SCORES}\n{table}\n")


def score_lines(path: Path, subset: str, seed: int) -> str:
    """The scores of a model as a Markdown table: overall, groups, benchmarks, with intervals and n."""
    try:
        rows = pd.read_csv(path)
        model_rows = rows[(rows["subset"] == subset) & (rows["seed"] == seed) & (rows["operator"] == NO_MASK)]
    except (OSError, ValueError, KeyError) as error:
        raise StudyError(f"{path}: cannot be read as a study's scores.csv ({error})") from error
    if model_rows.empty:
        raise StudyError(f"{path}: no unmasked scores of {subset!r} seed {seed}; evaluate it first")
    names = [
        f"**{name}**" if level != "benchmark" else name
        for name, level in zip(model_rows["benchmark"], model_rows["level"], strict=True)
    ]
    study = model_rows["study"].iloc[0]
    numbers = model_rows[["score", "low", "high", "n"]].itertuples(index=False)
    lines = [
        f"| {name} | {score:.1f} | {low:.1f}–{high:.1f} | {n:,} |"
        for name, (score, low, high, n) in zip(names, numbers, strict=True)
    ]
    head = [
        f"Study {study}, 0 to 100, with intervals over questions as in its scores.csv (noise",
        "between training seeds is not in them); groups and overall in bold.",
        "",
        "| benchmark | score | interval | questions |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *lines])
