"""Requests to predictions: a trained model's answers, as it is or under masks, without lmms-eval."""

from __future__ import annotations

import json
import time
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import accumulate, islice, pairwise
from pathlib import Path

import torch
from torch import Tensor

from encoder_roles.data.llava import distinct_pictures
from encoder_roles.data.picture_store import PictureStore, open_store
from encoder_roles.data.pictures import PictureReader
from encoder_roles.data.prompts import PromptRenderer
from encoder_roles.encoders.compute import choose_device, device_name, peak_memory_mb
from encoder_roles.encoders.framing import Framed, frame_picture
from encoder_roles.evaluation.decoding import AnswerPlan, Question
from encoder_roles.evaluation.requests import Request, read_manifest, read_requests
from encoder_roles.models.masking import Calibration, calibrate, mask_features
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import MultiEncoderVLM, load_vlm
from encoder_roles.provenance import atomic_folder, write_json, write_jsonl
from encoder_roles.study.names import BLIND, NO_MASK, NONE_KEPT, StudyError
from encoder_roles.study.sections import Operator
from encoder_roles.study.stages import MaskStage, PredictStage, read_settings

PICTURES_AT_A_TIME = 64  # read together; features do not depend on it, and more do not fit the CPU's cache
HELD_BYTES = 2**33  # the most bytes of projector inputs and visual tokens in memory, without a mask's copies
RECORD_FILE = "prediction.json"
Inputs = dict[str, Tensor]  # encoder -> projector inputs (pictures, G, G, D)
View = Callable[[Inputs], Inputs]  # applies a mask


@dataclass(frozen=True)
class RequestSet:
    """All requests of a study with their token ids, and their distinct pictures."""

    requests: dict[str, list[Request]]
    questions: list[Question]
    pictures: tuple[Path, ...]

    def portions(self, most: int) -> Iterator[tuple[range, list[int]]]:
        """Consecutive pictures, `most` at a time, and the places of all questions about them.

        There are more than `most` only if the pictures of a question are further apart. Questions without
        pictures come first.
        """
        reach = list(range(len(self.pictures)))  # picture -> the last picture that shares a question with it
        for question in self.questions:
            if question.pictures:
                first = min(question.pictures)
                reach[first] = max(reach[first], *question.pictures)
        furthest = [-1, *accumulate(reach, max)]
        cuts = [row for row in range(len(reach)) if furthest[row] < row] or [0]
        starts = cuts[:1]
        for cut, following in pairwise([*cuts, len(reach)]):
            if following - starts[-1] > most and cut > starts[-1]:
                starts.append(cut)
        owners: list[list[int]] = [[] for _ in starts]
        for place, question in enumerate(self.questions):
            owners[bisect(starts, min(question.pictures, default=0)) - 1].append(place)
        for (start, stop), places in zip(pairwise([*starts, len(reach)]), owners, strict=True):
            yield range(start, stop), places


def read_request_set(folder: Path, renderer: PromptRenderer) -> RequestSet:
    """The requests of every benchmark in the manifest, in its order. Raises StudyError if one is damaged."""
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
    return RequestSet(requests, questions, tuple(folder / image for image in rows))


def read_inputs(model: MultiEncoderVLM, portions: Iterable[Sequence[Framed]]) -> Iterator[Inputs]:
    """Projector inputs (pictures, G, G, D) of every encoder, on the CPU; nothing for the blind model.

    Args:
        model: its encoders read the pictures.
        portions: the pictures, framed for the encoders; each portion gives one item.
    """
    for framed in portions if model.encoders else ():
        with torch.inference_mode():
            on_device = model.projector_inputs(model.framed_features(framed))
            inputs = {name: block.cpu() for name, block in on_device.items()}
        yield inputs


def join(parts: Iterable[Inputs]) -> Inputs:
    """Concatenate the projector inputs of portions; {} if there are none."""
    portions = list(parts)
    names = portions[0] if portions else ()
    return {name: torch.cat([part[name] for part in portions]) for name in names}


def file_inputs(
    model: MultiEncoderVLM, paths: Sequence[Path], store: PictureStore | None = None
) -> Iterator[Inputs]:
    """`read_inputs` of picture files; the next portion is read while one is computed."""
    reader = PictureReader(model.frames, store)
    return read_inputs(model, reader.portions(paths, min(PICTURES_AT_A_TIME, model.pictures_per_pass)))


def pixel_inputs(model: MultiEncoderVLM, pictures: Sequence[Tensor]) -> Iterator[Inputs]:
    """`read_inputs` of uint8 pictures (3, H, W) of any sizes."""
    portion = min(PICTURES_AT_A_TIME, model.pictures_per_pass)
    starts = range(0, len(pictures), portion)
    portions = (pictures[start : start + portion] for start in starts)
    return read_inputs(model, ([frame_picture(p, model.frames) for p in some] for some in portions))


def project(model: MultiEncoderVLM, inputs: Inputs, pictures: int) -> Tensor:
    """Visual tokens (pictures, T, H), on the CPU, from projector inputs, PICTURES_AT_A_TIME at a time."""
    parts = []
    with torch.inference_mode():
        for start in range(0, max(pictures, 1), PICTURES_AT_A_TIME):
            stop = min(start + PICTURES_AT_A_TIME, pictures)
            chunk = {name: block[start:stop].to(model.device) for name, block in inputs.items()}
            parts.append(model.project(chunk, stop - start).cpu())
    return torch.cat(parts)


@dataclass
class Answers:
    """The texts of all questions, and the seconds that they took."""

    texts: list[str]
    seconds: float = 0.0


class TrainedModel:
    """A trained model and the requests it answers."""

    def __init__(
        self, folder: Path, requests: Path, stage: PredictStage, pictures: tuple[Path, ...] = ()
    ) -> None:
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
        self.request_set = read_request_set(requests, PromptRenderer(self.tokenizer))
        self.store = open_store(pictures, requests)

    @property
    def picture_bytes(self) -> int:
        """Bytes of one picture's projector inputs and visual tokens."""
        model = self.model
        inputs = sum(model.widths.values()) * model.grid**2
        return (inputs + model.tokens_per_picture * model.hidden) * model.dtype.itemsize

    def answer(self, views: Sequence[View]) -> list[Answers]:
        """The answers to all requests under every view of the projector inputs; encoders run once."""
        questions, pictures = self.request_set.questions, self.request_set.pictures
        of_views = [Answers([""] * len(questions)) for _ in views]
        for rows, places in self.request_set.portions(max(1, HELD_BYTES // max(1, self.picture_bytes))):
            inputs = join(file_inputs(self.model, pictures[rows.start : rows.stop], self.store))
            about = [questions[place] for place in places]
            shifted = [replace(q, pictures=tuple(row - rows.start for row in q.pictures)) for q in about]
            plan = lru_cache(partial(self._plan, shifted))  # for all views of equally many visual tokens
            for view, answers in zip(views, of_views, strict=True):
                started = time.perf_counter()
                visual = project(self.model, view(inputs), len(rows))
                ids = plan(visual.shape[1]).answer(visual, self.tokenizer.eos_token_id)
                texts = self.tokenizer.batch_decode(ids, skip_special_tokens=True)
                for place, text in zip(places, texts, strict=True):
                    answers.texts[place] = text.strip()
                answers.seconds += time.perf_counter() - started
        return of_views

    def _plan(self, questions: Sequence[Question], tokens_per_picture: int) -> AnswerPlan:
        language_model, most = self.model.language_model, self.stage.batch_tokens
        return AnswerPlan(language_model, questions, tokens_per_picture, most)

    def write(self, answers: Answers, mask: str, operator: str, output: Path) -> None:
        """Write the answers to all benchmarks and the record of their cost, or nothing."""
        texts = iter(answers.texts)
        with atomic_folder(output) as folder:
            for benchmark, requests in self.request_set.requests.items():
                rows = [{"id": r.id, "cluster": r.cluster, "text": next(texts)} for r in requests]
                write_jsonl(folder / f"{benchmark}.jsonl", rows)
            record = {
                "subset": self.subset,
                "seed": self.seed,
                "mask": mask,
                "operator": operator,
                "questions": len(answers.texts),
                "seconds": round(answers.seconds, 3),
                "peak_memory_mb": peak_memory_mb(),
                "threads": self.stage.threads,
                "device": device_name(self.model.device),
                "precision": self.stage.precision,
            }
            write_json(folder / RECORD_FILE, record)


def predict_subset(
    *, settings: Path, requests: Path, model: Path, subset: str, output: Path, pictures: tuple[Path, ...] = ()
) -> None:
    """Write the answers of one unmasked model: {benchmark}.jsonl for every benchmark of the manifest.

    Args:
        settings: settings/predict.json.
        requests: the folder of requests.
        model: the folder written by train-tune.
        subset: the subset that the model must have been trained on.
        output: the folder to write, whole or not at all; prediction.json in it has the cost of the answers.
        pictures: folders of the requests' framed pictures; without them every file is decoded.

    Raises:
        StudyError: the model or the requests are damaged, or the model has another subset.
    """
    trained = TrainedModel(model, requests, read_settings(settings, PredictStage), pictures)
    if trained.subset != subset:
        raise StudyError(f"{model}: trained on {trained.subset!r}, not on {subset!r}")
    started = time.perf_counter()
    (answers,) = trained.answer([lambda inputs: inputs])
    answers.seconds = time.perf_counter() - started  # the cost of a prediction includes the encoders
    mask = NONE_KEPT if subset == BLIND else subset
    trained.write(answers, mask, NO_MASK, output)


def parse_mask(mask: str, encoders: Sequence[str]) -> frozenset[str]:
    """The encoders that a mask keeps. Raises StudyError unless it is in pool order and removes an encoder."""
    kept = frozenset() if mask == NONE_KEPT else frozenset(mask.split("+"))
    if mask != ("+".join(e for e in encoders if e in kept) or NONE_KEPT) or len(kept) == len(encoders):
        raise StudyError(
            f"mask {mask!r}: expected {NONE_KEPT} or some but not all of {'+'.join(encoders)}, in this order"
        )
    return kept


def read_calibrations(
    model: MultiEncoderVLM, data: Path, pictures: int, donors: bool, store: PictureStore | None = None
) -> dict[str, Calibration]:
    """Calibrations of the encoders on the first training pictures; see `masking.calibrate`."""
    paths = [data.parent / image for image in islice(distinct_pictures(data), pictures)]
    if len(paths) < pictures:
        raise StudyError(f"{data}: {len(paths)} pictures, but masks.calibration_pictures is {pictures}")
    return calibrate(file_inputs(model, paths, store), keep_donors=donors)


def predict_masks(
    *,
    settings: Path,
    operator: Operator,
    requests: Path,
    model: Path,
    masks: tuple[str, ...],
    data: Path,
    output_root: Path,
    pictures: tuple[Path, ...] = (),
    calibration_pictures: tuple[Path, ...] = (),
) -> None:
    """Write the answers of one trained model under many masks; encoders run once on every picture.

    Args:
        settings: settings/masks.json.
        operator: how a removed encoder's features are replaced.
        requests: the folder of requests.
        model: the folder written by train-tune, usually of the full pool.
        masks: the kept encoders of each mask, in pool order joined with `+`, or `none`.
        data: training data, for the operators that need calibration pictures.
        output_root: for every mask a folder {mask}.{operator}/ is written in it, whole or not at all.
        pictures: folders of the requests' framed pictures; without them every file is decoded.
        calibration_pictures: folders of the framed training pictures; likewise.

    Raises:
        StudyError: the model or the requests are damaged, or a mask does not fit the model.
    """
    stage = read_settings(settings, MaskStage)
    trained = TrainedModel(model, requests, stage, pictures)
    kept = {mask: parse_mask(mask, list(trained.model.encoders)) for mask in masks}
    calibrations = None
    if operator not in ("zero", "drop"):
        donors = operator == "shuffle"
        store = open_store(calibration_pictures, data.parent)
        calibrations = read_calibrations(trained.model, data, stage.calibration_pictures, donors, store)
    views = [
        partial(
            mask_features,
            kept=encoders,
            operator=operator,
            calibrations=calibrations,
            generator=torch.Generator().manual_seed(trained.seed),  # the same draws for each mask
        )
        for encoders in kept.values()
    ]
    for mask, answers in zip(kept, trained.answer(views), strict=True):
        trained.write(answers, mask, operator, output_root / f"{mask}.{operator}")
