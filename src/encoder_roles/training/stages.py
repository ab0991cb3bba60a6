"""What align and tune share: checked inputs, the engine, the run and its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from encoder_roles.data.prompts import PromptRenderer, longest_conversation
from encoder_roles.encoders.compute import device_name, peak_memory_mb
from encoder_roles.provenance import atomic_folder, versions, write_json, write_jsonl
from encoder_roles.study.names import BLIND, StudyError
from encoder_roles.study.sections import AlignSettings, EngineSettings, TuneSettings, accumulation
from encoder_roles.study.stages import AlignStage, TrainingStage, TuneStage, read_settings
from encoder_roles.training.attention import FLASH_ROUNDING, use_packed_attention
from encoder_roles.training.batches import Batches, TrainingData
from encoder_roles.training.checkpoints import Checkpoints, run_folder
from encoder_roles.training.distributed import ProcessRank, join_processes
from encoder_roles.training.engine import Engine, Part, TorchEngine
from encoder_roles.training.flops import count_flops
from encoder_roles.training.loop import Saving, Schedule, train
from encoder_roles.training.marks import passed
from encoder_roles.training.opening import announce
from encoder_roles.training.step import AnswerModel, AnswerTask

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

AnyStage = TypeVar("AnyStage", AlignStage, TuneStage)

# Settings of how a run is computed, not of what: after a change of one, a run continues from its checkpoint.
HOW = {
    "checkpoint_every": True,
    "checkpoint_minutes": True,
    "engine": {"kind", "processes", "zero_stage", "offload", "attention", "gradient_checkpointing"},
    "align": {"micro_batch"},
    "tune": {"micro_batch"},
}


def read_stage(settings: Path, kind: type[AnyStage]) -> tuple[AnyStage, ProcessRank]:
    """A stage's settings, and this process's rank; the processes are connected, torch's threads are set.

    Raises StudyError if the settings cannot be read or another number of processes was started.
    """
    stage = read_settings(settings, kind)
    process = join_processes(stage.engine)
    torch.set_num_threads(stage.threads)
    return stage, process


def check_subset(subset: str, encoders: Sequence[Path]) -> dict[str, Path]:
    """Encoder -> folder. Raises StudyError if the folders are not those of the subset, in pool order."""
    named = {folder.name: folder for folder in encoders}
    if ("+".join(named) or BLIND) != subset:
        raise StudyError(f"subset {subset!r}: the encoder folders are those of {'+'.join(named) or BLIND!r}")
    return named


def read_training_data(
    data: Path,
    tokenizer: PreTrainedTokenizerFast,
    language_model: PreTrainedModel,
    visual_tokens: int,
    stage: TrainingStage,
) -> TrainingData:
    """The pictures of a training file with their questions as token ids, read when they are needed."""
    longest = longest_conversation(language_model.config, stage.max_tokens)
    cut = stage.max_tokens is not None
    return TrainingData(data, PromptRenderer(tokenizer), longest, visual_tokens, cut, stage.group_by_picture)


def freeze(module: nn.Module) -> None:
    """Exclude a part from training: no gradient, evaluation mode."""
    module.requires_grad_(False).eval()


def prepare(parts: Mapping[str, nn.Module], settings: EngineSettings) -> None:
    """Give the language model packed attention and, if set, every part gradient checkpointing.

    Raises StudyError if the attention is `flash` and there is no CUDA device.
    """
    if settings.attention == "flash" and not torch.cuda.is_available():
        raise StudyError("training.engine.attention: flash needs a CUDA device, there is none; set sdpa")
    language_model: Any = parts["language_model"]
    use_packed_attention(language_model, "flash" if settings.attention == "flash" else "trees")
    if not settings.gradient_checkpointing:
        return
    # under ZeRO-3 a weight has no shape while its layer does not run; only reentrant checkpointing allows it
    reentrant = settings.kind == "deepspeed" and settings.zero_stage == 3
    for part in parts.values():
        network: Any = getattr(part, "trunk", part)
        if hasattr(network, "gradient_checkpointing_enable"):
            network.gradient_checkpointing_enable({"use_reentrant": reentrant})
        elif hasattr(network, "set_grad_checkpointing"):
            network.set_grad_checkpointing()
    language_model.train()  # transformers checkpoints only in this mode, frozen or not


def build_engine(
    stage: TrainingStage,
    model: AnswerModel,
    parts: Mapping[str, Part],
    optimizer: Mapping[str, float],
    accumulated: int,
    process: ProcessRank,
) -> Engine:
    """The engine that the settings name; ``optimizer`` has weight_decay and clip_norm."""
    if stage.engine.kind == "torch":
        return TorchEngine(model, parts, **optimizer, precision=stage.engine.precision)
    from encoder_roles.training.deepspeed_engine import DeepSpeedEngine

    return DeepSpeedEngine(
        model, parts, **optimizer, settings=stage.engine, accumulation=accumulated, process=process
    )


def count_parameters(parts: Mapping[str, nn.Module]) -> dict[str, int]:
    """The number of parameters of each part, before an engine partitions them."""
    return {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into one line: a StudyError."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(
            f"{path}: cannot be written ({reason}): make room, then run the job again; it "
            "continues from its last checkpoint"
        ) from error


@dataclass(frozen=True)
class Run:
    """One training of one stage.

    Attributes:
        stage: `align` or `tune`.
        subset, seed: which model.
        settings: the stage's settings.
        inputs: the files and folders that the weights depend on.
        process: this process.
        restart: folder of restart checkpoints, outside the output.
        output: the folder to write, whole or not at all.
    """

    stage: str
    subset: str
    seed: int
    settings: AlignStage | TuneStage
    inputs: tuple[Path, ...]
    process: ProcessRank
    restart: Path
    output: Path

    @property
    def title(self) -> str:
        """Its name in progress lines and errors."""
        return f"{self.stage} {self.subset} seed {self.seed}"

    @property
    def recipe(self) -> AlignSettings | TuneSettings:
        """The settings of the stage alone."""
        return self.settings.align if isinstance(self.settings, AlignStage) else self.settings.tune

    @property
    def checkpoints(self) -> Checkpoints:
        """Its restart checkpoints; their key leaves out the settings in HOW."""
        settings = self.settings.model_dump(mode="json", exclude=HOW)  # type: ignore[arg-type]
        return Checkpoints(
            run_folder(self.restart, [self.stage, self.subset, self.seed, settings], self.inputs)
        )

    def batches(self, pictures: TrainingData, samples: int) -> Batches:
        """The batches of all steps: `samples` in all."""
        return Batches(
            pictures,
            samples=samples,
            batch_pictures=self.recipe.batch_pictures,
            questions=self.recipe.questions_per_picture,
            seed=self.seed,
            stage=self.stage,
            length_grouped=self.recipe.length_grouped,
        )

    def train(
        self,
        model: AnswerModel,
        batches: Batches,
        visual_tokens: int,
        trained: Mapping[str, Part],
        write: Callable[[Path, dict[str, Tensor]], None],
    ) -> None:
        """Train the parts `trained` of the model, then write the output: what `write` makes of the weights,
        log.jsonl and training.json.
        """
        recipe, parts = self.recipe, dict(model.parts.items())
        parameters = count_parameters(parts)
        accumulated = accumulation(recipe.batch_pictures, recipe.micro_batch, self.settings.engine.processes)
        prepare(parts, self.settings.engine)
        optimizer = {"weight_decay": recipe.weight_decay, "clip_norm": recipe.clip_norm}
        engine = build_engine(self.settings, model, trained, optimizer, accumulated, self.process)
        rounding = FLASH_ROUNDING if self.settings.engine.attention == "flash" else 1
        task = AnswerTask(
            self.title, batches, visual_tokens, accumulated, self.process, model.visual, rounding
        )
        saving = Saving(self.checkpoints, self.settings.checkpoint_every, self.settings.checkpoint_minutes)
        checkpoint, log = saving.checkpoints.load(engine)
        if self.process.rank == 0:
            rates = {name: part.learning_rate for name, part in trained.items()}
            announce(task, parameters, rates, engine.device, checkpoint)
        schedule = Schedule(len(batches), recipe.warmup_fraction)
        log = train(engine, task, schedule, saving, next(iter(trained.values())).learning_rate, log)
        language_model: Any = parts["language_model"]
        use_packed_attention(language_model, "blocks")
        flops = count_flops(engine, task)
        passed("flops")
        weights = engine.weights()
        if weights is not None:
            with explained(self.output), atomic_folder(self.output) as folder:
                write(folder, weights)
                self._write_records(folder, log, batches.samples, parameters, flops, engine)
            saving.checkpoints.remove()
        engine.gather(None)  # no process ends the job before the outputs are there
        passed("written")

    def _write_records(
        self,
        folder: Path,
        log: Sequence[dict[str, Any]],
        samples: int,
        parameters: Mapping[str, int],
        flops: int,
        engine: Engine,
    ) -> None:
        write_jsonl(folder / "log.jsonl", log)
        training = {
            "subset": self.subset,
            "seed": self.seed,
            "stage": self.stage,
            "steps": len(log),
            "samples": samples,
            "final_loss": log[-1]["loss"],
            "seconds": log[-1]["seconds"],
            "peak_memory_mb": peak_memory_mb(),
            "parameters": parameters,
            "flops": flops,
            "versions": versions(),
            "threads": self.settings.threads,
            "processes": self.process.world_size,
            "device": device_name(engine.device),
        }
        write_json(folder / "training.json", training)


def strip(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin with `prefix`, by their names without it."""
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
