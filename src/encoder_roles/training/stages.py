"""What the two stages share: their inputs checked, their parts, their records."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from encoder_roles.data.prompts import PromptRenderer
from encoder_roles.provenance import versions, write_json, write_jsonl
from encoder_roles.study import BLIND, AlignStage, StudyError, TuneStage
from encoder_roles.training.batches import PicturePrompts, read_prompts
from encoder_roles.training.checkpoints import Checkpoints, run_folder
from encoder_roles.training.engine import Engine
from encoder_roles.training.loop import Schedule, train
from encoder_roles.training.step import AnswerTask

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast


def check_subset(subset: str, encoders: Sequence[Path]) -> dict[str, Path]:
    """Encoder -> folder. Raises StudyError if the folders are not those of the subset, in pool order."""
    named = {folder.name: folder for folder in encoders}
    if ("+".join(named) or BLIND) != subset:
        raise StudyError(
            f"subset {subset!r}: the encoder folders given are those of {'+'.join(named) or BLIND!r}"
        )
    return named


def read_training_data(
    data: Path, tokenizer: PreTrainedTokenizerFast, language_model: PreTrainedModel, visual_tokens: int
) -> list[PicturePrompts]:
    """All pictures of the training file with their questions as token ids."""
    longest = int(language_model.config.get_text_config().max_position_embeddings)
    return read_prompts(data, PromptRenderer(tokenizer), longest, visual_tokens)


def freeze(module: nn.Module) -> None:
    """Take a part out of training: no gradient, evaluation mode."""
    module.requires_grad_(False).eval()


def count_flops(task: AnswerTask) -> int:
    """FLOPs of the run: the first batch's, forward and backward, measured, scaled to all samples.

    While it is counted attention runs in plain matrix products: on CPU the counter sees no fused kernel.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        task.loss(0).backward()
    total: float = counter.get_total_flops() * task.batches.samples / len(task.batches[0])
    return round(total)


def peak_memory_mb() -> int:
    """Most resident memory of this process so far."""
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes there, in KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


@dataclass(frozen=True)
class Run:
    """One training of one stage: who it is, and all its weights depend on."""

    stage: str
    subset: str
    seed: int
    settings: AlignStage | TuneStage
    inputs: tuple[Path, ...]

    @property
    def title(self) -> str:
        """Its name in progress lines and errors."""
        return f"{self.stage} {self.subset} seed {self.seed}"

    def checkpoints(self, restart: Path) -> Checkpoints:
        """Its restart checkpoints; how often they are written is not in their key."""
        settings = self.settings.model_dump(mode="json", exclude={"checkpoint_every"})
        return Checkpoints(run_folder(restart, [self.stage, self.subset, self.seed, settings], self.inputs))

    def train(
        self, engine: Engine, task: AnswerTask, schedule: Schedule, restart: Path, rate: float
    ) -> list[dict[str, Any]]:
        """`loop.train`, with this run's checkpoints."""
        every = self.settings.checkpoint_every
        return train(engine, task, schedule, self.checkpoints(restart), every, rate)

    def write_records(
        self, folder: Path, log: Sequence[dict[str, Any]], task: AnswerTask, parts: Mapping[str, nn.Module]
    ) -> None:
        """Write log.jsonl and training.json."""
        write_jsonl(folder / "log.jsonl", log)
        training = {
            "subset": self.subset,
            "seed": self.seed,
            "stage": self.stage,
            "steps": len(log),
            "samples": task.batches.samples,
            "final_loss": log[-1]["loss"],
            "seconds": log[-1]["seconds"],
            "peak_memory_mb": peak_memory_mb(),
            "parameters": {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
            "flops": count_flops(task),
            "versions": versions(),
            "threads": self.settings.threads,
        }
        write_json(folder / "training.json", training)
