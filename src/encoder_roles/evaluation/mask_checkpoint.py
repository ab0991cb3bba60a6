"""`encoder-roles mask-checkpoint`: what each encoder gives to a checkpoint from elsewhere, by masking it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from encoder_roles.analysis.external.scores import STATISTICS, analyse_table
from encoder_roles.benchmarks.table import find_benchmark
from encoder_roles.evaluation.predict_checkpoint import answer_masks
from encoder_roles.evaluation.requests import read_manifest, write_requests
from encoder_roles.evaluation.score import score_predictions
from encoder_roles.paper.external_report import write_report
from encoder_roles.provenance import write_json
from encoder_roles.study.faults import describe_faults
from encoder_roles.study.names import BENCHMARKS, OVERLAYS, StudyError
from encoder_roles.study.sections import HookOperator, MaskedCheckpoint, StatisticsSettings
from encoder_roles.study.stages import CheckpointStage


def mask_checkpoint(
    *,
    model: str,
    encoders: dict[str, str],
    data: Path,
    output: Path,
    model_args: str = "",
    operators: tuple[HookOperator, ...] = ("zero",),
    benchmarks: tuple[str, ...] = (),
    calibration: Path | None = None,
    calibration_pictures: int = 64,
    channels: dict[str, int] | None = None,
    batch_size: int = 1,
    threads: int = 2,
    overlays: tuple[str, ...] = OVERLAYS,
    statistics: StatisticsSettings = STATISTICS,
    figures: bool = True,
) -> None:
    """Mask the encoders of a model that lmms-eval loads: answers, scores, masked roles and a report.

    Every mask is answered once: the same command goes on after the last mask that is complete.

    Args:
        model: its name in lmms-eval, or module:Class.
        encoders: each encoder and the path of its module (`--encoders clip model.vision_tower.towers.0
            dinov2 model.vision_tower.towers.1`); docs/masking.md has paths.
        data: a folder with benchmarks/{benchmark}/test.parquet, as results/<study>/data or
            results/<study>/fetched.
        output: the folder of requests, predictions, scores and roles/report.html.
        model_args: what lmms-eval loads it with, as pretrained=<folder or repository>.
        operators: what replaces what a removed encoder returns: zero, mean, shuffle.
        benchmarks: those to answer; by default all of `data`.
        calibration: a folder of pictures, or LLaVA-format records, for mean and shuffle.
        calibration_pictures: the number of them.
        channels: an encoder and the axis of its channels, where it is not the last.
        batch_size: questions that the model is given together.
        threads: CPU threads.
        overlays: the benchmarks scored by our rule instead of lmms-eval's.
        statistics: resamples, level and seed of the bootstrap.
        figures: draw the figures.

    Raises:
        StudyError: one line that says what is wrong, where, and what to do.
    """
    keys = {
        "model": model,
        "model_args": model_args,
        "encoders": encoders,
        "channels": channels or {},
        "operators": operators,
        "calibration": None if calibration is None else str(calibration),
        "calibration_pictures": calibration_pictures,
        "batch_size": batch_size,
    }
    try:
        settings = MaskedCheckpoint.model_validate(keys)
    except ValidationError as error:
        raise StudyError(f"mask-checkpoint: {describe_faults(error)}") from None
    requests, predictions = output / "requests", output / "predictions"
    prepare_requests(data, benchmarks, requests, output / "settings" / "requests.json")
    stage = CheckpointStage(checkpoint=settings, threads=threads)
    answer_masks(stage, requests, settings.runs, predictions, calibration)
    score_settings = {"study": "checkpoint", "overlays": overlays, "statistics": statistics.model_dump()}
    write_json(output / "settings" / "score.json", score_settings)
    score_predictions(
        settings=output / "settings" / "score.json",
        requests=requests,
        data=data,
        predictions=[predictions / settings.full],
        output_scores=output / "scores.parquet",
        output_table=output / "scores.csv",
    )
    if len(settings.pool) < 2:
        print(f"{output}: scores.csv; roles need at least two encoders")
        return
    analysis = analyse_table(output / "scores.parquet", pool=settings.pool, statistics=statistics)
    drawn = write_report(analysis, output / "roles", figures=figures)
    print(analysis.summary())
    print(f"{output}: scores.csv, roles/report.html, roles/figures/ ({drawn})")


def prepare_requests(data: Path, benchmarks: Sequence[str], requests: Path, settings: Path) -> None:
    """Write the requests of some benchmarks, or of all that have data, unless they are written already.

    Raises StudyError if there are no data, or the requests there are of other benchmarks.
    """
    present = [name for name in BENCHMARKS if (data / "benchmarks" / name / "test.parquet").is_file()]
    chosen = [find_benchmark(name).name for name in benchmarks] or present
    if not chosen:
        raise StudyError(f"{data}: no benchmarks/<benchmark>/test.parquet in it; name a study's data")
    if requests.is_dir():
        if (there := list(read_manifest(requests))) != chosen:
            raise StudyError(
                f"{requests}: has requests of {', '.join(there)}; choose another output, or remove it"
            )
        return
    write_json(settings, {"benchmarks": chosen})
    write_requests(settings=settings, data=data, output=requests)
