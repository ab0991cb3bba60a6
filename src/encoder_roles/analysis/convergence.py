"""Whether trainings have converged: how far the loss still falls, and what an encoder does to it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student

from encoder_roles.analysis.statistics import Array, normal_quantile
from encoder_roles.provenance import read_jsonl, write_table
from encoder_roles.study.names import BLIND, StudyError, all_subsets, name_subset, parse_subset
from encoder_roles.study.stages import ConvergenceStage, read_settings

TENTH = 0.1
TUNE = "tune"  # the stage with the gate: its last step makes the model that is evaluated
COLUMNS = (
    "study",
    "subset",
    "seed",
    "stage",
    "steps",
    "loss_before",
    "loss",
    "fall",
    "fall_low",
    "fall_high",
    "gate_fall",
    "gate_low",
    "gate_high",
    "converged",
    "epoch_gain",
    "epoch_low",
    "epoch_high",
)
EDGE_COLUMNS = ("subset", "added", "loss_without", "loss", "rise", "low", "high", "seeds", "beyond_noise")


@dataclass(frozen=True)
class TrainingLog:
    """The record of one training: the model, the stage, and the loss of every step (steps,)."""

    subset: str
    seed: int
    stage: str
    losses: Array


def read_training(folder: Path) -> TrainingLog:
    """The record that a stage wrote, with any engine. Raises StudyError if it is missing or damaged."""
    record, log = folder / "training.json", folder / "log.jsonl"
    try:
        row = json.loads(record.read_text(encoding="utf-8"))
        losses = np.array([step["loss"] for step in read_jsonl(log)], dtype=float)
        training = TrainingLog(str(row["subset"]), int(row["seed"]), str(row["stage"]), losses)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{folder}: no readable record of a training ({error!r}); train it again") from error
    if not losses.size or not np.isfinite(losses).all():
        raise StudyError(f"{log}: no loss, or one that is not finite; train the model again")
    return training


def last_parts(losses: Array, part: float) -> tuple[Array, Array]:
    """The losses of the last `part` of a training, and of the same number of steps before it.

    >>> before, last = last_parts(np.arange(20.0), part=0.1)
    >>> before.tolist(), last.tolist()
    ([16.0, 17.0], [18.0, 19.0])
    """
    steps = max(1, round(part * len(losses)))
    return losses[-2 * steps : -steps], losses[-steps:]


def loss_fall(losses: Array, part: float, level: float) -> tuple[float, float, float]:
    """By what fraction the last `part` of a training lowers the mean loss: (fall, low, high).

    The interval has the noise of batches, taken as independent between steps (delta method for a ratio of
    means). NaN where a training is too short: two steps for a fall, four for its interval.

    >>> fall, _, _ = loss_fall(np.array([4.0, 4.0, 4.0, 4.0, 3.0, 3.0]), part=0.34, level=0.95)
    >>> fall
    0.25
    """
    before, last = last_parts(losses, part)
    if len(before) < len(last):
        return np.nan, np.nan, np.nan
    ratio = last.mean() / before.mean()
    if len(last) < 2:
        return float(1 - ratio), np.nan, np.nan
    relative = [values.var(ddof=1) / len(values) / values.mean() ** 2 for values in (before, last)]
    width = normal_quantile(level) * ratio * np.sqrt(sum(relative))
    return float(1 - ratio), float(1 - ratio - width), float(1 - ratio + width)


def convergence_table(
    trainings: Iterable[TrainingLog], settings: ConvergenceStage, gains: pd.DataFrame | None = None
) -> pd.DataFrame:
    """convergence.csv: a row per model and stage.

    Args:
        trainings: the records.
        settings: the gate and the level of the intervals.
        gains: points per further epoch: columns epoch_gain, epoch_low, epoch_high, indexed by subset.
    """
    rows = []
    for training in trainings:
        before, last = last_parts(training.losses, TENTH)
        fall = loss_fall(training.losses, TENTH, settings.level)
        at_gate = loss_fall(training.losses, settings.gate.last_part, settings.level)
        gated = training.stage == TUNE and not np.isnan(at_gate[0])
        gain = [np.nan] * 3
        if gains is not None and training.stage == TUNE and training.subset in gains.index:
            gain = gains.loc[[training.subset]].to_numpy(float)[0].tolist()
        mean_before = before.mean() if len(before) == len(last) else np.nan
        of = (settings.study, training.subset, training.seed, training.stage, len(training.losses))
        passed = str(at_gate[0] < settings.gate.loss_fall).lower() if gated else ""
        rows.append((*of, mean_before, last.mean(), *fall, *at_gate, passed, *gain))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def edge_table(table: pd.DataFrame, pool: tuple[str, ...], level: float) -> pd.DataFrame:
    """loss_edges.csv: what each encoder that joins a subset does to the final loss of tune, mean over seeds.

    The final loss is that of the last tenth. Models with one seed see the same batches, so the noise of
    seeds is what is left of a loss after the means of its model and of its seed. Its variance is pooled over
    the models. With one seed `low`, `high` and `beyond_noise` are empty. `beyond_noise` says whether the
    lower bound of the rise is above zero.
    """
    tuned = table[table["stage"] == TUNE]
    losses = tuned.pivot(index="subset", columns="seed", values="loss").dropna()
    seeds = losses.shape[1]
    deviation, freedom = seed_noise(losses.to_numpy(float))
    width = student.ppf((1 + level) / 2, freedom) * deviation * np.sqrt(2 / seeds) if freedom else np.nan
    mean = losses.mean(axis=1)
    rows = []
    for subset in all_subsets(pool):
        members = parse_subset(subset, pool)
        for added in members:
            rest = name_subset(frozenset(members) - {added}, pool) if len(members) > 1 else BLIND
            if subset in mean.index and rest in mean.index:
                rise = mean[subset] - mean[rest]
                beyond = str(rise - width > 0).lower() if freedom else ""
                bounds = (rise, rise - width, rise + width)
                rows.append((rest, added, mean[rest], mean[subset], *bounds, seeds, beyond))
    return pd.DataFrame(rows, columns=list(EDGE_COLUMNS))


def seed_noise(losses: Array) -> tuple[float, int]:
    """Standard deviation of losses (models, seeds) around the means of their row and column, and its degrees
    of freedom; (NaN, 0) with one seed or one model.

    >>> seed_noise(np.array([[1.0, 2.0], [3.0, 4.0]]))
    (0.0, 1)
    """
    freedom = (losses.shape[0] - 1) * (losses.shape[1] - 1)
    if freedom < 1:
        return np.nan, 0
    left = losses - losses.mean(0) - losses.mean(1, keepdims=True) + losses.mean()
    return float(np.sqrt((left**2).sum() / freedom)), freedom


def gains_per_epoch(variants: pd.DataFrame, further: dict[str, int]) -> pd.DataFrame | None:
    """Points of the overall score per further epoch of tune, with intervals, indexed by subset.

    From variants.csv and the further epochs of each variant that differs from the baseline in nothing else.
    None without such a variant. Of several, the one with the fewest further epochs counts.
    """
    if not further:
        return None
    name = min(further, key=lambda variant: further[variant])
    rows = variants[(variants["variant"] == name) & (variants["level"] == "overall")].set_index("subset")
    gains = rows[["difference", "difference_low", "difference_high"]] / further[name]
    return gains.set_axis(["epoch_gain", "epoch_low", "epoch_high"], axis=1)


def measure_convergence(
    *, settings: Path, trainings: tuple[Path, ...], output: Path, edges: Path, variants: Path | None = None
) -> None:
    """Write convergence.csv and loss_edges.csv.

    Args:
        settings: settings/convergence.json.
        trainings: the align and tune folders of all models, with training.json and log.jsonl.
        output: convergence.csv, a row per model and stage: how far the loss still falls at the end.
        edges: loss_edges.csv, a row per encoder that joins a subset: by how much the final loss rises.
        variants: variants.csv of a study with variants that train for more epochs.

    Raises:
        StudyError: a training has no readable record.
    """
    stage = read_settings(settings, ConvergenceStage)
    gains = gains_per_epoch(pd.read_csv(variants), stage.further_epochs) if variants else None
    table = convergence_table(_in_order(map(read_training, trainings), stage.pool), stage, gains)
    edge_rows = edge_table(table, stage.pool, stage.level)
    write_table(output, table)
    write_table(edges, edge_rows)


def _in_order(trainings: Iterable[TrainingLog], pool: tuple[str, ...]) -> Sequence[TrainingLog]:
    """Sorted by size of the subset, pool order, seed and stage."""
    order = {subset: place for place, subset in enumerate((BLIND, *all_subsets(pool)))}
    return sorted(trainings, key=lambda row: (order[row.subset], row.seed, row.stage))
