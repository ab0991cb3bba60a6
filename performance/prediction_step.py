"""Answers in bf16 against answers in fp32, by one model of real size: questions a second, peak memory.

Run from the root, on a GPU: `python performance/prediction_step.py --size real`. The model is saved
once and loaded as prediction jobs load it, at each precision; pictures are encoded, projected and asked about
as there, and every answer has ANSWER tokens. `--size tiny` runs anywhere (a CPU is slower in bf16). Weights
and pictures are random: only shapes matter. Prints JSON; `bf16_over_fp32` holds the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import sys
import tempfile
import time
from pathlib import Path

import torch
from training_step import SIZES, TEXT, build_model, synchronise

from encoder_roles.data.prompts import IGNORED, Prompt
from encoder_roles.encoders.compute import choose_device, device_name, peak_memory_mb
from encoder_roles.evaluation.decoding import Question, answer
from encoder_roles.evaluation.predict import join, pixel_inputs, project
from encoder_roles.models.vlm import MultiEncoderVLM, load_vlm

ANSWER = 5  # tokens of an answer
ASKED = 2  # questions about a picture
NEVER = -1  # no token's id: no answer ends early
PRECISIONS = ("bf16", "fp32")  # the smaller first: resident memory, which a CPU's peak is of, only grows


def ask(model: MultiEncoderVLM, size: str, pictures: int, batch: int) -> int:
    """Encode random pictures and answer questions about them; how many."""
    side, vocabulary = SIZES[size]["pixels"], SIZES[size]["language_model"]["vocab_size"]
    random = torch.Generator().manual_seed(0)
    shown = list(torch.randint(256, (pictures, 3, side, side), generator=random, dtype=torch.uint8))
    visual = project(model, join(pixel_inputs(model, shown)), pictures)
    bodies = torch.randint(vocabulary, (ASKED * pictures, TEXT), generator=random).tolist()
    prompts = [Prompt(((1, 2, 3),), tuple(body), (IGNORED,) * TEXT) for body in bodies]
    questions = [Question(prompt, (place // ASKED,), ANSWER) for place, prompt in enumerate(prompts)]
    answers = answer(
        model.language_model, questions, visual, NEVER, batch * questions[0].tokens(visual.shape[1])
    )
    return sum(len(ids) == ANSWER for ids in answers)


def measure(folder: Path, size: str, precision: str, pictures: int, batch: int) -> dict[str, float]:
    """Questions a second and the most memory used, after a first pass that warms up."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    model = load_vlm(folder, precision, choose_device())
    ask(model, size, 1, batch)
    synchronise()
    started = time.perf_counter()
    answered = ask(model, size, pictures, batch)
    synchronise()
    seconds = time.perf_counter() - started
    weights = sum(weight.nbytes for weight in model.parameters()) / 2**20
    return {
        "questions_per_second": answered / seconds,
        "peak_memory_mb": peak_memory_mb(),
        "weights_mb": weights,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=list(SIZES), default="real")
    parser.add_argument("--pictures", type=int, default=256)
    parser.add_argument("--batch", type=int, default=128)
    chosen = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stdout(sys.stderr):  # DeepSpeed speaks there, which transformers imports
            build_model(chosen.size).save_pretrained(folder)
        for precision in PRECISIONS:
            gc.collect()
            found[precision] = measure(Path(folder), chosen.size, precision, chosen.pictures, chosen.batch)
    ratios = {key: value / found["fp32"][key] for key, value in found["bf16"].items()}
    row = {"device": device_name(choose_device()), **vars(chosen), **found, "bf16_over_fp32": ratios}
    print(json.dumps(row, indent=2))


if __name__ == "__main__":
    main()
