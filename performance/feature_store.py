"""CPU seconds of the encoder features of all `align` runs: stored once per encoder, or computed per subset.

Run from the root: `python performance/feature_store.py`. Five encoders read the world's training pictures for
each of their 31 subsets. Stored: one pass of each encoder, written as `extract-features` writes it, and every
subset reads its encoders' files. Recomputed: every subset runs its encoders. Reading and framing pictures
counts in both. It is measured with the laptop study's encoders, which are so small that reading a picture's
features costs a tenth of computing them, and with five ViT-S/16 of 224 pixels with random weights, which read
a sixteenth of the pictures. Writes performance/results/feature_store.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from encoder_roles.data.features import extract_features, stream_features
from encoder_roles.data.llava import distinct_pictures
from encoder_roles.encoders.loading import load_encoder, read_spec
from encoder_roles.provenance import write_json
from encoder_roles.sources.stage_encoder import stage_encoder
from encoder_roles.study.config import Study, load_study
from encoder_roles.study.names import all_subsets
from encoder_roles.study.stages import stage_table
from encoder_roles.training.align import FeatureFile
from encoder_roles.world.build import make_world

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "performance/results/feature_store.json"
BATCH = 16  # pictures that a step of align reads


def vits(folder: Path) -> dict[str, dict[str, Any]]:
    """Five ViT-S/16 in CLIP's format, with random weights: the config's rows for them."""
    from transformers import CLIPVisionConfig, CLIPVisionModel

    shape = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6}
    rows = {}
    for seed, name in enumerate(load_study(ROOT / "config.yaml").pool):
        torch.manual_seed(seed)
        source = folder / f"sources/{name}"
        CLIPVisionModel(CLIPVisionConfig(**shape, image_size=224, patch_size=16)).save_pretrained(source)
        half = [0.5, 0.5, 0.5]
        rows[name] = {"library": "transformers", "source": str(source), "pixels": 224, "mean": half}
        rows[name] |= {"std": half, "layer": -1}
    return rows


def write_study(folder: Path, pictures: int, encoders: dict[str, dict[str, Any]]) -> Study:
    """Settings, training pictures and the staged encoders."""
    world = {"train_pictures": pictures, "probe_pictures": 16, "questions_per_benchmark": 2}
    changes: dict[str, Any] = {"world": world}
    if encoders:
        changes |= {"encoders": encoders, "connector": {"grid": 14}}
    study = load_study(ROOT / "config.yaml", changes=changes)
    for name, settings in stage_table(study).items():
        write_json(folder / f"settings/{name}.json", settings.model_dump(mode="json"))
    make_world(settings=folder / "settings/world.json", output=folder / "data")
    for name in study.pool:
        settings, source = folder / f"settings/encoder_{name}.json", ROOT / study.encoders[name].source
        stage_encoder(settings=settings, source=source, output=folder / f"encoders/{name}")
    return study


def stored(folder: Path, study: Study, data: Path) -> float:
    """CPU seconds of one pass of every encoder, and of reading the files for every subset."""
    started = time.process_time()
    files = {}
    for name in study.pool:
        settings, encoder = folder / "settings/features.json", folder / f"encoders/{name}"
        file = folder / f"features/{name}/train.safetensors"
        extract_features(settings=settings, encoder=encoder, data=data, output=file)
        files[name] = file
    names = list(distinct_pictures(data))
    for subset in all_subsets(study.pool):
        for name in subset.split("+"):
            width = sum(read_spec(folder / f"encoders/{name}")[1])
            features = FeatureFile(files[name], study.connector.grid, width)
            for start in range(0, len(names), BATCH):
                features.read(names[start : start + BATCH])
    return time.process_time() - started


def recomputed(folder: Path, study: Study, data: Path) -> float:
    """CPU seconds of every subset's passes through its encoders."""
    paths = [data.parent / name for name in distinct_pictures(data)]
    started = time.process_time()
    for subset in all_subsets(study.pool):
        encoders = {name: load_encoder(folder / f"encoders/{name}") for name in subset.split("+")}
        for _ in stream_features(encoders, paths, study.connector.grid):
            pass
    return time.process_time() - started


def measure(pictures: int, real: bool) -> dict[str, float]:
    """CPU seconds of both, and their ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = write_study(folder, pictures, vits(folder) if real else {})
        data = folder / "data/train/train.jsonl"
        with_store, without = stored(folder, study, data), recomputed(folder, study, data)
    return {
        "pictures": pictures,
        "stored_cpu_seconds": round(with_store, 2),
        "recomputed_cpu_seconds": round(without, 2),
        "recomputed_over_stored": round(without / with_store, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=256)
    pictures = parser.parse_args().pictures
    torch.set_num_threads(1)
    pool = load_study(ROOT / "config.yaml").pool
    subsets = [subset.split("+") for subset in all_subsets(pool)]
    measured = {
        "subsets": len(subsets),
        "fewer_passes": sum(map(len, subsets)) / len(pool),
        "laptop": measure(pictures, real=False),
        "vit_s": measure(max(1, pictures // 16), real=True),
    }
    write_json(RESULTS, measured)
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
