"""A rehearsal at real sizes with random weights: what it measures, beside the plan.

Run from the root: `python performance/rehearsal.py`. The study has clip_l, dinov2_l and a language model of
half a billion parameters, and one picture a step. It takes some 20 GB of memory, 65 GB of disk, and on two
cores half an hour. Writes performance/results/rehearsal.csv: the rehearsal's own table, and the machine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import pandas as pd

from encoder_roles.cluster.site import Site
from encoder_roles.manifest.job import machine
from encoder_roles.rehearsal.rehearse import Processes, run_rehearsal
from encoder_roles.study.config import Study, load_study

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "performance/results/rehearsal.csv"
LANGUAGE_MODEL = {  # Qwen2.5-0.5B's architecture
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "tie_word_embeddings": True,
}


def large_study() -> Study:
    """The laptop study with networks of real sizes and one picture a step."""
    study = load_study(ROOT / "config.yaml").model_dump(mode="json")
    training, jobs = study["training"], study["jobs"]
    training["align"] |= {"batch_pictures": 1, "micro_batch": 1, "features": "computed"}
    training["tune"] |= {"batch_pictures": 1, "micro_batch": 1, "epochs": 1}
    training |= {"max_tokens": 640, "engine": training["engine"] | {"gradient_checkpointing": True}}
    large = {
        "study": "large",
        "pool": ["clip_l", "dinov2_l"],
        "subsets": ["clip_l+dinov2_l"],
        "encoders": {},
        "language_model": {"source": "nowhere", "library_config": LANGUAGE_MODEL},
        "connector": {"kind": "mlp", "layers": 2, "grid": 24},
        "training": training,
        "effective_rank": study["effective_rank"] | {"pictures": 4, "resamples": 5},
        "jobs": {name: job | {"memory_mb": 64_000, "minutes": 10**6} for name, job in jobs.items()},
    }
    return Study.model_validate(study | large)


def main(output: Path) -> None:
    """Rehearse the study in a folder of its own, and write its table with the machine's name.

    Raises StudyError if a limit is passed, such as the free disk; the table is written all the same.
    """
    output, study = output.resolve(), large_study()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            run_rehearsal(study, Site(warning_seconds=10**6, jobs=1), Processes())
        finally:
            table = pd.read_csv("results/large/rehearsal/rehearsal.csv")
            table.insert(0, "machine", "{cpu}, {cores} cores".format(**machine()))
            table.to_csv(output, index=False)
            os.chdir(ROOT)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=RESULTS)
    main(parser.parse_args().output)
