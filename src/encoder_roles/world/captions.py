"""A scene in words: every fact of a scene, in random order.

A caption is the answer to `CAPTION_PROMPT` in training. It replaces the picture when the language model is
pretrained and gated on text alone. The order is random on purpose: a language model that sees only ordered
captions copies by position and never learns which colour belongs to which shape.
"""

from __future__ import annotations

import itertools

from encoder_roles.world.sampling import Rng
from encoder_roles.world.scenes import Scene, Thing

CAPTION_PROMPT = "Describe the picture."
SIZE_WORDS = {1: "small", 2: "medium", 3: "large"}
PICTURE_WORDS = {"objects": "objects", "pair": "pair", "chart": "chart", "sign": "sign", "digit": "number"}
SEPARATOR = " , "


def caption(scene: Scene, rng: Rng) -> str:
    """All facts of the scene in random order; each consequence of them is included with probability 1/2."""
    phrases = facts(scene, rng)
    phrases += [phrase for phrase in consequences(scene) if rng.random() < 0.5]
    return SEPARATOR.join(phrases[int(i)] for i in rng.permutation(len(phrases)))


def facts(scene: Scene, rng: Rng) -> list[str]:
    """Phrases for everything a scene shows: one phrase per thing, its attributes in random order.

    The name of a thing stands before each of its attributes (`red circle red large`). So each fact is a pair
    of neighbouring words, the only form of binding that a tiny language model learns within an hour.
    """
    phrases = [f"picture {PICTURE_WORDS[scene.kind]}"]
    for thing in scene.things:
        name, *attributes = _words_of(thing, scene)
        order = [attributes[int(i)] for i in rng.permutation(len(attributes))]
        phrases.append(" ".join(f"{name} {attribute}" for attribute in order))
    phrases += [f"bar {bar.colour} {bar.height}" for bar in scene.bars]
    if scene.kind == "sign":
        phrases += [f"word {scene.word}", f"plate {scene.plate}"]
    if scene.kind == "digit":
        phrases.append(f"digit {scene.digit}")
    return phrases


def consequences(scene: Scene) -> list[str]:
    """Phrases that follow from the facts.

    These are counts, things on a diagonal of the layout, equal attributes of a pair, and the highest and
    lowest bar.
    """
    if scene.kind == "objects":
        across = [
            f"{a.colour} across {b.colour}"
            for a, b in itertools.combinations(scene.things, 2)
            if a.row != b.row and a.col != b.col
        ]
        return [f"{len(scene.things)} things", *across]
    if scene.kind == "pair":
        left, right = scene.things
        return [
            f"{'same' if getattr(left, a) == getattr(right, a) else 'different'} {a}"
            for a in ("shape", "colour", "texture")
        ]
    if scene.kind == "chart":
        highest = max(scene.bars, key=lambda bar: bar.height)
        lowest = min(scene.bars, key=lambda bar: bar.height)
        return [f"{len(scene.bars)} bars", f"highest {highest.colour}", f"lowest {lowest.colour}"]
    return []


def place_of(thing: Thing) -> str:
    """The cell of the layout in one word: `top-left`."""
    return f"{('top', 'bottom')[thing.row]}-{('left', 'right')[thing.col]}"


def _words_of(thing: Thing, scene: Scene) -> list[str]:
    """The word that names a thing in its scene, then its other attributes."""
    if scene.kind == "pair":  # both are large and in the top row, so size and row need no word
        return [("left", "right")[thing.col], thing.colour, thing.texture, thing.shape]
    return [thing.colour, SIZE_WORDS[thing.size], thing.texture, thing.shape, place_of(thing)]
