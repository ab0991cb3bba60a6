"""Benchmarks, encoders and subsets as other people's tables spell them.

Case, spaces and punctuation never count: `MME-P`, `mme_p` and `MMEP` are one name. What is left must be a
spelling in the table below, or it is unknown: nothing is matched by likeness.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from encoder_roles.study.names import BENCHMARKS, BLIND, StudyError

# benchmark -> further spellings, without case and punctuation (of papers, leaderboards and lmms-eval's tasks)
_BENCHMARKS: dict[str, str] = {
    "mme": "mmep mmeperception mmeperceptionscore",
    "mmbench": "mmb mmben mmbenchen mmbenchdev mmbenchendev mmbenchendevstatic mmbdev",
    "seed": "seedi seedimg seedimage seedbench seedbenchi seedbenchimg seedbenchimage",
    "gqa": "gqatestdev gqatestdevbalanced",
    "scienceqa": "sqa sqai sqaimg sqaimage sciqa scienceqai scienceqaimg scienceqaimage",
    "mmmu": "mmmuv mmmuval mmmuvalidation",
    "mathvista": "mathv mathvistam mathvistamini mathvistatestmini mathvistatestminiformat",
    "ai2d": "ai2dtest",
    "chartqa": "chart chartqatest",
    "ocrbench": "ocrb ocrbenchv1",
    "textvqa": "text textvqaval tvqa vqat vqatext",
    "docvqa": "doc docvqaval docvqavalidation",
    "mmvp": "mmvppair mmvppairaccuracy",
    "realworldqa": "rwqa realworld",
    "cvbench2d": "cv2d cvb2d 2dcvbench",
    "cvbench3d": "cv3d cvb3d 3dcvbench",
}
_KNOWN = {spelling: name for name in BENCHMARKS for spelling in (name, *_BENCHMARKS[name].split())}
_BLIND = {"blind", "none", "noencoder", "noencoders", "noimage", "textonly", "languagemodelonly", "llmonly"}
_BLIND_SIGNS = {"∅", "{}", "-", "–"}
_JOINT = re.compile(r"\s*[+&,;|]\s*|\s+(?:and|/)\s+", re.IGNORECASE)


def squeeze(name: object) -> str:
    """A name without case, spaces and punctuation."""
    return re.sub(r"[^a-z0-9]+", "", str(name).casefold())


def match_benchmark(name: object) -> str | None:
    """The study's name of a benchmark; None if it is none of the sixteen."""
    return _KNOWN.get(squeeze(name))


def nearest_benchmarks(name: object) -> str:
    """Benchmarks that look like an unknown name, for an error; all of them if none does."""
    close = difflib.get_close_matches(squeeze(name), list(_KNOWN), n=3, cutoff=0.6)
    found = list(dict.fromkeys(_KNOWN[spelling] for spelling in close))
    return f"nearest: {', '.join(found)}" if found else f"known: {', '.join(BENCHMARKS)}"


def match_encoders(text: object, pool: Sequence[str] = ()) -> tuple[str, ...]:
    """The encoders of a model's label, in its own order: `CLIP & DINO-v2` is (clip, dinov2); () if blind.

    Without a pool a name is the label without case and punctuation. Raises StudyError if an encoder is not in
    the pool, is named twice, or has no name.
    """
    label = str(text).strip()
    if label in _BLIND_SIGNS or squeeze(label) in _BLIND:
        return ()
    known = {squeeze(encoder): encoder for encoder in pool}
    found: list[str] = []
    for part in _JOINT.split(label):
        key = squeeze(part)
        if not re.match(r"[a-z]", key):
            raise StudyError(f"{label!r}: {part!r} is no encoder's name; write names joined with +")
        if pool and key not in known:
            raise StudyError(f"{label!r}: encoder {part!r} is not in the pool {list(pool)}")
        name = known.get(key, key)
        if name in found or name == BLIND:
            raise StudyError(
                f"{label!r}: {part!r} is named twice, or beside other encoders; correct the label"
            )
        found.append(name)
    return tuple(found)
