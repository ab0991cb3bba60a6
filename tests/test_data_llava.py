"""Training data is read lazily, and every fault names its file, line and key."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from encoder_roles.data.llava import PictureIndex, distinct_pictures, read_records
from encoder_roles.data.pictures import PictureReader, read_picture
from encoder_roles.encoders.framing import Frame, frame_picture, map_by_size
from encoder_roles.study.names import StudyError


def row(**changes):
    turns = [{"from": "human", "value": "<image>\nwhat colour ?"}, {"from": "gpt", "value": "red"}]
    return {"id": "0-1", "image": "pictures/0.png", "conversations": turns} | changes


def write(path: Path, *rows) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def test_questions_of_a_picture_come_together_without_the_image_marker(tmp_path):
    path = write(tmp_path / "t.jsonl", row(), row(id="0-caption"), row(id="1-1", image="pictures/1.png"))
    first, second = PictureIndex(path, group_by_picture=True)
    assert [r.turns for r in first.records] == [(("what colour ?", "red"),)] * 2
    assert [r.is_caption for r in first.records] == [False, True]
    assert second.image == "pictures/1.png"


def test_reading_is_lazy_so_a_fault_below_is_met_only_when_reached(tmp_path):
    path = write(tmp_path / "t.jsonl", row(), "{broken")
    records = read_records(path)
    assert next(records).turns[0][1] == "red"
    with pytest.raises(StudyError, match=r"t\.jsonl, line 2: not JSON"):
        next(records)


def _turns(question="<image>\nq", answer="red", speaker="human"):
    return [{"from": speaker, "value": question}, {"from": "gpt", "value": answer}]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"id": None}, "id"),
        ({"image": ""}, "image"),
        ({"image": ["pictures/0.png", "pictures/1.png"]}, "image"),
        ({"conversations": "hello"}, "conversations"),
        ({"conversations": _turns()[:1]}, "conversations"),
        ({"conversations": [*_turns(), *_turns()]}, "conversations.0.value"),
        ({"conversations": _turns(speaker="gpt")}, "conversations.0.from"),
        ({"conversations": _turns(question=7)}, "conversations.0.value"),
        ({"conversations": _turns(question="no marker")}, "conversations.0.value"),
        ({"conversations": _turns(question="<image> <image>")}, "conversations.0.value"),
        ({"image": None}, "conversations.0.value"),
        ({"conversations": _turns(answer="  ")}, "conversations.1.value"),
        ({"conversations": _turns(answer="<image>")}, "conversations.1.value"),
    ],
)
def test_a_wrong_row_is_named_by_file_line_and_key(tmp_path, changes, key):
    path = write(tmp_path / "t.jsonl", row(), row(**changes))
    with pytest.raises(StudyError, match=rf"t\.jsonl, line 2, key '{key}'"):
        list(read_records(path))


def test_a_missing_or_empty_file_and_scattered_records_are_errors(tmp_path):
    with pytest.raises(StudyError, match=r"none\.jsonl"):
        list(PictureIndex(tmp_path / "none.jsonl", True))
    with pytest.raises(StudyError, match="no records"):
        list(PictureIndex(write(tmp_path / "e.jsonl"), True))
    path = write(tmp_path / "t.jsonl", row(), row(image="pictures/1.png"), row())
    with pytest.raises(StudyError, match=r"line 3, key 'image'.*not consecutive"):
        list(PictureIndex(path, True))


def test_conversations_of_several_turns_and_of_text_alone_are_records(tmp_path):
    several = [*_turns(), *_turns(question="and now ?", answer=" blue ")]
    path = write(
        tmp_path / "t.jsonl", row(conversations=several), {"id": 7, "conversations": _turns(question="why ?")}
    )
    first, second = read_records(path)
    assert first.turns == (("q", "red"), ("and now ?", "blue"))
    assert (second.id, second.image, second.turns) == ("7", None, (("why ?", "red"),))


def test_an_index_reads_any_record_by_its_bytes_and_knows_its_line(tmp_path):
    line = {"id": "t", "conversations": _turns(question="w\u00e4rum\u2028?")}  # letters of several bytes
    rows = [row(), row(id="0-caption"), line, line, row(id="1", image="p/1.png")]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    index = PictureIndex(path, group_by_picture=True)
    assert [len(index), list(index.pictured), list(index.lines)] == [4, [1, 0, 0, 1], [1, 3, 4, 5]]
    assert [index[place].image for place in (3, 0, 2)] == ["p/1.png", "pictures/0.png", None]
    assert index[2].records[0].turns[0][0] == "w\u00e4rum\u2028?"
    assert index[2].records[0].line == 4
    assert sum(index.sizes) == path.stat().st_size
    alone = PictureIndex(
        write(tmp_path / "a.jsonl", row(), row(image="p/1.png"), row()), group_by_picture=False
    )
    assert [picture.image for picture in alone] == ["pictures/0.png", "p/1.png", "pictures/0.png"]
    assert list(distinct_pictures(alone.path)) == ["pictures/0.png", "p/1.png"]


def test_a_picture_keeps_its_pixels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    assert (read_picture(tmp_path / "p.png").permute(1, 2, 0).numpy() == pixels).all()


def test_missing_damaged_and_cut_off_pictures_are_named(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "flipped.png").write_bytes(whole[:300] + bytes([whole[300] ^ 255]) + whole[301:])
    (tmp_path / "text.png").write_text("not a picture")
    for name in ("missing.png", "cut.png", "flipped.png", "text.png"):
        with pytest.raises(StudyError, match=name):
            read_picture(tmp_path / name)


def write_pictures(folder, *sizes):
    paths = [folder / f"{number}.png" for number in range(len(sizes))]
    random = np.random.default_rng(0)
    for path, (width, height) in zip(paths, sizes, strict=True):
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
    return paths


def test_pictures_of_several_sizes_are_computed_by_size_and_keep_their_places(tmp_path):
    pictures = [read_picture(path) for path in write_pictures(tmp_path, (8, 8), (9, 8), (8, 8))]
    shapes = []

    def first_values(pixels):
        shapes.append(tuple(pixels.shape))
        return pixels[:, :, 0, 0]

    result = map_by_size(first_values, pictures)
    assert shapes == [(2, 3, 8, 8), (1, 3, 8, 9)]
    assert torch.equal(result, torch.stack([picture[:, 0, 0] for picture in pictures]))


FRAMES = {Frame("squash", 12), Frame("pad", 16, (9, 9, 9)), Frame("longest", 20)}


def same(some, others):
    pairs = list(zip(some, others, strict=True))
    return all(one.keys() == other.keys() for one, other in pairs) and all(
        torch.equal(one[frame], other[frame]) for one, other in pairs for frame in one
    )


@pytest.mark.parametrize("threads", [1, 3])
def test_pictures_read_ahead_are_those_read_one_by_one(tmp_path, monkeypatch, threads):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    paths = write_pictures(tmp_path, (30, 20), (20, 30), (12, 12), (40, 41), (8, 9))
    alone = [frame_picture(read_picture(path), FRAMES) for path in paths]
    reader = PictureReader(FRAMES)
    assert same([picture for portion in reader.portions(paths, 2) for picture in portion], alone)
    assert [len(portion) for portion in reader.portions(paths, 2)] == [2, 2, 1]
    reader.begin(paths[::-1])
    reader.begin(paths)
    assert same(reader.read([paths[0], paths[3], paths[0]]), [alone[0], alone[3], alone[0]])
    assert same(reader.read(paths), alone), "what was taken is read again"
    assert not reader.begun, "nothing is kept that nobody asks for"


def test_a_picture_that_cannot_be_read_is_told_where_it_is_asked_for(tmp_path):
    (whole,) = write_pictures(tmp_path, (8, 8))
    reader = PictureReader(FRAMES)
    reader.begin([whole, tmp_path / "missing.png"])
    assert len(reader.read([whole])) == 1
    with pytest.raises(StudyError, match=r"missing\.png: no such picture"):
        reader.read([tmp_path / "missing.png"])
