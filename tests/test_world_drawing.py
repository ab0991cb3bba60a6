"""Pictures: every pixel follows from the scene, and what the scene says can be measured in them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from encoder_roles.study.names import StudyError
from encoder_roles.world.drawing import (
    BASELINE,
    BRIGHTNESS,
    DARKER,
    PIXELS,
    PRINT,
    RGB,
    UNIT,
    draw,
    draw_many,
    segment,
)
from encoder_roles.world.sampling import handwriting_rows, sample_scenes
from encoder_roles.world.scenes import COLOURS, KINDS, SHAPES, SPLITS, WORDS, Bar, Kind, Scene, Thing


def scene_of(kind: Kind, **content: object) -> Scene:
    return Scene("planted", kind, seed=7, **content)  # type: ignore[arg-type]


def near(picture: np.ndarray, colour: str, brightness: float = PRINT, tolerance: int = 40) -> np.ndarray:
    return np.abs(picture.astype(int) - np.array(RGB[colour]) * brightness).max(-1) < tolerance


def test_a_scene_is_always_the_same_picture() -> None:
    scenes = sample_scenes(0, "train", None, 60)
    pictures = draw_many(scenes)
    assert pictures.shape == (60, PIXELS, PIXELS, 3) and pictures.dtype == np.uint8
    assert np.array_equal(pictures, draw_many(scenes))
    assert {scene.kind for scene in scenes} == set(KINDS)


def test_no_picture_stands_in_two_splits_or_twice_in_one() -> None:
    seen: dict[bytes, str] = {}
    for split in SPLITS:
        for kind in KINDS:
            for scene in sample_scenes(0, split, kind, 60):
                picture = draw(scene).tobytes()
                assert picture not in seen, f"{scene.id} is also {seen[picture]}"
                seen[picture] = scene.id


def test_the_same_digit_in_another_handwriting_is_another_picture() -> None:
    rows = handwriting_rows("train")[3][:8]
    scenes = [scene_of("digit", digit=3, handwriting=row) for row in rows]
    assert len({draw(scene).tobytes() for scene in scenes}) == len(rows)


def test_bars_are_as_high_in_pixels_as_they_say() -> None:
    for first in (1, 2, 3, 4, 5):
        bars = (Bar("red", first), Bar("blue", 6 - first), Bar("green", 2))
        picture = draw(scene_of("chart", bars=bars))
        for bar in bars:
            rows = np.flatnonzero(near(picture, bar.colour).sum(1) > 8)
            assert len(rows) == bar.height * UNIT
            assert rows[-1] == BASELINE - 1


def test_bars_stand_in_the_order_of_the_scene() -> None:
    bars = tuple(Bar(colour, height) for colour, height in zip(COLOURS[2:], (3, 1, 5, 2), strict=True))
    picture = draw(scene_of("chart", bars=bars))
    middles = [np.flatnonzero(near(picture, bar.colour, tolerance=30).sum(0) > 8).mean() for bar in bars]
    assert middles == sorted(middles)


def test_a_thing_is_in_its_cell_in_its_colour() -> None:
    for row, col in ((0, 0), (0, 1), (1, 0), (1, 1)):
        thing = Thing("circle", "red", "plain", 2, row, col)
        rows, columns = np.nonzero(near(draw(scene_of("objects", things=(thing,))), "red", 0.75))
        assert (rows.mean() > PIXELS / 2, columns.mean() > PIXELS / 2) == (bool(row), bool(col))


def test_a_size_is_a_size_whatever_the_shape() -> None:
    """The areas of neighbouring sizes never meet, even between shapes."""
    bounds = {}
    for size in (1, 2, 3):
        things = [Thing(other, "blue", "plain", size, 0, 0) for other in SHAPES]
        scenes = [scene_of("objects", things=(thing,)) for thing in things]
        scenes = [dataclasses.replace(scene, seed=seed) for scene in scenes for seed in range(8)]
        areas = [int((segment(scene) > 0).sum()) for scene in scenes]
        bounds[size] = min(areas), max(areas)
    assert bounds[1][1] < bounds[2][0] and bounds[2][1] < bounds[3][0], bounds


def test_a_texture_is_seen_in_the_pixels_and_only_partly_in_their_mean() -> None:
    means: dict[str, list[float]] = {"plain": [], "striped": []}
    spreads: dict[str, list[float]] = {"plain": [], "striped": []}
    for texture in means:
        for seed in range(200):
            thing = Thing("square", "green", texture, 3, 0, 0)
            scene = Scene("s", "objects", seed, things=(thing,))
            inside = draw(scene)[segment(scene) > 0][:, 1].astype(float)
            means[texture].append(inside.mean())
            spreads[texture].append(inside.std())
    assert max(spreads["plain"]) < min(spreads["striped"]) / 2
    plain, striped = np.array(means["plain"]), np.array(means["striped"])
    by_mean = [((plain > cut).mean() + (striped <= cut).mean()) / 2 for cut in (*plain, *striped)]
    assert 0.6 < max(by_mean) < 0.85  # the best that a threshold on the mean can do
    assert BRIGHTNESS[0] - DARKER > 0.2


def test_things_are_clearly_apart_and_every_item_has_its_number() -> None:
    for scene in sample_scenes(1, "train", "objects", 200):
        numbers, counts = np.unique(segment(scene), return_counts=True)
        assert list(numbers) == list(range(len(scene.things) + 1))
        assert counts.min() > 100
    for scene in sample_scenes(1, "train", "chart", 50):
        assert segment(scene).max() == len(scene.bars)


def test_every_word_is_written_inside_the_picture() -> None:
    """The letters of a word never touch the picture's left or right edge, so none is cut off."""
    for word in WORDS:
        for seed in range(40):
            picture = draw(Scene("s", "sign", seed, word=word, plate="blue")).astype(int)
            white = picture.min(-1) > 247
            assert white.sum() > 150
            plate = np.flatnonzero(near(picture, "blue").sum(1) > PIXELS / 3)
            inner = white[plate[0] + 7 : plate[-1] - 6]  # without the round corners
            assert not inner[:, [0, -1]].any()


def test_a_scene_that_cannot_be_drawn_is_named() -> None:
    with pytest.raises(StudyError, match=r"planted.*handwriting"):
        draw(scene_of("digit", digit=3))
    with pytest.raises(StudyError, match=r"planted.*plate"):
        draw(scene_of("sign", word="stop"))
    with pytest.raises(StudyError, match="painting"):
        draw(scene_of("painting"))  # type: ignore[arg-type]
