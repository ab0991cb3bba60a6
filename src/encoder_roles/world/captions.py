"""A scene in words: every fact of a scene, in an order that says nothing.

A caption is the answer to `CAPTION_PROMPT` in training, and it stands for the picture when the language model
is pretrained and gated on text alone. Orders are random on purpose: a language model that only sees ordered
captions copies by position and never learns which colour belongs to which shape.
"""

from __future__ import annotations

from encoder_roles.world.sampling import Rng
from encoder_roles.world.scenes import Scene, Thing

CAPTION_PROMPT = "Describe the picture."
SIZE_WORDS = {1: "small", 2: "medium", 3: "large"}
PICTURE_WORDS = {"objects": "objects", "pair": "pair", "chart": "chart", "sign": "sign", "digit": "number"}
SEPARATOR = " , "
SWAPPED = 0.25


def caption(scene: Scene, rng: Rng, swapped: float = SWAPPED) -> str:
    """All facts of the scene in random order; facts that follow from the others are told half of the time.

    `swapped` is the share of captions whose attributes stand in another order than the usual one.
    """
    phrases = facts(scene, rng, rng.random() < swapped)
    phrases += [phrase for phrase in consequences(scene) if rng.random() < 0.5]
    return SEPARATOR.join(phrases[int(i)] for i in rng.permutation(len(phrases)))


def facts(scene: Scene, rng: Rng, swapped: bool) -> list[str]:
    """Phrases that hold everything a scene shows, attributes in the usual or in another order."""
    phrases = [f"picture {PICTURE_WORDS[scene.kind]}"]
    if scene.kind in ("objects", "pair"):
        order = [int(i) for i in rng.permutation(5)] if swapped else list(range(5))
        for thing in scene.things:
            words = _words_of(thing, scene)
            phrases.append(" ".join(words[i] for i in order if words[i]))
    elif scene.kind == "chart":
        phrases += [
            f"{b.height} {b.colour} bar" if swapped else f"{b.colour} bar {b.height}" for b in scene.bars
        ]
    elif scene.kind == "sign":
        phrases.append(f"{scene.word} word" if swapped else f"word {scene.word}")
        phrases.append(f"{scene.plate} plate" if swapped else f"plate {scene.plate}")
    else:
        phrases.append(f"{scene.digit} digit" if swapped else f"digit {scene.digit}")
    return phrases


def consequences(scene: Scene) -> list[str]:
    """Phrases that follow from the facts: counts, what is alike in a pair, the highest and the lowest bar."""
    if scene.kind == "objects":
        return [f"{len(scene.things)} things"]
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
    """The attributes in their usual order."""
    if scene.kind == "pair":  # both are large and in the top row: not worth a word
        return ["", thing.texture, thing.colour, thing.shape, ("left", "right")[thing.col]]
    return [SIZE_WORDS[thing.size], thing.texture, thing.colour, thing.shape, place_of(thing)]
