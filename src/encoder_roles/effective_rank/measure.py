"""Effective rank of every encoder's pre-projector features, as pretrained and after joint training.

It is measured where the connector reads: after resampling to the common grid, before the connector's
LayerNorm and any projection. Features are fp32 on every device, even if the study trains in bf16: rounding to
bf16 would add noise to every small singular value. Their sums are fp64, on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from encoder_roles.data.features import stream_features
from encoder_roles.data.picture_store import PictureStore, open_store
from encoder_roles.effective_rank.gram_sums import Array
from encoder_roles.effective_rank.spectra import PictureGrams, RankMeasures, scaled_interval
from encoder_roles.effective_rank.tables import (
    COLUMNS,
    PER_WIDTH,
    PRETRAINED,
    SPECTRUM_COLUMNS,
    Row,
    read_draws,
    read_rows,
)
from encoder_roles.encoders.compute import choose_device
from encoder_roles.encoders.encoder import Encoder
from encoder_roles.encoders.loading import load_encoder
from encoder_roles.models.vlm import load_trained_encoders
from encoder_roles.provenance import read_jsonl, write_rows
from encoder_roles.study.names import StudyError
from encoder_roles.study.stages import EffectiveRankStage, read_settings


@dataclass(frozen=True)
class Measured:
    """One encoder's rank on the probe pictures."""

    encoder: str
    width: int
    grams: PictureGrams
    measures: RankMeasures
    draws: Array  # bootstrap resamples of the effective rank

    def row(self, stage: EffectiveRankStage, subset: str, seed: int) -> Row:
        """Its columns of ranks.csv, without ratios."""
        low, high = scaled_interval(self.measures.erank, self.draws, stage.level)
        return {
            "study": stage.study,
            "subset": subset,
            "seed": seed,
            "encoder": self.encoder,
            "width": self.width,
            "pictures": self.grams.pictures,
            "tokens": self.grams.tokens,
            **asdict(self.measures),
            "erank_low": low,
            "erank_high": high,
            **{f"{name}_per_width": getattr(self.measures, name) / self.width for name in PER_WIDTH},
        }

    def spectrum(self, stage: EffectiveRankStage, subset: str, seed: int) -> list[Row]:
        """Its rows of spectra.csv: the singular values of the centred features, largest first."""
        start: Row = {"study": stage.study, "subset": subset, "seed": seed, "encoder": self.encoder}
        values = self.grams.spectra()[0].tolist()
        return [start | {"k": k, "sigma": sigma} for k, sigma in enumerate(values, start=1)]


def measure_pretrained_ranks(
    *,
    settings: Path,
    encoders: list[Path],
    data: Path,
    output: Path,
    curve: Path,
    draws: Path,
    spectra: Path,
    pictures: tuple[Path, ...] = (),
) -> None:
    """Ranks of the pool's encoders before any training.

    Args:
        settings: settings/effective_rank.json.
        encoders: staged folders, in pool order.
        data: data/probe/probe.jsonl.
        output: rows of ranks.csv with subset `pretrained`.
        curve: rank_curve.csv: effective rank against the number of pictures.
        draws: encoder, resample, erank: the resamples that `measure_ranks` pairs with its own.
        spectra: rows of spectra.csv: the singular values of every encoder.
        pictures: folders of framed pictures; without them every file is decoded.

    Raises:
        StudyError: an encoder or a picture is missing or damaged; too few pictures; features that are
            constant.
    """
    stage = _stage(settings)
    paths = probe_pictures(data, stage.pictures)
    store = open_store(pictures, data.parent)
    rows: list[Row] = []
    curve_rows: list[Row] = []
    draw_rows: list[Row] = []
    spectrum_rows: list[Row] = []
    device = choose_device()
    networks = {folder.name: load_encoder(folder).to(device) for folder in encoders}
    for measured in measure(networks, paths, stage, store):
        row = measured.row(stage, PRETRAINED, 0)
        rows.append(row | {"ratio": 1.0, "ratio_low": 1.0, "ratio_high": 1.0, "ratio_solo": ""})
        encoder = measured.encoder
        curve_rows += [{"encoder": encoder, "pictures": n, "erank": e} for n, e in measured.grams.curve()]
        draw_rows += [
            {"encoder": encoder, "resample": i, "erank": e} for i, e in enumerate(measured.draws.tolist())
        ]
        spectrum_rows += measured.spectrum(stage, PRETRAINED, 0)
    write_rows(spectra, SPECTRUM_COLUMNS, spectrum_rows)
    write_rows(curve, ("encoder", "pictures", "erank"), curve_rows)
    write_rows(draws, ("encoder", "resample", "erank"), draw_rows)
    write_rows(output, COLUMNS, rows)


def measure_ranks(
    *,
    settings: Path,
    subset: str,
    seed: int,
    model: Path,
    data: Path,
    pretrained: Path,
    draws: Path,
    output: Path,
    spectra: Path,
    pictures: tuple[Path, ...] = (),
) -> None:
    """Ranks of a trained model's encoders, and their ratios to the pretrained ranks on the same pictures.

    Args:
        settings: settings/effective_rank.json.
        subset, seed: name the model in the rows.
        model: models/<subset>/seed<seed>/tune.
        data: data/probe/probe.jsonl.
        pretrained, draws: `output` and `draws` of `measure_pretrained_ranks`.
        output: rows of ranks.csv, one per encoder; `ratio_solo` is filled by `collect_ranks`.
        spectra: rows of spectra.csv, the singular values of every encoder.
        pictures: folders of framed pictures; without them every file is decoded.

    Raises:
        StudyError: as `measure_pretrained_ranks`; or the pretrained ranks come from other pictures or
            encoders.
    """
    stage = _stage(settings)
    paths = probe_pictures(data, stage.pictures)
    store = open_store(pictures, data.parent)
    before = {str(row["encoder"]): row for row in read_rows(pretrained)}
    before_draws = read_draws(draws)
    encoders, grid = load_trained_encoders(model, choose_device())
    if grid != stage.grid:
        raise StudyError(
            f"{model}: trained with a grid of {grid}, but the settings say {stage.grid}; train it again"
        )
    rows: list[Row] = []
    spectrum_rows: list[Row] = []
    for measured in measure(encoders, paths, stage, store):
        name, row = measured.encoder, measured.row(stage, subset, seed)
        _check_pair(row, before.get(name), before_draws.get(name), stage, pretrained)
        ratio = measured.measures.erank / float(before[name]["erank"])
        low, high = scaled_interval(ratio, measured.draws / before_draws[name], stage.level)
        rows.append(row | {"ratio": ratio, "ratio_low": low, "ratio_high": high, "ratio_solo": ""})
        spectrum_rows += measured.spectrum(stage, subset, seed)
    write_rows(spectra, SPECTRUM_COLUMNS, spectrum_rows)
    write_rows(output, COLUMNS, rows)


def measure(
    encoders: Mapping[str, Encoder],
    pictures: Sequence[Path],
    stage: EffectiveRankStage,
    store: PictureStore | None = None,
) -> Iterator[Measured]:
    """Effective rank of each encoder's features on the grid, with its bootstrap."""
    grams = {name: PictureGrams(encoder.width, len(pictures)) for name, encoder in encoders.items()}
    for features in stream_features(encoders, pictures, stage.grid, store):
        for name, block in features.items():
            with _named(name):
                grams[name].add(block.numpy())
    for name, encoder in encoders.items():
        with _named(name):
            measures = grams[name].measures()
        draws = grams[name].bootstrap(stage.resamples, stage.seed)
        yield Measured(name, encoder.width, grams[name], measures, draws)


@contextmanager
def _named(encoder: str) -> Iterator[None]:
    try:
        yield
    except StudyError as error:
        raise StudyError(f"encoder {encoder}: {error}") from None


def probe_pictures(data: Path, count: int) -> list[Path]:
    """The first `count` pictures of probe.jsonl. Raises StudyError if it has fewer, or a line is wrong."""
    try:
        paths = [data.parent / row["image"] for row in read_jsonl(data)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"{data}: not a list of pictures ({error}); each line needs `id` and `image`"
        ) from None
    if len(paths) < count:
        raise StudyError(
            f"{data}: {len(paths)} pictures, but effective_rank.pictures is {count}; lower it, or make more"
        )
    return paths[:count]


def _stage(settings: Path) -> EffectiveRankStage:
    stage = read_settings(settings, EffectiveRankStage)
    torch.set_num_threads(stage.threads)
    return stage


def _check_pair(
    row: Row, before: Row | None, draws: Array | None, stage: EffectiveRankStage, pretrained: Path
) -> None:
    encoder = row["encoder"]
    if before is None or draws is None:
        raise StudyError(f"{pretrained}: no row for encoder {encoder!r}; measure the pretrained ranks again")
    for key in ("pictures", "tokens", "width"):
        if int(before[key]) != row[key]:
            raise StudyError(
                f"{pretrained}: encoder {encoder!r} has {key} {before[key]}, here it is {row[key]}; "
                "measure the pretrained ranks again"
            )
    if len(draws) != stage.resamples:
        raise StudyError(
            f"{pretrained}: {len(draws)} resamples, the settings say {stage.resamples}; measure again"
        )
