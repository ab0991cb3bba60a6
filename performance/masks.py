"""CPU seconds of answers under many masks in one process, against a process for every mask.

Run from the root: `python performance/masks.py`. The model is the laptop study's, with a connector that is
not trained; it answers the procedural world's questions (`--questions` per benchmark). One process answers
under one mask, another under `--masks`; the difference is what a further mask costs. From both follow the 62
masks of the study: two processes, one for each operator, against 62. Tokens computed are counted where they
enter the language model, and compared with those of each distinct prefix, question and answer once.
Writes performance/results/masks.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from encoder_roles.evaluation.predict import TrainedModel
from encoder_roles.evaluation.requests import write_requests
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import MultiEncoderVLM
from encoder_roles.provenance import write_json
from encoder_roles.sources.stage_encoder import stage_encoder
from encoder_roles.sources.stage_language_model import stage_language_model
from encoder_roles.study.config import Study, load_study
from encoder_roles.study.stages import PredictStage, read_settings, stage_table
from encoder_roles.world.build import make_world

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "performance/results/masks.json"
OPERATORS, MASKS = 2, 62  # of the laptop study


def write_study(folder: Path, questions: int) -> Study:
    """Settings, requests and an untrained model of the full pool."""
    world = {"train_pictures": 16, "probe_pictures": 16, "questions_per_benchmark": questions}
    study = load_study(ROOT / "config.yaml", changes={"world": world})
    for name, settings in stage_table(study).items():
        write_json(folder / f"settings/{name}.json", settings.model_dump(mode="json"))
    make_world(settings=folder / "settings/world.json", output=folder / "data")
    write_requests(
        settings=folder / "settings/requests.json", data=folder / "data", output=folder / "requests"
    )
    for name in study.pool:
        settings, source = folder / f"settings/encoder_{name}.json", ROOT / study.encoders[name].source
        stage_encoder(settings=settings, source=source, output=folder / f"encoders/{name}")
    language_model = folder / "language_model"
    settings, source = folder / "settings/language_model.json", ROOT / study.language_model.source
    stage_language_model(settings=settings, source=source, output=language_model)
    encoders = {name: folder / f"encoders/{name}" for name in study.pool}
    model = MultiEncoderVLM.from_sources(encoders, language_model, study.connector, 0)
    model.save_pretrained(folder / "model")
    load_tokenizer(language_model).save_pretrained(folder / "model")
    write_json(folder / "model/training.json", {"subset": study.full, "seed": 0})
    return study


def cpu_seconds(folder: Path, masks: list[str]) -> float:
    """CPU seconds of a process that answers under these masks."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [str(Path(sys.executable).parent / "encoder-roles"), "predict-masks", "--operator", "zero"]
    command += ["--settings", str(folder / "settings/masks.json"), "--requests", str(folder / "requests")]
    command += ["--model", str(folder / "model"), "--data", str(folder / "data/train/train.jsonl")]
    command += ["--output-root", str(folder / f"predictions{len(masks)}"), "--masks", *masks]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def token_ratio(folder: Path) -> float:
    """Tokens computed by the language model over tokens needed, of all answers without a mask."""
    stage = read_settings(folder / "settings/predict.json", PredictStage)
    trained, computed = TrainedModel(folder / "model", folder / "requests", stage), 0

    def count(_module: object, _args: object, given: dict[str, Any]) -> None:
        nonlocal computed
        rows, tokens, _ = given["inputs_embeds"].shape
        computed += rows * tokens

    trained.model.language_model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    (answers,) = trained.answer([lambda inputs: inputs])
    questions, visual = trained.request_set.questions, trained.model.tokens_per_picture
    prefixes = {(q.prompt.prefix, q.pictures): q.tokens(visual) - len(q.prompt.body) for q in questions}
    needed = sum(prefixes.values()) + sum(len(q.prompt.body) for q in questions)
    for question, text in zip(questions, answers.texts, strict=True):
        written = len(trained.tokenizer.encode(text, add_special_tokens=False))
        needed += min(written, question.max_new_tokens - 1)  # the last token allowed is not read again
    return computed / needed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--masks", type=int, default=9)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        masks = list(write_study(folder, chosen.questions).masks_of_full)[: chosen.masks]
        alone, together = cpu_seconds(folder, masks[:1]), cpu_seconds(folder, masks)
        ratio = token_ratio(folder)
        a_mask = (together - alone) / (len(masks) - 1)
        separate, shared = MASKS * alone, OPERATORS * alone + (MASKS - OPERATORS) * a_mask
        measured = {
            "questions": sum(
                len(file.read_text().splitlines()) for file in (folder / "requests").glob("*.jsonl")
            ),
            "cpu_seconds_of_one_mask_alone": round(alone, 2),
            "cpu_seconds_of_a_further_mask": round(a_mask, 2),
            "separate_over_shared": round(separate / shared, 2),
            "tokens_computed_over_needed": round(ratio, 3),
        }
    write_json(RESULTS, measured)
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
