"""How long a training step waits for its pictures: read ahead, against read when they are asked for.

Run from the root: `python performance/picture_reading.py performance/results/picture_reading.json`.
Random photographs of 640 x 480 in JPEG are framed as the encoders of studies/cambrian.yaml want them, those
of one rank's step at a time. The device is a sleep that takes a fifth longer than reading on all cores: the
case in which reading ahead gains most. A slower or a faster device gains less.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from encoder_roles.data.pictures import PictureReader
from encoder_roles.encoders.framing import Frame
from encoder_roles.planning.sizes import meta_encoder
from encoder_roles.provenance import write_json
from encoder_roles.study.config import load_study

ROOT = Path(__file__).resolve().parents[1]
PICTURES = 16  # of a step
STEPS = 5


def write_photographs(folder: Path) -> list[list[Path]]:
    """The files of every step."""
    random, steps = np.random.default_rng(0), []
    for step in range(STEPS):
        steps.append([folder / f"{step}.{number}.jpg" for number in range(PICTURES)])
        for path in steps[-1]:
            coarse = Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8))
            coarse.resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)
    return steps


def seconds_to_read(frames: set[Frame], paths: list[Path], threads: int) -> float:
    """Seconds in which pictures are read by so many threads."""
    torch.set_num_threads(threads)
    reader, started = PictureReader(frames), time.perf_counter()
    reader.read(paths)
    return time.perf_counter() - started


def seconds_a_step(frames: set[Frame], steps: list[list[Path]], device: float, ahead: bool) -> float:
    """Mean seconds of a step, the first aside, for which nothing could be read before."""
    reader, started = PictureReader(frames), 0.0
    for number, paths in enumerate(steps):
        if number == 1:
            started = time.perf_counter()
        reader.read(paths)
        if ahead:
            reader.begin(steps[number + 1] if number + 1 < len(steps) else [])
        time.sleep(device)
    return (time.perf_counter() - started) / (len(steps) - 1)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    study, cores = load_study(ROOT / "config.yaml", ROOT / "studies/cambrian.yaml"), os.cpu_count() or 1
    frames = {meta_encoder(name, study.encoders[name]).frame for name in study.pool}
    with tempfile.TemporaryDirectory() as name:
        steps = write_photographs(Path(name))
        one, all_cores = (PICTURES / seconds_to_read(frames, steps[0], threads) for threads in (1, cores))
        device = 1.2 * PICTURES / all_cores
        when_asked, ahead = (seconds_a_step(frames, steps, device, begin) for begin in (False, True))
    measured = {
        "cores": cores,
        "encoders": list(study.pool),
        "pictures_a_second_of_one_thread": round(one, 1),
        "pictures_a_second_of_all_cores": round(all_cores, 1),
        "device_seconds_a_step": round(device, 2),
        "seconds_a_step_read_when_asked_for": round(when_asked, 2),
        "seconds_a_step_read_ahead": round(ahead, 2),
        "ratio": round(when_asked / ahead, 2),
    }
    write_json(arguments.output, measured)
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
