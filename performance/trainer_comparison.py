"""CPU seconds per question of a laptop tune step, and of a plain Hugging Face `Trainer` on the same data.

Run from the root: `python performance/trainer_comparison.py OUTPUT`. Both train the same networks (the laptop
study's CLIP, connector and language model, with random weights) on pictures of the procedural world, with the
batch and the questions of config.yaml's recipe; pictures are in memory. The `Trainer` has a collator that
pads; each question is an example with its own picture, as in LLaVA's training. The two take turns, so that
the ratio is of one machine in one state. One thread, fp32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # must come before transformers
import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from encoder_roles.data.pictures import read_picture
from encoder_roles.data.prompts import IGNORED, Prompt, PromptRenderer
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import MultiEncoderConfig, MultiEncoderVLM
from encoder_roles.provenance import write_json
from encoder_roles.study.config import Study, load_study
from encoder_roles.study.stages import stage_table
from encoder_roles.training.batches import Batches, TrainingData
from encoder_roles.training.distributed import ProcessRank
from encoder_roles.training.engine import Part, TorchEngine
from encoder_roles.training.loop import compute_gradient
from encoder_roles.training.stages import prepare
from encoder_roles.training.step import AnswerModel, AnswerTask
from encoder_roles.training.tune import model_parts
from encoder_roles.world.build import make_world

ROOT = Path(__file__).parents[1]
LONGEST = 512  # tokens of a conversation: more than any has
PICTURES = 480  # of the world
RATE, WARM_UP = 1e-4, 3  # steps before the first that counts

Pictures = Mapping[str, Tensor]  # name -> uint8 (3, H, W)


def build_model(study: Study) -> MultiEncoderVLM:
    """The laptop study's CLIP before its language model."""
    spec = study.encoders["clip"]
    clip, language_model = (
        json.loads((ROOT / source / "config.json").read_text(encoding="utf-8"))
        for source in (spec.source, study.language_model.source)
    )
    encoder = {"name": "clip", "spec": spec.model_dump(mode="json"), "library_config": clip}
    torch.manual_seed(0)
    config = MultiEncoderConfig([encoder], study.connector.model_dump(mode="json"), language_model)
    return MultiEncoderVLM(config).train()


def make_data(study: Study, folder: Path) -> tuple[TrainingData, Pictures]:
    """Training records of the world, and their pictures."""
    settings = folder / "world.json"
    write_json(settings, stage_table(study)["world"].model_dump(mode="json"))
    make_world(settings=settings, output=folder / "data")
    file = folder / "data/train/train.jsonl"
    renderer = PromptRenderer(load_tokenizer(ROOT / study.language_model.source))
    data = TrainingData(file, renderer, LONGEST, study.connector.grid**2)
    names = sorted({name for row in range(len(data)) for name in data[row].pictures})
    return data, {name: read_picture(file.parent / name) for name in names}


def make_batches(study: Study, data: TrainingData, steps: int) -> Batches:
    """The recipe's batches."""
    tune = study.training.tune
    return Batches(
        data,
        samples=steps * tune.batch_pictures,
        batch_pictures=tune.batch_pictures,
        questions=tune.questions_per_picture,
        seed=0,
        stage="tune",
    )


class KeptPictures:
    """Visual tokens of pictures that are in memory (`training.step.Visual`)."""

    def __init__(self, model: MultiEncoderVLM, pictures: Pictures) -> None:
        self.model, self.pictures = model, pictures

    def begin(self, pictures: Iterable[str]) -> None:
        """Nothing is read."""

    def __call__(self, pictures: Sequence[str]) -> Tensor:
        """Visual tokens (pictures, visual tokens, hidden)."""
        return self.model.visual_tokens(self.model.features([self.pictures[name] for name in pictures]))


class PlainModel(nn.Module):
    """The same model as a `Trainer` calls it: padded rows, one picture each, the library's attention."""

    def __init__(self, model: MultiEncoderVLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, pictures: Tensor, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Any:
        """The language model's output with its loss; visual tokens follow the first token."""
        visual = self.model.visual_tokens(self.model.features(list(pictures)))
        language_model = self.model.language_model
        embeddings = language_model.get_input_embeddings()(input_ids)
        embeddings = torch.cat([embeddings[:, :1], visual, embeddings[:, 1 + visual.shape[1] :]], dim=1)
        return language_model(inputs_embeds=embeddings, attention_mask=attention_mask, labels=labels)


def collate(examples: Sequence[tuple[Tensor, Prompt]], visual_tokens: int) -> dict[str, Tensor]:
    """Pad to the longest example. The first token stands before the picture."""
    before = 1 + visual_tokens
    longest = before + max(len(prompt.body) for _, prompt in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, (_, prompt) in enumerate(examples):
        ((ids[row, 0],),) = prompt.prefix
        end = before + len(prompt.body)
        ids[row, before:end] = torch.tensor(prompt.body)
        mask[row, :end], labels[row, before:end] = 1, torch.tensor(prompt.labels)
    pictures = torch.stack([picture for picture, _ in examples])
    return {"pictures": pictures, "input_ids": ids, "attention_mask": mask, "labels": labels}


class Clock(TrainerCallback):
    """CPU seconds of every step of a `Trainer`."""

    def __init__(self) -> None:
        self.times = [time.process_time()]

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.process_time())


def plain_seconds(study: Study, batches: Batches, pictures: Pictures) -> list[float]:
    """CPU seconds per question of every step of a plain `Trainer`, whose batches have as many questions."""
    samples = [sample for step in range(len(batches)) for sample in batches[step]]
    examples = [(pictures[sample.pictures[0]], prompt) for sample in samples for prompt in sample.questions]
    batch, clock = len(examples) // len(batches), Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=batch,
            max_steps=len(batches),
            learning_rate=RATE,
            max_grad_norm=1.0,
            remove_unused_columns=False,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        model = PlainModel(build_model(study))
        collator = partial(collate, visual_tokens=model.model.tokens_per_picture)
        Trainer(model, arguments, collator, train_dataset=examples, callbacks=[clock]).train()
    return [seconds / batch for seconds in list(np.diff(clock.times))[WARM_UP:]]


def seconds_here(study: Study, batches: Batches, pictures: Pictures) -> Iterator[float]:
    """CPU seconds per question of every step of the engine of this package."""
    model = build_model(study)
    parts = model_parts(model)
    prepare(parts, study.training.engine)
    visual = KeptPictures(model, pictures)
    trained = {name: Part(part, RATE) for name, part in parts.items()}
    engine = TorchEngine(AnswerModel(parts, visual), trained, 0.0, 1.0)
    task = AnswerTask("comparison", batches, model.tokens_per_picture, 1, ProcessRank(), visual)
    for step in range(len(batches)):
        started = time.process_time()
        compute_gradient(engine, task, step)
        engine.step(1.0)
        if step >= WARM_UP:
            questions = sum(len(sample.questions) for sample in batches[step])
            yield (time.process_time() - started) / questions


def measure(rounds: int, steps: int) -> dict[str, float]:
    """Median CPU seconds per question of both, and their ratio."""
    torch.set_num_threads(1)
    world = {"train_pictures": PICTURES, "probe_pictures": 16, "questions_per_benchmark": 20}
    study = load_study(ROOT / "config.yaml", changes={"world": world})
    here: list[float] = []
    plain: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        data, pictures = make_data(study, Path(folder))
        batches = make_batches(study, data, steps + WARM_UP)
        for _ in range(rounds):
            plain += plain_seconds(study, batches, pictures)
            here += seconds_here(study, batches, pictures)
    each = [statistics.median(seconds) for seconds in (here, plain)]
    return {
        "steps": rounds * steps,
        "cpu_milliseconds_a_question": round(1000 * each[0], 2),
        "trainer_cpu_milliseconds_a_question": round(1000 * each[1], 2),
        "ratio": round(each[1] / each[0], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=12)
    chosen = parser.parse_args()
    row = measure(chosen.rounds, chosen.steps)
    write_json(chosen.output, row)
    print(json.dumps(row, indent=2))


if __name__ == "__main__":
    main()
