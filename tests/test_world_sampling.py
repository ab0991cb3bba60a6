"""Scenes: repeatable, within the world's rules, and no content in two splits."""

from __future__ import annotations

import collections
import itertools

import pytest

from encoder_roles.study.names import StudyError
from encoder_roles.world.sampling import handwriting_rows, sample_scenes, split_of
from encoder_roles.world.scenes import (
    DIGITS,
    KINDS,
    SPLITS,
    TEXTURES,
    Scene,
    Split,
    scene_from_json,
)


@pytest.fixture(scope="module")
def scenes() -> dict[Split, list[Scene]]:
    return {split: sample_scenes(7, split, None, 600) for split in SPLITS}


def test_the_same_arguments_draw_the_same_scenes_and_fewer_are_the_first_of_more() -> None:
    assert sample_scenes(1, "train", None, 40) == sample_scenes(1, "train", None, 90)[:40]
    assert sample_scenes(1, "train", None, 40) != sample_scenes(2, "train", None, 40)


def test_a_scene_survives_its_json() -> None:
    for scene in sample_scenes(3, "test", None, 30):
        assert scene_from_json(scene.to_json()) == scene


def test_no_content_handwriting_or_sign_seed_is_in_two_splits(scenes: dict[Split, list[Scene]]) -> None:
    for one, other in itertools.combinations(SPLITS, 2):
        for kind in ("objects", "pair", "chart"):
            contents = [{s.content() for s in scenes[split] if s.kind == kind} for split in (one, other)]
            assert contents[0] and not contents[0] & contents[1]
        rows = [{row for rows in handwriting_rows(split).values() for row in rows} for split in (one, other)]
        assert not rows[0] & rows[1]
        seeds = [{s.seed for s in scenes[split]} for split in (one, other)]
        assert not seeds[0] & seeds[1]


def test_every_scene_belongs_to_the_split_it_was_drawn_for(scenes: dict[Split, list[Scene]]) -> None:
    for split, result in scenes.items():
        assert {split_of(scene) for scene in result} == {split}


def test_every_split_has_every_kind_and_every_digit(scenes: dict[Split, list[Scene]]) -> None:
    for split, result in scenes.items():
        assert {scene.kind for scene in result} == set(KINDS)
        assert all(len(handwriting_rows(split)[digit]) >= 10 for digit in DIGITS)


def test_things_have_their_own_cells_and_colours_and_one_of_them_is_the_biggest(
    scenes: dict[Split, list[Scene]],
) -> None:
    for scene in itertools.chain(*scenes.values()):
        if scene.kind != "objects":
            continue
        things = scene.things
        assert len({(t.row, t.col) for t in things}) == len({t.colour for t in things}) == len(things)
        assert len(things) == 1 or [t.size for t in things].count(3) == 1


def test_the_attributes_of_a_pair_are_the_same_about_half_of_the_time() -> None:
    pairs = [scene.things for scene in sample_scenes(0, "train", "pair", 600)]
    for attribute in ("shape", "colour", "texture"):
        same = sum(getattr(left, attribute) == getattr(right, attribute) for left, right in pairs)
        assert 0.4 < same / len(pairs) < 0.6


def test_bars_differ_in_colour_and_height(scenes: dict[Split, list[Scene]]) -> None:
    for scene in itertools.chain(*scenes.values()):
        if scene.kind == "chart":
            assert len({b.colour for b in scene.bars}) == len({b.height for b in scene.bars})


def test_kinds_come_in_the_weights_asked_for() -> None:
    result = collections.Counter(s.kind for s in sample_scenes(0, "train", {"sign": 3, "digit": 1}, 800))
    assert set(result) == {"sign", "digit"}
    assert 0.7 < result["sign"] / 800 < 0.8
    assert {len(s.things) for s in sample_scenes(0, "train", "objects", 20, things=2)} == {2}
    assert {t.texture for s in sample_scenes(0, "train", "pair", 40) for t in s.things} == set(TEXTURES)


def test_an_unknown_split_or_kind_is_named() -> None:
    with pytest.raises(StudyError, match="validation"):
        sample_scenes(0, "validation", None, 1)  # type: ignore[arg-type]
    with pytest.raises(StudyError, match="photo"):
        sample_scenes(0, "train", "photo", 1)  # type: ignore[arg-type]
