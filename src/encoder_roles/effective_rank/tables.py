"""ranks.csv and spectra.csv: effective ranks and singular values of all encoders, pretrained and trained."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from encoder_roles.effective_rank.gram_sums import Array
from encoder_roles.provenance import write_rows
from encoder_roles.study.names import StudyError

PRETRAINED = "pretrained"  # the subset of rows measured before any training
# measures that are also divided by the width, to compare encoders of different widths
PER_WIDTH = ("erank", "erank_uncentred", "erank_energy", "participation_ratio", "stable_rank")
SPECTRUM_COLUMNS = ("study", "subset", "seed", "encoder", "k", "sigma")
COLUMNS = (
    "study",
    "subset",
    "seed",
    "encoder",
    "width",
    "pictures",
    "tokens",
    "erank",
    "erank_low",
    "erank_high",
    "erank_uncentred",
    "erank_energy",
    "participation_ratio",
    "stable_rank",
    *(f"{name}_per_width" for name in PER_WIDTH),
    "ratio",
    "ratio_low",
    "ratio_high",
    "ratio_solo",
)
Row = dict[str, str | int | float]


def collect_ranks(
    *,
    pretrained: Path,
    trained: list[Path],
    output: Path,
    pretrained_spectra: Path,
    trained_spectra: list[Path],
    spectra: Path,
) -> None:
    """Collect all ranks in one table and all spectra in another.

    `ratio_solo` is erank over that of the same encoder trained alone with the same seed. It stays empty
    without that solo model.

    Args:
        pretrained: rows of the pretrained encoders.
        trained: rows of every trained model.
        output: ranks.csv.
        pretrained_spectra, trained_spectra: their singular values.
        spectra: spectra.csv.

    Raises:
        StudyError: a table is missing, or is not one of ranks or spectra.
    """
    rows = [row for path in trained for row in read_rows(path)]
    alone = {
        (row["encoder"], row["seed"]): float(row["erank"]) for row in rows if row["subset"] == row["encoder"]
    }
    for row in rows:
        if solo := alone.get((row["encoder"], row["seed"])):
            row["ratio_solo"] = repr(float(row["erank"]) / solo)
    sources = [pretrained_spectra, *trained_spectra]
    values = [row for path in sources for row in read_rows(path, SPECTRUM_COLUMNS)]
    write_rows(spectra, SPECTRUM_COLUMNS, values)
    write_rows(output, COLUMNS, [*read_rows(pretrained), *rows])


def read_rows(path: Path, columns: Sequence[str] = COLUMNS) -> list[Row]:
    """The rows of a table with just these columns, as text. Raises StudyError if it has others."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows: list[Row] = list(reader)
    except OSError as error:
        raise StudyError(f"{path}: cannot be read ({error.strerror}); measure the ranks again") from None
    if tuple(reader.fieldnames or ()) != tuple(columns):
        raise StudyError(
            f"{path}: not a table of ranks with columns {', '.join(columns)}; its columns are "
            f"{reader.fieldnames}; measure the ranks again"
        )
    return rows


def read_draws(path: Path) -> dict[str, Array]:
    """Encoder -> effective ranks of the resamples, in order. Raises StudyError if it is not such a table."""
    draws: dict[str, list[float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                draws.setdefault(row["encoder"], []).append(float(row["erank"]))
    except (OSError, KeyError, ValueError) as error:
        raise StudyError(
            f"{path}: not the resamples of ranks ({error}); measure the pretrained ranks again"
        ) from None
    return {encoder: np.array(values) for encoder, values in draws.items()}
