"""A whole tiny study on disk, for tests: encoders, language model, pictures, features, requests."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from tiny_encoders import stage, write_pool
from tiny_language_model import write_tiny_language_model

from encoder_roles.data.pictures import read_picture
from encoder_roles.encoders.loading import load_encoder, read_spec
from encoder_roles.models.grid import grid_features
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import MultiEncoderVLM
from encoder_roles.provenance import sha256_of, write_json, write_jsonl
from encoder_roles.study.sections import ConnectorSettings

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}
CONNECTOR = {"kind": "mlp", "layers": 2, "grid": 2}
ALIGN = {
    "connector": CONNECTOR,
    "threads": 1,
    "checkpoint_every": 4,
    "align": {
        "steps": 12,
        "batch_pictures": 8,
        "questions_per_picture": 2,
        "learning_rate": 1e-2,
        "warmup_fraction": 0.1,
        "weight_decay": 0.0,
        "clip_norm": 1.0,
    },
}
TUNE = {
    "connector": CONNECTOR,
    "threads": 1,
    "checkpoint_every": 4,
    "tune": {
        "epochs": 3,
        "batch_pictures": 8,
        "train_encoders": True,
        "questions_per_picture": 2,
        "learning_rates": {"connector": 1e-2, "language_model": 1e-2, "encoders": 1e-3},
        "warmup_fraction": 0.1,
        "weight_decay": 0.01,
        "clip_norm": 1.0,
    },
}


@dataclass(frozen=True)
class TinyStudy:
    """Where everything lies."""

    root: Path
    encoders: dict[str, Path]

    @property
    def language_model(self) -> Path:
        return self.root / "language_model"

    @property
    def data(self) -> Path:
        return self.root / "data/train/train.jsonl"

    @property
    def requests(self) -> Path:
        return self.root / "requests"

    def features(self, *encoders: str) -> tuple[Path, ...]:
        return tuple(self.root / "features" / encoder / "train.safetensors" for encoder in encoders)

    def settings(self, name: str, value: object) -> Path:
        write_json(self.root / "settings" / f"{name}.json", value)
        return self.root / "settings" / f"{name}.json"


def write_pictures(folder: Path, count: int) -> list[tuple[str, str]]:
    """Plain squares of one colour each with noise; (file name, colour)."""
    random, drawn = np.random.default_rng(0), []
    folder.mkdir(parents=True)
    for number in range(count):
        colour = list(COLOURS)[number % len(COLOURS)]
        pixels = np.clip(np.array(COLOURS[colour]) + random.integers(-20, 20, (32, 32, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
        drawn.append((f"{number}.png", colour))
    return drawn


def write_data(folder: Path, count: int) -> None:
    """train.jsonl: a caption and three questions a picture."""
    rows = []
    for name, colour in write_pictures(folder / "pictures", count):
        pairs = [("what colour ?", colour), ("is the circle red ?", "yes" if colour == "red" else "no")]
        pairs += [
            ("is the circle blue ?", "yes" if colour == "blue" else "no"),
            ("what is the circle ?", colour),
        ]
        ids = [f"{name}-{number}" for number in range(3)] + [f"{name}-caption"]
        for id, (question, answer) in zip(ids, pairs, strict=True):
            turns = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
            rows.append({"id": id, "image": f"pictures/{name}", "conversations": turns})
    write_jsonl(folder / "train.jsonl", rows)


def write_model(study: TinyStudy, subset: str, folder: Path) -> Path:
    """An untrained model, saved as train-tune saves it: it babbles, which no batching may change."""
    names = [] if subset == "blind" else subset.split("+")
    connector = ConnectorSettings.model_validate(TUNE["connector"])
    encoders = {name: study.encoders[name] for name in names}
    model = MultiEncoderVLM.from_sources(encoders, study.language_model, connector, 0)
    with torch.no_grad():
        for parameter in model.language_model.parameters():
            parameter.mul_(3)  # answers that depend on the picture and do not all run to the limit
    model.save_pretrained(folder)
    load_tokenizer(study.language_model).save_pretrained(folder)
    write_json(folder / "training.json", {"subset": subset, "seed": 0})
    return folder


def write_features(study: TinyStudy, name: str, count: int) -> None:
    """Pre-projector features of the training pictures, as extract_features writes them."""
    encoder = load_encoder(study.encoders[name])
    names = [f"pictures/{number}.png" for number in range(count)]
    pictures = torch.stack([read_picture(study.data.parent / picture) for picture in names])
    with torch.no_grad():
        features = grid_features(encoder, encoder.preprocess(pictures), CONNECTOR["grid"])
    (file,) = study.features(name)
    file.parent.mkdir(parents=True)
    save_file({"features": features}, file, {"pictures": json.dumps(names)})


def write_requests(folder: Path) -> None:
    """Two benchmarks; the second asks without, with one and with two pictures."""
    pictures = [name for name, _ in write_pictures(folder / "images", 12)]
    rows = {
        "mme": [([pictures[n]], f"is the circle {c} ?") for n in range(12) for c in ("red", "blue")],
        "mmmu": [
            ([pictures[n] for n in shown], "what colour is <image> the circle")
            for shown in ((), (3,), (3, 5))
        ],
    }
    manifest = {}
    for benchmark, questions in rows.items():
        write_jsonl(
            folder / f"{benchmark}.jsonl",
            (
                {
                    "id": str(n),
                    "cluster": f"c{n}",
                    "prompt": prompt,
                    "images": [f"images/{name}" for name in images],
                    "max_new_tokens": 5,
                }
                for n, (images, prompt) in enumerate(questions)
            ),
        )
        manifest[benchmark] = {"n": len(questions), "sha256": sha256_of(folder / f"{benchmark}.jsonl")}
    write_json(folder / "manifest.json", manifest)


def write_tiny_study(
    root: Path,
    names: tuple[str, ...] = ("clip", "sam"),
    count: int = 24,
    layer: int | tuple[int, ...] = -1,
) -> TinyStudy:
    """Everything a model of the tiny pool needs; encoders give these layers."""
    study = TinyStudy(root, write_pool(root / "encoders", names))
    for folder in study.encoders.values():
        stage(folder, read_spec(folder)[0].model_copy(update={"layer": layer}))
    write_tiny_language_model(study.language_model)
    write_data(study.data.parent, count)
    for name in names:
        write_features(study, name, count)
    write_requests(study.requests)
    return study
