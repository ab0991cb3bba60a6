"""What everything is called: benchmarks and their groups, jobs, masks, and the subsets of a pool."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

BLIND = "blind"  # the subset without any encoder
NO_MASK = "unmasked"  # the operator of a model that is evaluated as trained
NONE_KEPT = "none"  # the mask that keeps no encoder
GROUPS: dict[str, tuple[str, ...]] = {
    "General": ("mme", "mmbench", "seed", "gqa"),
    "Knowledge": ("scienceqa", "mmmu", "mathvista", "ai2d"),
    "OCR & Chart": ("chartqa", "ocrbench", "textvqa", "docvqa"),
    "Vision-Centric": ("mmvp", "realworldqa", "cvbench2d", "cvbench3d"),
}
BENCHMARKS: tuple[str, ...] = tuple(itertools.chain(*GROUPS.values()))

# The benchmarks whose score can be switched back to lmms-eval's own figure (docs/benchmarks.md).
OVERLAYS: tuple[str, ...] = ("mmmu", "mathvista", "ocrbench", "cvbench2d")

# The jobs whose needs the config states; `paper` is every figure, every table, the values and the PDF.
JOBS: tuple[str, ...] = (
    *("pretrain_encoder", "pretrain_language_model", "fetch_source", "fetch_benchmark"),
    *("check_gates", "stage_encoder", "stage_language_model"),
    *("make_world", "stage_records", "write_requests", "frame_pictures", "extract_features"),
    *("train_align", "train_tune", "predict_subset", "predict_masks", "score_predictions"),
    *("measure_pretrained_ranks", "measure_ranks", "collect_ranks", "collect_costs"),
    *("assign_roles", "replay_advisor", "paper"),
)
TRAINED = ("train_align", "train_tune")  # the jobs of as many processes as training.engine.processes


class StudyError(ValueError):
    """Bad input from the user: the message is one line that says what is wrong, where, and what to do."""


def study_of(path: Path) -> str:
    """A study's name from that of its file of scores: lower case, words joined with _."""
    name = re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_")
    return name if re.match(r"[a-z]", name) else f"scores_{name}"


def name_subset(encoders: tuple[str, ...] | frozenset[str], pool: tuple[str, ...]) -> str:
    """The one name of a set of encoders: pool order, joined with `+`; `blind` for the empty set."""
    return "+".join(e for e in pool if e in encoders) or BLIND


def parse_subset(name: str, pool: tuple[str, ...]) -> tuple[str, ...]:
    """The encoders of a subset's name, in pool order; () for `blind`. Raises StudyError if one is unknown."""
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
