"""Requests to predictions: a trained model's answers, as it is or under masks, without lmms-eval."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from encoder_roles.compute import choose_device, device_name, peak_memory_mb
from encoder_roles.data.llava import distinct_pictures
from encoder_roles.data.prompts import PromptRenderer
from encoder_roles.evaluation.predict_answers import Question, answer
from encoder_roles.evaluation.requests import Request, read_manifest, read_requests
from encoder_roles.models.masking import Calibration, calibrate, mask_features
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import MultiEncoderVLM, load_vlm
from encoder_roles.provenance import whole_folder, write_json, write_jsonl
from encoder_roles.study import (
    BLIND,
    NO_MASK,
    NONE_KEPT,
    MaskStage,
    Operator,
    PredictStage,
    StudyError,
    read_settings,
)
from encoder_roles.training.step import read_features

PICTURES_AT_A_TIME = 64  # read together: features do not depend on it, and more spill the cache
RECORD_FILE = "prediction.json"
T = TypeVar("T")  # a picture: its file or its pixels


@dataclass(frozen=True)
class Exam:
    """All requests of a study with their token ids, and the distinct pictures they show."""

    requests: dict[str, list[Request]]
    questions: list[Question]
    pictures: tuple[Path, ...]


def read_exam(folder: Path, renderer: PromptRenderer) -> Exam:
    """The requests of every benchmark in the manifest, in its order. Raises StudyError on a broken one."""
    requests = {benchmark: read_requests(folder, benchmark) for benchmark in read_manifest(folder)}
    everything = [request for rows in requests.values() for request in rows]
    rows: dict[str, int] = {}
    for request in everything:
        for image in request.images:
            rows.setdefault(image, len(rows))
    questions = [
        Question(
            renderer.render(request.prompt, images=len(request.images)),
            tuple(rows[image] for image in request.images),
            request.max_new_tokens,
        )
        for request in everything
    ]
    return Exam(requests, questions, tuple(folder / image for image in rows))


def read_inputs(
    model: MultiEncoderVLM,
    pictures: Sequence[T],
    features: Callable[[MultiEncoderVLM, Sequence[T]], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """Projector inputs (pictures, G, G, D) of every encoder, on the CPU, where masks act; {} if blind.

    `features` reads some of the pictures: `read_features` of files, `picture_features` of pixels.
    """
    parts: list[dict[str, Tensor]] = []
    together = min(PICTURES_AT_A_TIME, model.together)
    with torch.inference_mode():
        for start in range(0, len(pictures) if model.encoders else 0, together):
            some = features(model, pictures[start : start + together])
            parts.append({name: block.cpu() for name, block in model.projector_inputs(some).items()})
    return {name: torch.cat([part[name] for part in parts]) for name in (parts[0] if parts else ())}


def project(model: MultiEncoderVLM, inputs: dict[str, Tensor], pictures: int) -> Tensor:
    """Visual tokens (pictures, T, H) of projector inputs on the CPU, some pictures at a time."""
    parts = []
    with torch.inference_mode():
        for start in range(0, max(pictures, 1), PICTURES_AT_A_TIME):
            stop = min(start + PICTURES_AT_A_TIME, pictures)
            chunk = {name: block[start:stop].to(model.device) for name, block in inputs.items()}
            parts.append(model.project(chunk, stop - start).cpu())
    return torch.cat(parts)


class Candidate:
    """A trained model that sits the exam, as the settings say."""

    def __init__(self, folder: Path, requests: Path, stage: PredictStage) -> None:
        torch.set_num_threads(stage.threads)
        self.stage = stage
        try:
            training = json.loads((folder / "training.json").read_text())
            self.subset, self.seed = str(training["subset"]), int(training["seed"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StudyError(
                f"{folder / 'training.json'}: not the record of a tuned model ({error})"
            ) from error
        self.model = load_vlm(folder, stage.precision, choose_device())
        if ("+".join(self.model.encoders) or BLIND) != self.subset:
            raise StudyError(
                f"{folder}: training.json says {self.subset!r}, the model has {[*self.model.encoders]}"
            )
        self.tokenizer = load_tokenizer(folder)
        self.exam = read_exam(requests, PromptRenderer(self.tokenizer))

    def write_answers(
        self, inputs: dict[str, Tensor], mask: str, operator: str, output: Path, started: float
    ) -> None:
        """Answer every request from these projector inputs; write all benchmarks, or nothing.

        `started` is when the work that the record's seconds count began, by `time.perf_counter`.
        """
        visual = project(self.model, inputs, len(self.exam.pictures))
        end = self.tokenizer.eos_token_id
        ids = answer(self.model.language_model, self.exam.questions, visual, end, self.stage.batch_questions)
        texts = iter(self.tokenizer.batch_decode(ids, skip_special_tokens=True))
        with whole_folder(output) as folder:
            for benchmark, requests in self.exam.requests.items():
                rows = [{"id": r.id, "cluster": r.cluster, "text": next(texts).strip()} for r in requests]
                write_jsonl(folder / f"{benchmark}.jsonl", rows)
            record = {
                "subset": self.subset,
                "seed": self.seed,
                "mask": mask,
                "operator": operator,
                "questions": len(ids),
                "seconds": round(time.perf_counter() - started, 3),
                "peak_memory_mb": peak_memory_mb(),
                "threads": self.stage.threads,
                "device": device_name(self.model.device),
                "precision": self.stage.precision,
            }
            write_json(folder / RECORD_FILE, record)


def predict_subset(*, settings: Path, requests: Path, model: Path, subset: str, output: Path) -> None:
    """The answers of one trained model as it is: {benchmark}.jsonl for every benchmark of the manifest.

    Args:
        settings: settings/predict.json.
        requests: the folder of requests.
        model: the folder written by train-tune.
        subset: the subset it must have been trained on.
        output: the folder to write, whole or not at all; beside the answers prediction.json, what they cost.
    """
    stage = read_settings(settings, PredictStage)
    candidate = Candidate(model, requests, stage)
    if candidate.subset != subset:
        raise StudyError(f"{model}: trained on {candidate.subset!r}, asked for as {subset!r}")
    started = time.perf_counter()  # what a prediction costs includes the encoders
    inputs = read_inputs(candidate.model, candidate.exam.pictures, read_features)
    mask = NONE_KEPT if subset == BLIND else subset
    candidate.write_answers(inputs, mask, NO_MASK, output, started)


def parse_mask(mask: str, encoders: Sequence[str]) -> frozenset[str]:
    """The encoders a mask keeps. Raises StudyError unless it is in pool order and removes some."""
    kept = frozenset() if mask == NONE_KEPT else frozenset(mask.split("+"))
    if mask != ("+".join(e for e in encoders if e in kept) or NONE_KEPT) or len(kept) == len(encoders):
        raise StudyError(
            f"mask {mask!r}: expected {NONE_KEPT} or some but not all of {'+'.join(encoders)}, in this order"
        )
    return kept


def read_calibrations(
    model: MultiEncoderVLM, data: Path, pictures: int, donors: bool
) -> dict[str, Calibration]:
    """The encoders' projector inputs on the first training pictures; see `masking.calibrate`."""
    paths = [data.parent / image for image in islice(distinct_pictures(data), pictures)]
    if len(paths) < pictures:
        raise StudyError(f"{data}: {len(paths)} pictures, but masks.calibration_pictures is {pictures}")
    return calibrate([read_inputs(model, paths, read_features)], keep_donors=donors)


def predict_masks(
    *,
    settings: Path,
    operator: Operator,
    requests: Path,
    model: Path,
    masks: tuple[str, ...],
    data: Path,
    output_root: Path,
) -> None:
    """The answers of one trained model under many masks, its encoders run once on every picture.

    Args:
        settings: settings/masks.json.
        operator: what stands in place of a removed encoder's features.
        requests: the folder of requests.
        model: the folder written by train-tune, usually of the full pool.
        masks: the kept encoders of each mask, in pool order joined with `+`, or `none`.
        data: training data, for the operators that need calibration pictures.
        output_root: {mask}.{operator}/ is written in it for every mask, each whole or not at all.
    """
    stage = read_settings(settings, MaskStage)
    candidate = Candidate(model, requests, stage)
    kept = {mask: parse_mask(mask, list(candidate.model.encoders)) for mask in masks}
    inputs = read_inputs(candidate.model, candidate.exam.pictures, read_features)
    calibrations = None
    if operator not in ("zero", "drop"):
        donors = operator == "shuffle"
        calibrations = read_calibrations(candidate.model, data, stage.calibration_pictures, donors)
    for mask, encoders in kept.items():
        generator = torch.Generator().manual_seed(candidate.seed)
        started = time.perf_counter()
        masked = mask_features(inputs, encoders, operator, calibrations, generator)
        candidate.write_answers(masked, mask, operator, output_root / f"{mask}.{operator}", started)
