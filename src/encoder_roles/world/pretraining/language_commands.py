"""Commands that pretrain the laptop study's language model and measure its gates on text alone."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

import encoder_roles.encoders._torchvision  # noqa: F401  # before transformers' models

# isort: split

from scipy.stats import binomtest
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.provenance import atomic_folder, sha256_of, write_rows, write_text
from encoder_roles.study.names import BENCHMARKS, StudyError
from encoder_roles.world.captions import caption
from encoder_roles.world.gates import COLUMNS as GATE_COLUMNS
from encoder_roles.world.pretraining.language_model import (
    ANSWER,
    BOS,
    EOS,
    LOG_EVERY,
    POOL_SCENES,
    PRACTICE_STEPS,
    QUESTIONS_PER_SCENE,
    SCENES_PER_STEP,
    STEPS,
    Row,
    answer_logits,
    build_tokenizer,
    encoder_of,
    pack,
    pretrain,
)
from encoder_roles.world.questions import benchmark_questions

THRESHOLD = 95.0  # percent of questions answered correctly when the caption replaces the picture
GATE_QUESTIONS = 500  # per format, minimum
GATE_BATCH = 48
LEVEL = 0.95  # of the intervals
SUMS = "SHA256SUMS"


def pretrain_language_model(
    *,
    output: Path,
    steps: int = STEPS,
    practice_steps: int = PRACTICE_STEPS,
    seed: int = 0,
    snapshots: Path | None = None,
    snapshot_every: int = 5000,
) -> None:
    """Pretrain the language model on text; write it, its gates and its model card into `output`.

    The first `steps` draw all formats equally. The `practice_steps` after them draw mostly the formats that
    the model still answers wrongly. With `snapshots`, the unfinished model is saved there every
    `snapshot_every` steps.
    """
    torch.set_num_threads(1)
    tokenizer = build_tokenizer()
    begin = time.perf_counter()
    losses: list[float] = []

    def report(step: int, loss: float, model: Qwen2ForCausalLM) -> None:
        losses.append(loss)
        if (step + 1) % LOG_EVERY == 0:
            seconds, recent = time.perf_counter() - begin, np.mean(losses[-LOG_EVERY:])
            print(f"step {step + 1}/{steps + practice_steps} loss {recent:.4f} {seconds:.0f} s", flush=True)
        if snapshots and (step + 1) % snapshot_every == 0:
            save(model, tokenizer, snapshots / f"step{step + 1:06d}")

    model = pretrain(tokenizer, steps, practice_steps, seed, report)
    seconds = time.perf_counter() - begin
    rows = measure_gates(model, tokenizer, seed)
    with atomic_folder(output) as folder:
        save(model, tokenizer, folder)
        write_rows(folder / "gates.csv", GATE_COLUMNS, rows)
        sums = "".join(f"{sha256_of(f)}  {f.name}\n" for f in sorted(folder.iterdir()))
        write_text(folder / SUMS, sums)
        loss = float(np.mean(losses[-LOG_EVERY:]))
        card = model_card(model, steps, practice_steps, seed, seconds, loss, rows)
        write_text(folder / "README.md", card)


def gate_language_model(*, language_model: Path, output: Path, seed: int = 0) -> None:
    """Measure the gates of the language model in a folder and write the table to `output`."""
    torch.set_num_threads(1)
    if not (language_model / "model.safetensors").is_file():
        raise StudyError(f"{language_model}: no model.safetensors; make it with pretrain-language-model")
    model = Qwen2ForCausalLM.from_pretrained(language_model, trust_remote_code=False, use_safetensors=True)
    tokenizer = load_tokenizer(language_model)
    write_rows(output, GATE_COLUMNS, measure_gates(model, tokenizer, seed))


def save(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Save model (safetensors) and tokenizer in the format of transformers."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def measure_gates(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int
) -> list[dict[str, object]]:
    """Text-only accuracy on development scenes, per format of the sixteen and per number of things."""
    by_gate: dict[str, list[bool]] = {}
    by_things: dict[str, list[bool]] = {}
    for benchmark in BENCHMARKS:
        for things, right in grade(model, tokenizer, benchmark, seed):
            by_gate.setdefault(f"text accuracy {benchmark}", []).append(right)
            if things:
                by_things.setdefault(f"text accuracy with {things} thing{'s' * (things > 1)}", []).append(
                    right
                )
    return [gate_row(gate, answers) for gate, answers in (*by_gate.items(), *sorted(by_things.items()))]


@torch.inference_mode()
def grade(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, benchmark: str, seed: int
) -> list[tuple[int, bool]]:
    """Per development question: (things in an objects scene or 0, whether the greedy answer is right).

    Greedy decoding gives the answer exactly if each of its tokens, including the end, is the most likely one
    after the tokens before it. One forward pass decides that.
    """
    encode = encoder_of(tokenizer)
    rng = np.random.default_rng((seed, BENCHMARKS.index(benchmark), 2))
    scenes, questions = benchmark_questions(benchmark, seed, "development", GATE_QUESTIONS)
    scene_of = {scene.id: scene for scene in scenes}
    graded: list[tuple[int, bool]] = []
    for begin in range(0, len(questions), GATE_BATCH):
        batch = questions[begin : begin + GATE_BATCH]
        segments = [(encode(q.prompt) + encode(ANSWER), encode(q.answer) + encode(EOS)) for q in batch]
        batch_scenes = [scene_of[question.scene] for question in batch]
        rows = [
            Row(encode(BOS) + encode(caption(scene, rng)), (segment,))
            for scene, segment in zip(batch_scenes, segments, strict=True)
        ]
        logits, targets = answer_logits(model, pack(rows))
        right = (logits.argmax(-1) == targets).split([len(answer) for _, answer in segments])
        for scene, tokens in zip(batch_scenes, right, strict=True):
            graded.append((len(scene.things) if scene.kind == "objects" else 0, bool(tokens.all())))
    return graded


def gate_row(gate: str, answers: list[bool]) -> dict[str, object]:
    """A row of gates.csv: the share of right answers in percent, with its Wilson interval."""
    right, n = sum(answers), len(answers)
    value = 100 * right / n
    interval = binomtest(right, n).proportion_ci(confidence_level=LEVEL, method="wilson")
    low, high = 100 * interval.low, 100 * interval.high
    numbers = {"value": f"{value:.2f}", "low": f"{low:.2f}", "high": f"{high:.2f}", "n": n}
    passed = str(value >= THRESHOLD).lower()
    return {"source": "language_model", "gate": gate, **numbers, "threshold": THRESHOLD, "passed": passed}


def model_card(
    model: Qwen2ForCausalLM,
    steps: int,
    practice_steps: int,
    seed: int,
    seconds: float,
    loss: float,
    rows: list[dict[str, object]],
) -> str:
    """The README of the folder: what the model is, how it was made, and the gates it reached."""
    config = model.config
    table = "\n".join(
        f"| {r['gate']} | {r['value']} | {r['low']}–{r['high']} | {r['n']} | {r['passed']} |" for r in rows
    )
    return f"""# The laptop study's language model

A Qwen2 of {sum(p.numel() for p in model.parameters()):,} parameters ({config.num_hidden_layers} layers, width
{config.hidden_size}, {config.num_attention_heads} heads, tied embeddings) with a word-level tokenizer of
{config.vocab_size} tokens, pretrained on text alone by `encoder-roles pretrain-language-model --steps {steps}
--practice-steps {practice_steps} --seed {seed}`.

- Objective: next token, on answers only. A caption with its phrases in random order stands where the picture
  will be; behind it independent segments: {QUESTIONS_PER_SCENE} questions in the formats of the sixteen
  benchmarks, one that writes the caption again in another order, one that binds random words to letters.
- Data: questions and captions drawn anew about {POOL_SCENES:,} training scenes of the procedural world,
  {SCENES_PER_STEP} scenes a step. No picture, and no scene of another split.
- Training: {steps:,} steps, then {practice_steps:,} of practice, which asks most in the formats that the
  model still answers wrongly; {seconds:.0f} seconds on one thread, seed {seed}, mean loss of the last
  {LOG_EVERY} steps {loss:.4f}. Muon for the matrices of the layers, AdamW for all else. The same command
  gives the same weights on the same machine.
- Tokenizer: every instruction of lmms-eval is one token, articles and marks are dropped, and the letter of an
  option is the token of the answer. Use it for the procedural world only.

## Gates

Greedy text-only accuracy in percent on development scenes, the caption in the picture's place; threshold
{THRESHOLD:.0f}, Wilson {LEVEL:.0%} intervals.

| gate | accuracy | interval | n | passed |
| --- | --- | --- | --- | --- |
{table}
"""
