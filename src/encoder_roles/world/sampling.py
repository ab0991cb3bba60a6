"""Random scenes, determined by their seeds, in disjoint splits.

Splits differ in contents and not only in seeds. A stable hash of a scene's content assigns it to one split,
and a scene that belongs to another split is drawn again. Handwritten digits are assigned by their row of
scikit-learn's digits. A sign has only 48 contents (word and plate), so signs are split by their seed, which
determines font, place and jitter.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from encoder_roles.study.names import StudyError
from encoder_roles.world.scenes import (
    BAR_HEIGHTS,
    COLOURS,
    DIGITS,
    KINDS,
    SHAPES,
    SIZES,
    SPLITS,
    TEXTURES,
    WORDS,
    Bar,
    Kind,
    Scene,
    Split,
    Thing,
)

# the share of a kind's contents in each split
SHARES: dict[Split, float] = {"train": 0.64, "development": 0.12, "test": 0.16, "probe": 0.08}
# the mix of training and probe pictures
MIX: dict[Kind, float] = {"objects": 0.40, "pair": 0.16, "chart": 0.20, "sign": 0.12, "digit": 0.12}
CELLS = ((0, 0), (0, 1), (1, 0), (1, 1))
PAIR_SIZE = 3  # one large object per side: tiny encoders do not see changes of smaller ones
Rng = np.random.Generator
T = TypeVar("T")


def sample_scenes(
    seed: int, split: Split, kinds: Mapping[Kind, float] | Kind | None, n: int, things: int | None = None
) -> list[Scene]:
    """Draw `n` scenes of a split; its first m scenes equal those of a call with n = m.

    `kinds` is one kind, weights of kinds, or None for the world's mix. `things` fixes the number of things in
    scenes of objects. Ids are unique over seeds and splits.

    Raises StudyError for an unknown split or kind.
    """
    if split not in SPLITS:
        raise StudyError(f"split {split!r}: not one of {', '.join(SPLITS)}")
    weights = {kinds: 1.0} if isinstance(kinds, str) else dict(MIX if kinds is None else kinds)
    if unknown := [kind for kind in weights if kind not in KINDS]:
        raise StudyError(f"kinds {unknown}: not among {', '.join(KINDS)}")
    names = tuple(weights)
    bounds = np.cumsum(list(weights.values())) / sum(weights.values())
    scenes = []
    for i in range(n):
        rng = np.random.default_rng((seed, SPLITS.index(split), i))
        kind = names[min(int(np.searchsorted(bounds, rng.random(), side="right")), len(names) - 1)]
        scenes.append(sample_scene(f"{split}-{seed}-{i:05d}", kind, split, rng, things))
    return scenes


def sample_scene(id: str, kind: Kind, split: Split, rng: Rng, things: int | None = None) -> Scene:
    """Draw one scene of a kind whose content belongs to the split."""
    seed = int(rng.integers(2**29)) * len(SPLITS) + SPLITS.index(split)
    while True:
        scene = _draw_content(id, kind, seed, rng, split, things)
        if split_of(scene) == split:
            return scene


def split_of(scene: Scene) -> Split:
    """The one split a scene belongs to."""
    if scene.kind == "sign":
        return SPLITS[scene.seed % len(SPLITS)]
    key = ("digit", scene.handwriting) if scene.kind == "digit" else scene.content()
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    place = int.from_bytes(digest) / 2**64
    for split, share in SHARES.items():
        if place < share:
            return split
        place -= share
    return "probe"


@functools.cache
def handwriting_rows(split: Split) -> dict[int, tuple[int, ...]]:
    """The rows of scikit-learn's digits in the split, by digit."""
    from sklearn.datasets import load_digits

    labels = load_digits().target
    rows: dict[int, list[int]] = {digit: [] for digit in DIGITS}
    for row, label in enumerate(int(x) for x in labels):
        if label in rows and split_of(Scene("", "digit", 0, digit=label, handwriting=row)) == split:
            rows[label].append(row)
    return {digit: tuple(of_digit) for digit, of_digit in rows.items()}


def pick(rng: Rng, options: Sequence[T]) -> T:
    """One of the options, with equal probability (NumPy's `choice` would convert them to an array)."""
    return options[int(rng.integers(len(options)))]


def _draw_content(id: str, kind: Kind, seed: int, rng: Rng, split: Split, things: int | None) -> Scene:
    if kind == "objects":
        return Scene(id, kind, seed, things=_draw_objects(rng, things or int(rng.integers(1, 5))))
    if kind == "pair":
        return Scene(id, kind, seed, things=_draw_pair(rng))
    if kind == "chart":
        n = int(rng.integers(3, 5))
        colours, heights = rng.permutation(len(COLOURS)), rng.permutation(BAR_HEIGHTS)
        bars = tuple(Bar(COLOURS[int(c)], int(h)) for c, h in zip(colours[:n], heights[:n], strict=True))
        return Scene(id, kind, seed, bars=bars)
    if kind == "sign":
        return Scene(id, kind, seed, word=pick(rng, WORDS), plate=pick(rng, COLOURS))
    digit = pick(rng, DIGITS)
    return Scene(id, kind, seed, digit=digit, handwriting=pick(rng, handwriting_rows(split)[digit]))


def _draw_objects(rng: Rng, n: int) -> tuple[Thing, ...]:
    """`n` things of distinct colours in distinct cells, exactly one of the largest size."""
    cells = sorted(rng.permutation(len(CELLS))[:n])
    colours = rng.permutation(len(COLOURS))
    smaller = [int(s) for s in rng.integers(min(SIZES), max(SIZES), n - 1)]
    sizes = rng.permutation([max(SIZES), *smaller]) if n > 1 else [pick(rng, SIZES)]
    return tuple(
        Thing(pick(rng, SHAPES), COLOURS[int(colours[i])], pick(rng, TEXTURES), int(sizes[i]), *CELLS[cell])
        for i, cell in enumerate(cells)
    )


def _draw_pair(rng: Rng) -> tuple[Thing, Thing]:
    """Two large things, left and right; each attribute is the same in half of the pairs."""
    left = (pick(rng, SHAPES), pick(rng, COLOURS), pick(rng, TEXTURES))
    changed = rng.permutation(3)[: int(rng.choice(4, p=[0.2, 0.3, 0.3, 0.2]))]
    right = list(left)
    for attribute in changed:
        values = (SHAPES, COLOURS, TEXTURES)[attribute]
        right[attribute] = pick(rng, [v for v in values if v != left[attribute]])
    shape, colour, texture = right
    return Thing(*left, size=PAIR_SIZE, row=0, col=0), Thing(shape, colour, texture, PAIR_SIZE, row=0, col=1)
