"""Answers of a checkpoint from elsewhere under masks: a step of `mask-checkpoint`, and a job of the DAG."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from encoder_roles.encoders.compute import device_name, peak_memory_mb
from encoder_roles.evaluation.requests import Request, read_manifest, read_requests
from encoder_roles.models.module_masks import Calibrations, ModuleMask
from encoder_roles.provenance import atomic_folder, key_of, sha256_of, write_json, write_jsonl
from encoder_roles.study.names import NO_MASK, NONE_KEPT, StudyError
from encoder_roles.study.sections import HookOperator, MaskedCheckpoint
from encoder_roles.study.stages import CheckpointStage, read_settings

RECORD_FILE = "prediction.json"
SEED = 0  # of the draws of shuffle, and in the names of folders: a checkpoint is one training


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
