"""Captions: everything a scene shows and nothing else, in any order."""

from __future__ import annotations

import numpy as np

from encoder_roles.world.captions import PICTURE_WORDS, SEPARATOR, SIZE_WORDS, caption
from encoder_roles.world.sampling import sample_scenes
from encoder_roles.world.scenes import COLOURS, SHAPES, TEXTURES, Bar, Scene, Thing


def read_caption(text: str) -> tuple[str, set[Thing], set[Bar], dict[str, str], set[str]]:
    """(kind, things, bars, sign or digit facts, consequences) of a caption, by its words alone."""
    kind, things, bars, facts, rest = "", set(), set(), {}, set()
    for phrase in text.split(SEPARATOR):
        words = set(phrase.split())
        colour = next(iter(words & set(COLOURS)), "")
        if shape := next(iter(words & set(SHAPES)), ""):
            place = next(w for w in words if w.split("-")[-1] in ("left", "right"))
            size = next((n for n, word in SIZE_WORDS.items() if word in words), 3)
            (texture,) = words & set(TEXTURES)
            row, col = int(place.startswith("bottom")), int(place.endswith("right"))
            things.add(Thing(shape, colour, texture, size, row, col))
        elif "picture" in words:
            (word,) = words - {"picture"}
            kind = next(k for k, w in PICTURE_WORDS.items() if w == word)
        elif "bar" in words:
            (height,) = words - {"bar", colour}
            bars.add(Bar(colour, int(height)))
        elif key := next(iter(words & {"word", "plate", "digit"}), ""):
            (facts[key],) = words - {key}
        else:
            rest.add(phrase)
    return kind, things, bars, facts, rest


def own_facts(scene: Scene) -> dict[str, str]:
    if scene.kind == "sign":
        return {"word": str(scene.word), "plate": str(scene.plate)}
    return {"digit": str(scene.digit)} if scene.kind == "digit" else {}


def test_a_caption_holds_all_facts_of_its_scene_and_no_other() -> None:
    rng = np.random.default_rng(0)
    for scene in sample_scenes(5, "train", None, 500):
        kind, things, bars, facts, _ = read_caption(caption(scene, rng))
        assert (kind, things, bars, facts) == (
            scene.kind,
            set(scene.things),
            set(scene.bars),
            own_facts(scene),
        )


def test_what_a_caption_concludes_is_true() -> None:
    rng = np.random.default_rng(1)
    seen = set()
    for scene in sample_scenes(6, "train", None, 500):
        for phrase in read_caption(caption(scene, rng))[4]:
            first, *_, second = words = phrase.split()
            seen.add(second if first.isdigit() else "across" if len(words) == 3 else first)
            if words[1] == "across":
                cells = {thing.colour: (thing.row, thing.col) for thing in scene.things}
                assert cells[first] == tuple(1 - side for side in cells[second])
            elif second == "things":
                assert int(first) == len(scene.things)
            elif second == "bars":
                assert int(first) == len(scene.bars)
            elif first in ("same", "different"):
                left, right = scene.things
                assert (getattr(left, second) == getattr(right, second)) == (first == "same")
            else:
                choose = {"highest": max, "lowest": min}[first]
                assert choose(scene.bars, key=lambda bar: bar.height).colour == second
    assert seen == {"things", "across", "bars", "same", "different", "highest", "lowest"}


def test_the_order_of_phrases_and_of_attributes_varies() -> None:
    rng = np.random.default_rng(2)
    (scene,) = sample_scenes(8, "train", "objects", 1, things=3)
    captions = [caption(scene, rng) for _ in range(60)]
    assert len({text.split(SEPARATOR)[0] for text in captions}) > 4
    orders = {tuple(p.split()[1::2]) for text in captions for p in text.split(SEPARATOR) if p.count(" ") == 7}
    assert len(orders) > 20
