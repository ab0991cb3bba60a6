"""Aliases of benchmarks, encoders and subsets in external tables.

Case, spaces and punctuation never count: `MME-P`, `mme_p` and `MMEP` are one name. Letters and digits of any
script count. One of the sixteen benchmarks is known by its aliases in the table below. Nothing is matched by
likeness: a name that is one edit from a known one is a hint in a note, and no more.
"""

from __future__ import annotations

import itertools
import re
import string
import unicodedata
from collections.abc import Iterable, Sequence

from encoder_roles.study.names import BENCHMARKS, BLIND, StudyError

# benchmark -> its aliases in papers, leaderboards and lmms-eval's tasks, without case and punctuation
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
_JOINT = re.compile(r"\s*[+&,;|、]\s*|\s+(?:and|/)\s+", re.IGNORECASE)
_ASCII_MARKS = set(string.punctuation)


def squeeze(name: object) -> str:
    """A name without case, spaces and punctuation; letters and digits of every script stay.

    >>> squeeze("DINO-α"), squeeze("4M"), squeeze("CV-Bench 2D")
    ('dinoα', '4m', 'cvbench2d')
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", str(name)).casefold())
    return "".join(c for c in text if c not in _ASCII_MARKS and unicodedata.category(c)[0] not in "ZPC")


def match_benchmark(name: object) -> str | None:
    """The study's name of a benchmark; None if it is none of the sixteen.

    >>> match_benchmark("CV-Bench 2D"), match_benchmark("POPE")
    ('cvbench2d', None)
    """
    return _KNOWN.get(squeeze(name))


def near_benchmarks(name: object) -> list[str]:
    """The study's benchmarks with an alias one edit away from an unknown name.

    >>> near_benchmarks("MMVPP"), near_benchmarks("POPE")
    (['mmvp'], [])
    """
    return list(dict.fromkeys(_KNOWN[alias] for alias in near_names(name, _KNOWN)))


def near_names(name: object, names: Iterable[str]) -> list[str]:
    """Those of some squeezed names that are one edit away from a name; all have three letters or more."""
    key = squeeze(name)
    return [other for other in names if min(len(key), len(other)) > 2 and one_edit_apart(key, other)]


def one_edit_apart(first: str, second: str) -> bool:
    """Whether one character more, less, another or moved past its neighbour turns one name into the other.

    >>> one_edit_apart("sglip", "siglip"), one_edit_apart("dinov2", "dniov2"), one_edit_apart("clip", "sam")
    (True, True, False)
    """
    pairs = zip(first, second, strict=False)
    start = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
    one, two = first[start:], second[start:]
    if len(one) == len(two):
        return one != two and (one[1:] == two[1:] or one[:2] + one[2:] == two[1::-1] + two[2:])
    return one[1:] == two or one == two[1:]


def near_encoders(pool: Sequence[str]) -> list[tuple[str, str]]:
    """The pairs of encoders that may be one, spelt twice. Names that differ in a digit are versions.

    >>> near_encoders(["siglip", "sglip", "dinov2", "dinov3"])
    [('siglip', 'sglip')]
    """
    keys = {encoder: squeeze(encoder) for encoder in pool}
    letters = {encoder: "".join(c for c in key if not c.isdigit()) for encoder, key in keys.items()}
    return [
        (first, second)
        for first, second in itertools.combinations(pool, 2)
        if max(len(letters[first]), len(letters[second])) > 3
        and letters[first] != letters[second]
        and one_edit_apart(keys[first], keys[second])
    ]


def encoder_notes(pool: Sequence[str]) -> list[str]:
    """A warning, one sentence, for each pair of encoders that may be one."""
    return [
        f"encoders {first} and {second} differ by one character: if they are one, correct the label."
        for first, second in near_encoders(pool)
    ]


def match_encoders(text: object, pool: Sequence[str] = ()) -> tuple[str, ...]:
    """The encoders of a model's label, in the label's order; () for the blind model.

    Without a pool an encoder's name is its text without case and punctuation. Raises StudyError if an encoder
    is not in the pool, is named twice, or has no name.

    >>> match_encoders("CLIP & DINO-v2"), match_encoders("4M + DINO-β")
    (('clip', 'dinov2'), ('4m', 'dinoβ'))
    """
    label = unicodedata.normalize("NFKC", str(text)).strip()
    if label in _BLIND_SIGNS or squeeze(label) in _BLIND:
        return ()
    known = _by_key(pool)
    encoders: list[str] = []
    for part in _JOINT.split(label):
        key = squeeze(part)
        if not any(c.isalnum() for c in key):
            raise StudyError(f"{label!r}: {part!r} is no encoder's name; write names joined with +")
        if pool and key not in known:
            near = [known[name] for name in near_names(key, known)]
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise StudyError(f"{label!r}: encoder {part!r} is not in the pool {list(pool)}{hint}")
        name = known.get(key, key)
        if name in encoders or name == BLIND:
            raise StudyError(
                f"{label!r}: {part!r} is named twice, or beside other encoders; correct the label"
            )
        encoders.append(name)
    return tuple(encoders)


def _by_key(pool: Sequence[str]) -> dict[str, str]:
    """The encoders of a pool by their names without case and punctuation."""
    known: dict[str, str] = {}
    for encoder in pool:
        key = squeeze(encoder)
        if not any(c.isalnum() for c in key) or key in known:
            same = f"is {known[key]!r} again" if key in known else "is no encoder's name"
            raise StudyError(f"pool: {encoder!r} {same}; correct the pool")
        known[key] = encoder
    return known
