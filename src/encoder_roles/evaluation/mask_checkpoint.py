"""`encoder-roles mask-checkpoint`: what each encoder gives to a checkpoint from elsewhere, by masking it."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from pydantic import ValidationError

from encoder_roles.analysis.external.scores import STATISTICS, analyse_table
from encoder_roles.benchmarks.table import find_benchmark
from encoder_roles.encoders.compute import device_name, peak_memory_mb
from encoder_roles.evaluation.requests import Request, read_manifest, read_requests, write_requests
from encoder_roles.evaluation.score import score_predictions
from encoder_roles.models.module_masks import Calibrations, ModuleMask
from encoder_roles.paper.external_report import write_report
from encoder_roles.provenance import atomic_folder, key_of, sha256_of, write_json, write_jsonl
from encoder_roles.study.faults import describe_faults
from encoder_roles.study.names import BENCHMARKS, NO_MASK, NONE_KEPT, OVERLAYS, StudyError
from encoder_roles.study.sections import HookOperator, MaskedCheckpoint, StatisticsSettings
from encoder_roles.study.stages import CheckpointStage, read_settings

RECORD_FILE = "prediction.json"
SEED = 0  # of the draws of shuffle, and in the names of folders: a checkpoint is one training


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


def predict_checkpoint(
    *,
    settings: Path,
    requests: Path,
    mask: str,
    operator: str,
    output: Path,
    calibration: Path | None = None,
) -> None:
    """Write the answers of a checkpoint from elsewhere under one mask.

    Args:
        settings: settings/checkpoint.json.
        requests: the folder of requests.
        mask: the kept encoders, joined with `+`, or `none`.
        operator: what replaces what a removed encoder returns, or `unmasked` if all are kept.
        output: the folder {encoders}/seed0/{mask}.{operator} to write, whole or not at all.
        calibration: a folder of pictures, or LLaVA-format records, for mean and shuffle.

    Raises:
        StudyError: the mask is none of the settings', or as `LmmsCheckpoint`.
    """
    stage = read_settings(settings, CheckpointStage)
    if (mask, operator) not in stage.checkpoint.runs:
        known = ", ".join(f"{m}.{o}" for m, o in stage.checkpoint.runs)
        raise StudyError(f"mask {mask}.{operator}: not one of {known}")
    expected = cell_folder(Path(), stage.checkpoint, mask, operator)
    if output.parts[-3:] != expected.parts:
        raise StudyError(f"{output}: not a folder {expected} of predictions")
    answer_masks(stage, requests, [(mask, operator)], output.parents[2], calibration)


def cell_folder(root: Path, settings: MaskedCheckpoint, mask: str, operator: str) -> Path:
    """The folder of one mask's predictions, as scoring reads its name."""
    return root / settings.full / f"seed{SEED}" / f"{mask}.{operator}"


def answer_masks(
    stage: CheckpointStage,
    requests: Path,
    runs: Sequence[tuple[str, str]],
    root: Path,
    calibration: Path | None,
) -> None:
    """Answer all requests under some masks (mask, operator), each into its folder below `root`.

    Masks with complete answers are left; the model is loaded only if one is missing.

    Raises:
        StudyError: the answers of a folder are another checkpoint's; or as `LmmsCheckpoint`.
    """
    settings = stage.checkpoint
    keys = {operator: answers_key(settings, operator, requests) for _, operator in runs}
    folders = {run: cell_folder(root, settings, *run) for run in runs}
    missing = [run for run, folder in folders.items() if not is_answered(folder, keys[run[1]])]
    if not missing:
        return
    from encoder_roles.evaluation.checkpoint import LmmsCheckpoint, calibration_pictures

    needed = {operator for _, operator in missing} - {"zero", NO_MASK}
    if needed and calibration is None:
        raise StudyError(f"operator {sorted(needed)[0]}: needs calibration pictures; give calibration")
    rows = {name: read_requests(requests, name) for name in read_manifest(requests)}
    torch.set_num_threads(stage.threads)
    checkpoint = LmmsCheckpoint(settings)
    calibrations: Calibrations = {}
    if needed and calibration is not None:
        pictures = calibration_pictures(calibration, settings.calibration_pictures)
        calibrations = checkpoint.calibrate(pictures, keep_donors="shuffle" in needed)
    for mask, operator in missing:
        started = time.perf_counter()
        react = mask_of(settings, mask, operator, calibrations)
        texts = checkpoint.answer(rows, requests, react)
        device = device_name(next(checkpoint.model.parameters()).device)
        record = {
            "checkpoint": keys[operator],
            "subset": settings.full,
            "seed": SEED,
            "mask": mask,
            "operator": operator,
            "questions": len(texts),
            "seconds": round(time.perf_counter() - started, 3),
            "peak_memory_mb": peak_memory_mb(),
            "threads": stage.threads,
            "device": device,
        }
        write_answers(folders[mask, operator], rows, texts, record)


def mask_of(settings: MaskedCheckpoint, mask: str, operator: str, calibrations: Calibrations) -> ModuleMask:
    """The mask that keeps the named encoders; without a mask it only checks what modules return."""
    kept = frozenset() if mask == NONE_KEPT else frozenset(mask.split("+"))
    by: HookOperator = next((name for name in settings.operators if name == operator), "zero")
    return ModuleMask(frozenset(settings.pool) - kept, by, calibrations, settings.channels, SEED)


def answers_key(settings: MaskedCheckpoint, operator: str, requests: Path) -> str:
    """What the answers depend on, beside the mask: the model, its encoders, calibration and requests."""
    ignored = {"operators", "batch_size"}
    if operator in ("zero", NO_MASK):
        ignored |= {"calibration", "calibration_pictures", "channels"}
    of_model = settings.model_dump(mode="json", exclude=ignored)
    hashes = {name: sha256_of(requests / f"{name}.jsonl") for name in read_manifest(requests)}
    return key_of({"checkpoint": of_model, "requests": hashes})


def is_answered(folder: Path, key: str) -> bool:
    """Whether a folder has the answers. Raises StudyError if it has those of something else."""
    record = folder / RECORD_FILE
    if not record.is_file():
        return False
    if json.loads(record.read_text(encoding="utf-8")).get("checkpoint") != key:
        raise StudyError(
            f"{folder}: has answers of another checkpoint, or to other requests; choose another output, or "
            "remove it"
        )
    return True


def write_answers(
    output: Path, rows: Mapping[str, Sequence[Request]], texts: Sequence[str], record: Mapping[str, object]
) -> None:
    """Write {benchmark}.jsonl and the record of their cost, or nothing."""
    left = iter(texts)
    with atomic_folder(output) as folder:
        for benchmark, requests in rows.items():
            answers = [{"id": r.id, "cluster": r.cluster, "text": next(left)} for r in requests]
            write_jsonl(folder / f"{benchmark}.jsonl", answers)
        write_json(folder / RECORD_FILE, dict(record))
