"""The costs of a study's models and rules: the sizes of its parts times the counts of its config."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from encoder_roles.benchmarks.table import TASKS
from encoder_roles.encoders.compute import DTYPES
from encoder_roles.planning.progress import show_progress
from encoder_roles.planning.sizes import (
    NOTHING,
    KnownSizes,
    LanguageModelSizes,
    Size,
    meta_encoder,
    size_connector,
    size_encoder,
    sum_sizes,
)
from encoder_roles.study.config import Study
from encoder_roles.study.names import BLIND, parse_subset

CONVERSATIONS = re.compile(rb'(?<!\\)"conversations"\s*:')
OVERLAP = 64  # bytes of a part in which such a key may have begun
BLOCK = 2**24  # bytes read at a time
FP32 = 4  # bytes per number of measured and stored features
MASTER = 12  # bytes per trained parameter in fp32: its weight and AdamW's two moments
GIGA = 10**9
HOUR = 3600

Row = dict[str, float | int | str]  # of plan.csv


@dataclass(frozen=True)
class Model:
    """The costs of one subset's model, in one seed.

    Attributes:
        subset: the subset's name.
        parameters: of the complete model.
        connector: of the connector alone.
        trained: parameters that tune trains.
        align_flops, tune_flops: of all steps of the stage.
        predict_flops: of the answers to all requests, without masks.
        answer_flops: the same without the encoders: the cost of one mask.
        align_memory, tune_memory: bytes on each device.
        predict_memory: bytes of the weights in prediction.
    """

    subset: str
    parameters: int
    connector: int
    trained: int
    align_flops: int
    tune_flops: int
    predict_flops: int
    answer_flops: int
    align_memory: int
    tune_memory: int
    predict_memory: int


def count_training_samples(study: Study) -> int:
    """The number of training samples: the records of tune, the plan's `training_samples`, or the world's.

    The records are counted if they are there: as staged, which leaves out faulty ones, or else as the user
    has them.
    """
    if "tune" in study.user_records:
        staged = Path(f"results/{study.study}/records/tune/tune.jsonl")
        for file in (staged, Path(study.user_records["tune"].records)):
            if file.is_file() and (records := count_records(file, file.stat().st_mtime_ns)):
                return records
    return study.plan.training_samples or study.world.train_pictures


@functools.lru_cache
def count_records(file: Path, _time: int) -> int:
    """The records of a list or a file of lines: the keys `conversations`, each followed by a colon.

    Inside a text the quotes of such a key are escaped, so no text counts. The file is read once, in parts.
    """
    count, rest = 0, b""
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            part = rest + block
            keys = list(CONVERSATIONS.finditer(part))
            count += len(keys)
            rest = part[max(keys[-1].end() if keys else 0, len(part) - OVERLAP) :]
    return count


def count_questions(study: Study) -> int:
    """The number of questions of all benchmarks; for the procedural world, a lower bound."""
    if study.evaluation.data == "hub":
        return sum(TASKS[name].questions for name in study.benchmarks)
    return study.world.questions_per_benchmark * len(study.benchmarks)


def frame_jobs(study: Study) -> tuple[int, float]:
    """The number of frame-pictures jobs, and an upper bound of their disk in GB.

    The pictures are those of training, of the benchmarks and of the effective-rank probe, in each encoder's
    frame. Several questions may share a picture, so the true size can be smaller.
    """
    studies = study.variants.values() or (study,)
    rows = {row.framing: row for each in studies for row in (each.encoders[name] for name in study.pool)}
    sets = 2 if study.user_records else 1  # align and tune; the world has one set for both
    pictures = sets * count_training_samples(study) + count_questions(study)
    if not study.variants:  # only the paper measures effective ranks
        sets, pictures = sets + 1, pictures + study.effective_rank.pictures
    sizes = (3 * row.pixels**2 * (FP32 if row.normalisation == "picture" else 1) for row in rows.values())
    return len(rows) * (sets + 1), pictures * sum(sizes) / GIGA


class Planner:
    """Costs of a study's models and rules.

    FLOPs of training count one forward pass of every part. They count as much again for the gradient of its
    inputs if a part before it is trained, and for the gradient of its weights if it is trained.
    Gradient checkpointing adds one forward pass of each part that gradients pass through.

    Args:
        study: what is planned.
        known: the sizes of encoders, shared between variants, which mostly have the same; filled here.
    """

    def __init__(self, study: Study, known: KnownSizes | None = None) -> None:
        self.study, known = study, {} if known is None else known
        engine = study.training.engine
        self.dtype = dtype = DTYPES[engine.precision]
        self.processes, self.bytes = engine.processes, dtype.itemsize
        self.language = LanguageModelSizes(study.language_model, dtype)
        self.encoders: dict[str, Size] = {}
        self.levels: dict[str, tuple[int, ...]] = {}
        for name in show_progress(study.pool, "sizes", "encoder"):
            spec, grid = study.encoders[name], study.connector.grid
            key = (spec.model_dump_json(), grid, dtype)
            if key not in known:
                encoder = meta_encoder(name, spec)
                known[key] = size_encoder(encoder, grid, dtype), tuple(encoder.widths)
            self.encoders[name], self.levels[name] = known[key]
        self.training_samples, self.questions = count_training_samples(study), count_questions(study)

    def model(self, subset: str) -> Model:
        """The costs of the model of one subset."""
        study, training, plan = self.study, self.study.training, self.study.plan
        names = parse_subset(subset, study.pool)
        connector, visual = self._connector(names)
        eyes = sum_sizes({name: self.encoders[name] for name in names})
        read = self.language.size(visual + plan.text_tokens)
        head = self.language.head_flops(plan.text_tokens)
        spoken = read.flops + head
        again = 1 if training.engine.gradient_checkpointing else 0
        stored = self.features_stored
        aligned = (0 if stored else eyes.flops) + 3 * connector.flops + (2 + again) * spoken
        tuned = (3 + again if training.tune.train_encoders else 1) * eyes.flops
        tuned += 3 * connector.flops + (3 + again) * spoken
        answered = connector.flops + read.flops + self.language.head_flops(plan.answer_tokens)
        parameters = eyes.parameters + connector.parameters + read.parameters
        trained = parameters - (0 if training.tune.train_encoders else eyes.parameters)
        align_samples = training.align.steps * training.align.batch_pictures
        moving = [eyes] if training.tune.train_encoders else []
        return Model(
            subset=subset,
            parameters=parameters,
            connector=connector.parameters,
            trained=trained,
            align_flops=align_samples * aligned if names else 0,
            tune_flops=training.tune.epochs * self.training_samples * tuned,
            predict_flops=self.questions * (eyes.flops + answered),
            answer_flops=self.questions * answered,
            align_memory=self._memory(
                connector.parameters + read.parameters + (0 if stored else eyes.parameters),
                connector.parameters,
                self._kept(connector, read),
                training.align.micro_batch or training.align.batch_pictures,
            )
            if names
            else 0,
            tune_memory=self._memory(
                parameters,
                trained,
                self._kept(*moving, connector, read),
                training.tune.micro_batch or training.tune.batch_pictures,
            ),
            predict_memory=parameters * DTYPES[study.evaluation.precision].itemsize,
        )

    def _connector(self, names: tuple[str, ...]) -> tuple[Size, int]:
        if not names:
            return NOTHING, 0
        levels = {name: self.levels[name] for name in names}
        return size_connector(levels, self.study.connector, self.language.hidden, self.dtype)

    def _kept(self, *parts: Size) -> int:
        """Bytes of one sample kept for the backward pass by the parts that gradients pass through."""
        checkpointing = self.study.training.engine.gradient_checkpointing
        logits = 2 * 4 * self.study.plan.text_tokens * self.language.vocabulary  # fp32, and their gradient
        return sum(part.checkpointed if checkpointing else part.saved for part in parts) + logits

    def _memory(self, parameters: int, trained: int, kept: int, micro_batch: int) -> int:
        """Bytes per device: ZeRO's model states (Rajbhandari et al. 2020), a micro batch's saved tensors.

        The torch engine and fp32 training have no separate master weights. ZeRO-2 divides gradients and
        optimizer states among the processes; ZeRO-3 also divides the weights.
        """
        engine = self.study.training.engine
        processes = self.processes if engine.kind == "deepspeed" else 1
        itemsize = self.bytes if engine.kind == "deepspeed" else 4
        optimizer = 0 if engine.offload else trained * (MASTER if itemsize == 2 else MASTER - 4)
        weights = (
            parameters
            * itemsize
            // (processes if engine.kind == "deepspeed" and engine.zero_stage == 3 else 1)
        )
        return weights + (trained * itemsize + optimizer) // processes + kept * micro_batch

    @property
    def features_stored(self) -> bool:
        """Whether encoders run over the training pictures once, before align."""
        return self.study.training.align.features == "stored"

    def feature_row(self, encoders: Sequence[str]) -> Row:
        """The row of the features of encoders, stored before align."""
        widths = sum(sum(self.levels[name]) for name in encoders)
        return self._row(
            "extract_features",
            len(encoders),
            "prediction",
            flops=self.training_samples * sum(self.encoders[name].flops for name in encoders),
            memory=FP32 * max(self.encoders[name].parameters for name in encoders),
            disk=widths * self.study.connector.grid**2 * FP32 * self.training_samples,
        )

    def align_row(self, models: Sequence[Model]) -> Row:
        """The row of connector alignment, for all models but the blind one."""
        costs = [(model.align_flops, model.align_memory, model.connector) for model in models]
        loaded = max(model.parameters - self._stored(model.subset) for model in models)
        host = self._host("train_align", loaded, max(model.connector for model in models))
        return self._training_row("train_align", costs, host)

    def tune_row(self, models: Sequence[Model]) -> Row:
        """The row of tuning."""
        costs = [(model.tune_flops, model.tune_memory, model.parameters) for model in models]
        loaded, trained = (max(getattr(model, key) for model in models) for key in ("parameters", "trained"))
        return self._training_row("train_tune", costs, self._host("train_tune", loaded, trained))

    def _stored(self, subset: str) -> int:
        """Parameters of the encoders that align does not load, because their features are stored."""
        names = parse_subset(subset, self.study.pool) if self.features_stored else ()
        return sum(self.encoders[name].parameters for name in names)

    def _host(self, rule: str, loaded: int, trained: int) -> int:
        """The most bytes of a training on the host of one node with GPUs, beside what its programs take.

        Every process reads the weights in fp32. DeepSpeed rounds them to bf16 before they go to the device,
        while the fp32 ones wait to become the optimizer's copies: 6 bytes a parameter and process. Later a
        checkpoint is written from copies of all states, divided over the nodes, while training goes on. The
        write at the end takes less: one process gathers 4 bytes a parameter. With offload, the shards of
        the optimizer's states stay on the host, and under ZeRO-3 those of the weights.
        """
        engine, nodes = self.study.training.engine, self.study.jobs[rule].nodes
        rounded = self.bytes if engine.kind == "deepspeed" and self.bytes < FP32 else 0
        kept = MASTER * trained if engine.offload else 0
        kept += self.bytes * loaded if engine.offload and engine.zero_stage == 3 else 0
        reading = self.processes // nodes * (FP32 + rounded) * loaded
        return max(reading, MASTER * trained // nodes) + kept // nodes

    def _training_row(self, rule: str, costs: Sequence[tuple[int, int, int]], host: int) -> Row:
        """A row from each model's FLOPs, memory and written parameters, in one seed."""
        seeds, (flops, memory, written) = len(self.study.seeds), zip(*costs, strict=True)
        disk = seeds * FP32 * sum(written)
        jobs = seeds * len(costs)
        row = self._row(rule, jobs, "training", flops=seeds * sum(flops), memory=max(memory), disk=disk)
        return row | {"host_gb": host / GIGA}

    def answer_row(self, models: Sequence[Model]) -> Row:
        """The row of the models' answers, without masks."""
        seeds = len(self.study.seeds)
        flops = seeds * sum(model.predict_flops for model in models)
        memory = max(model.predict_memory for model in models)
        return self._row("predict_subset", seeds * len(models), "prediction", flops=flops, memory=memory)

    def paper_rows(self, models: Sequence[Model]) -> Iterator[Row]:
        """The rows that only the paper needs: masked answers of the full pool, and effective ranks."""
        study, seeds = self.study, len(self.study.seeds)
        full = next(model for model in models if model.subset == study.full)
        trained = [model for model in models if model.subset != BLIND]
        eyes = sum_sizes(self.encoders)
        masks = len(study.masks.operators)
        seen = self.questions * eyes.flops + len(study.masks_of_full) * full.answer_flops
        masked = {"flops": seeds * masks * seen, "memory": full.predict_memory}
        yield self._row("predict_masks", seeds * masks, "prediction", **masked)
        probes = study.effective_rank.pictures
        held = FP32 * eyes.parameters  # upper bound: the full pool's
        yield self._row("measure_pretrained_ranks", 1, "prediction", flops=probes * eyes.flops, memory=held)
        measured = sum(
            probes * self.encoders[name].flops
            for model in trained
            for name in parse_subset(model.subset, study.pool)
        )
        each = {"flops": seeds * measured, "memory": held}
        yield self._row("measure_ranks", seeds * len(trained), "prediction", **each)

    def _row(self, rule: str, jobs: int, kind: str, flops: int, memory: int = 0, disk: int = 0) -> Row:
        plan = self.study.plan
        reached = plan.peak_teraflops * 1e12 * getattr(plan.utilisation, kind)
        return {
            "rule": rule,
            "jobs": jobs,
            "devices": self.processes if kind == "training" else 1,
            "flops": flops,
            "device_hours": flops / reached / HOUR,
            "memory_gb": memory / GIGA,
            "host_gb": 0.0,
            "disk_gb": disk / GIGA,
        }
