"""Names: benchmarks and their groups, jobs, masks, and the subsets of a pool."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

BLIND = "blind"  # the subset without any encoder
NO_MASK = "unmasked"  # the operator of an answer without any mask
NONE_KEPT = "none"  # the mask that keeps no encoder
GROUPS: dict[str, tuple[str, ...]] = {
    "General": ("mme", "mmbench", "seed", "gqa"),
    "Knowledge": ("scienceqa", "mmmu", "mathvista", "ai2d"),
    "OCR & Chart": ("chartqa", "ocrbench", "textvqa", "docvqa"),
    "Vision-Centric": ("mmvp", "realworldqa", "cvbench2d", "cvbench3d"),
}
BENCHMARKS: tuple[str, ...] = tuple(itertools.chain(*GROUPS.values()))

# The benchmarks that our rule scores, unless the config selects lmms-eval's (docs/benchmarks.md).
OVERLAYS: tuple[str, ...] = ("mmmu", "mathvista", "ocrbench", "cvbench2d")

# The rules whose jobs have a row in the config -> what they do.
JOBS: dict[str, str] = {
    "pretrain_encoder": "pretrain an encoder of the laptop study",
    "pretrain_language_model": "pretrain the language model of the laptop study",
    "fetch_source": "fetch a pretrained checkpoint from a model hub",
    "fetch_benchmark": "fetch a benchmark from a data hub",
    "check_gates": "check the accuracy gates of a pretrained source",
    "stage_encoder": "check an encoder and copy it into the study's results",
    "stage_language_model": "check the language model and copy it into the study's results",
    "make_world": "draw a split of the procedural world",
    "stage_records": "check the records of your own",
    "write_requests": "write the prompts of a benchmark",
    "frame_pictures": "frame the pictures of one set once, for all jobs that read them",
    "extract_features": "store the features of a frozen encoder",
    "train_align": "train the connector of a subset",
    "train_tune": "train the model of a subset",
    "predict_subset": "answer the benchmarks with a trained model",
    "predict_masks": "answer the benchmarks with masked encoders",
    "score_predictions": "score all answers",
    "measure_pretrained_ranks": "measure the effective rank of a pretrained encoder",
    "measure_ranks": "measure the effective ranks in a trained model",
    "collect_ranks": "join the tables of effective ranks",
    "collect_costs": "join the tables of costs",
    "assign_roles": "compute all role measures and verdicts",
    "replay_advisor": "replay the design advisor",
    "paper": "draw one figure, write one table, or build the PDF",
}
# restart checkpoints of a training: if the newest turns out damaged, the one before it is used
KEPT_CHECKPOINTS = 2
TRAINING_JOBS = ("train_align", "train_tune")  # these run training.engine.processes processes


class StudyError(ValueError):
    """An error in the user's input. The message is one line: what is wrong, where, and what to do."""


class DataError(StudyError):
    """A fault of the data that are read. The same job would meet it again, so Slurm does not retry it."""


def study_of(path: Path) -> str:
    """The name of a study from the name of its table of scores: lower case, words joined with _."""
    name = re.sub(r"[\W_]+", "_", path.stem.lower()).strip("_")
    return name if re.match(r"[^\W\d]", name) else f"scores_{name}"


def name_subset(encoders: tuple[str, ...] | frozenset[str], pool: tuple[str, ...]) -> str:
    """The name of a set of encoders: in pool order, joined with `+`; `blind` for the empty set."""
    return "+".join(e for e in pool if e in encoders) or BLIND


def parse_subset(name: str, pool: tuple[str, ...]) -> tuple[str, ...]:
    """The encoders in a subset's name, in pool order; () for `blind`. Raises StudyError if one is unknown."""
    if name == BLIND:
        return ()
    parts = name.split("+")
    for part in parts:
        if part not in pool:
            raise StudyError(f"subset {name!r}: encoder {part!r} is not in the pool {list(pool)}")
    if len(set(parts)) != len(parts):
        raise StudyError(f"subset {name!r}: an encoder is named twice")
    return tuple(e for e in pool if e in parts)


def all_subsets(pool: tuple[str, ...]) -> tuple[str, ...]:
    """All 2^n - 1 non-empty subsets of the pool, smallest first, in pool order."""
    sets = (c for k in range(1, len(pool) + 1) for c in itertools.combinations(pool, k))
    return tuple("+".join(c) for c in sets)
