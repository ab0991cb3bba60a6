"""Whether a study was rehearsed as it is now: with its config, its code, its lock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from encoder_roles.manifest.code import code_of
from encoder_roles.provenance import key_of, sha256_of
from encoder_roles.study.config import Study

FOLDER = "rehearsal"  # in results/<study>
PASSED = "passed.json"
# the sections that a rehearsal's peaks and seconds depend on
SECTIONS = (
    *("pool", "subsets", "encoders", "language_model", "pictures", "connector", "training"),
    *("evaluation", "masks", "jobs", "variants"),
)
MODULES = ("training.align", "training.tune", "evaluation.predict", "effective_rank.measure")


def rehearsed_state(study: Study) -> dict[str, str]:
    """Hashes of what a rehearsal depends on: the config's sections, the code of its commands, the lock."""
    settings = study.model_dump(mode="json")
    code: dict[str, str] = {}
    for module in MODULES:
        code |= code_of(f"encoder_roles.{module}")
    lock = Path(f"studies/{study.study}.lock.yaml")
    return {
        "config": key_of({name: settings[name] for name in SECTIONS}),
        "code": key_of(code),
        "lock": sha256_of(lock) if lock.is_file() else "none",
    }


def check_rehearsal(study: Study) -> Iterator[str]:
    """A study whose jobs request GPUs needs a rehearsal that passed, unless `rehearsal` is `optional`."""
    if study.rehearsal == "optional" or not any(job.gpus for job in study.jobs.values()):
        return
    path = Path("results") / study.study / FOLDER / PASSED
    how = "run `snakemake --profile slurm -- rehearse`, or set `rehearsal: optional` in the config"
    if not path.is_file():
        yield f"{path.parent}: no rehearsal of {study.study} has passed; {how}"
        return
    before, now = json.loads(path.read_text(encoding="utf-8")), rehearsed_state(study)
    if changed := [name for name, value in now.items() if before.get(name) != value]:
        yield f"{path.parent}: {', '.join(changed)} changed after the rehearsal of {study.study}; {how}"
