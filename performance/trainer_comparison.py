"""CPU seconds per question of a laptop tune step, and of a plain Hugging Face `Trainer` on the same data.

Run from the root: `python performance/trainer_comparison.py OUTPUT`. Both
train the same networks (the laptop study's CLIP, connector and language model, with random weights) on the
same questions about the same pictures: eight pictures a step, each with four questions, pictures in memory.
The `Trainer` has a collator that pads; each question is an example with its own picture, as in LLaVA's
training. The two take turns, so that the ratio is of one machine in one state. One thread, fp32.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # must come before transformers
import numpy as np
import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments

from encoder_roles.data.prompts import IGNORED, Prompt
from encoder_roles.models.vlm import MultiEncoderConfig, MultiEncoderVLM
from encoder_roles.provenance import write_json
from encoder_roles.study.sections import EngineSettings
from encoder_roles.training.batches import Batches, PicturePrompts
from encoder_roles.training.distributed import ProcessRank
from encoder_roles.training.engine import Part, TorchEngine
from encoder_roles.training.loop import compute_gradient
from encoder_roles.training.stages import prepare
from encoder_roles.training.step import AnswerModel, AnswerTask
from encoder_roles.training.tune import model_parts

SOURCES = Path(__file__).parents[1] / "sources/laptop"
PIXELS, GRID, BATCH, QUESTIONS = 48, 4, 8, 4
LENGTHS = (
    8,
    8,
    8,
    12,
    12,
    12,
    16,
    16,
    16,
    16,
    20,
    20,
    20,
    20,
    20,
    24,
    24,
    28,
    36,
    48,
)  # as in the world, rounded up
RATE, WARM_UP = 1e-4, 3  # steps before the first that counts


def build_model() -> MultiEncoderVLM:
    """The laptop study's CLIP before its language model."""
    spec = {"library": "transformers", "source": "random", "pixels": PIXELS}
    spec |= {"mean": [0.5] * 3, "std": [0.5] * 3}
    clip = json.loads((SOURCES / "encoders/clip/config.json").read_text(encoding="utf-8"))
    language_model = json.loads((SOURCES / "language_model/config.json").read_text(encoding="utf-8"))
    torch.manual_seed(0)
    return MultiEncoderVLM(
        MultiEncoderConfig(
            [{"name": "clip", "spec": spec, "library_config": clip}],
            {"kind": "mlp", "layers": 2, "grid": GRID},
            language_model,
        )
    ).train()


class RandomQuestions:
    """Pictures, each with four questions of random tokens, the last three of which are learnt."""

    def __init__(self, vocabulary: int, pictures: int) -> None:
        random = np.random.default_rng(0)

        def prompt() -> Prompt:
            ids = tuple(int(n) for n in random.integers(5, vocabulary, random.choice(LENGTHS)))
            return Prompt(((1,),), ids, (IGNORED,) * (len(ids) - 3) + ids[-3:])

        self.rows = [
            PicturePrompts((str(number),), (), tuple(prompt() for _ in range(QUESTIONS)))
            for number in range(pictures)
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> PicturePrompts:
        return self.rows[place]

    def lengths(self) -> np.ndarray:
        return np.ones(len(self), dtype=np.int64)


class KeptPictures:
    """Visual tokens of pictures that are in memory (`training.step.Visual`)."""

    def __init__(self, model: MultiEncoderVLM, pictures: Tensor) -> None:
        self.model, self.pictures = model, pictures

    def begin(self, pictures: Iterable[str]) -> None:
        """Nothing is read."""

    def __call__(self, pictures: Sequence[str]) -> Tensor:
        """Visual tokens (pictures, visual tokens, hidden)."""
        features = self.model.features([self.pictures[int(picture)] for picture in pictures])
        return self.model.visual_tokens(features)


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


def collate(examples: Sequence[tuple[Tensor, Prompt]]) -> dict[str, Tensor]:
    """Pad to the longest example."""
    before = 1 + GRID**2
    longest = before + max(len(prompt.body) for _, prompt in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, (_, prompt) in enumerate(examples):
        end = before + len(prompt.body)
        ids[row, 0], ids[row, before:end] = prompt.prefix[0][0], torch.tensor(prompt.body)
        mask[row, :end], labels[row, before:end] = 1, torch.tensor(prompt.labels)
    pictures = torch.stack([picture for picture, _ in examples])
    return {"pictures": pictures, "input_ids": ids, "attention_mask": mask, "labels": labels}


class Clock(TrainerCallback):
    """CPU seconds of every step of a `Trainer`."""

    def __init__(self) -> None:
        self.times = [time.process_time()]

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.times.append(time.process_time())


def plain_seconds(questions: RandomQuestions, pictures: Tensor, steps: int) -> list[float]:
    """CPU seconds of every step of a plain `Trainer`."""
    examples = [(pictures[n], prompt) for n, row in enumerate(questions.rows) for prompt in row.questions]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            per_device_train_batch_size=BATCH * QUESTIONS,
            max_steps=steps + WARM_UP,
            learning_rate=RATE,
            max_grad_norm=1.0,
            remove_unused_columns=False,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        model = PlainModel(build_model())
        Trainer(model, arguments, collate, train_dataset=examples, callbacks=[clock]).train()
    return list(np.diff(clock.times))[WARM_UP:]


def steps_here(questions: RandomQuestions, pictures: Tensor, steps: int) -> Iterator[float]:
    """CPU seconds of every step of the engine of this package."""
    model = build_model()
    parts = model_parts(model)
    prepare(parts, EngineSettings())
    visual = KeptPictures(model, pictures)
    trained = {name: Part(part, RATE) for name, part in parts.items()}
    engine = TorchEngine(AnswerModel(parts, visual), trained, 0.0, 1.0)
    batches = Batches(
        questions,
        samples=(steps + WARM_UP) * BATCH,
        batch_pictures=BATCH,
        questions=QUESTIONS,
        seed=0,
        stage="tune",
    )
    task = AnswerTask("comparison", batches, GRID**2, 1, ProcessRank(), visual)
    for step in range(steps + WARM_UP):
        started = time.process_time()
        compute_gradient(engine, task, step)
        engine.step(1.0)
        if step >= WARM_UP:
            yield time.process_time() - started


def measure(rounds: int, steps: int) -> dict[str, float]:
    """Median CPU seconds per question of both, and their ratio."""
    torch.set_num_threads(1)
    vocabulary = build_model().language_model.config.vocab_size
    questions = RandomQuestions(vocabulary, 16 * BATCH)
    random = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (len(questions), 3, PIXELS, PIXELS), dtype=torch.uint8, generator=random)
    here: list[float] = []
    plain: list[float] = []
    for _ in range(rounds):
        plain += plain_seconds(questions, pictures, steps)
        here += steps_here(questions, pictures, steps)
    each = [statistics.median(seconds) / (BATCH * QUESTIONS) for seconds in (here, plain)]
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
