"""A user's own records: checked against their lock and the pictures, then read like the world's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from encoder_roles.data.llava import read_records
from encoder_roles.provenance import write_json
from encoder_roles.sources.lock import lock_sources, read_lock
from encoder_roles.sources.records import stage_records
from encoder_roles.study.names import StudyError

TURNS = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "a cat"}]
ROWS = [
    {"id": "one", "image": "coco/a.jpg", "conversations": TURNS, "source": "not read"},
    {"id": 2, "conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}]},
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two forms of the same records, their pictures and probe pictures, locked."""
    (tmp_path / "pictures/coco").mkdir(parents=True)
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(tmp_path / f"pictures/coco/{name}.jpg")
    (tmp_path / "list.json").write_text(json.dumps(ROWS))
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "probe.jsonl").write_text('{"image": "coco/b.jpg"}\n')
    files = {"align": "lines.jsonl", "tune": "list.json", "probe": "probe.jsonl"}
    records = {
        name: {"records": str(tmp_path / file), "pictures": str(tmp_path / "pictures")}
        for name, file in files.items()
    }
    stage = {"study": "own", "sources": {}, "benchmarks": [], "records": records}
    write_json(tmp_path / "lock.json", stage)
    lock_sources(settings=tmp_path / "lock.json", output=tmp_path / "own.lock.yaml")
    return tmp_path


def stage(place: Path, name: str) -> Path:
    output = place / "results/data" / name
    stage_records(settings=place / "lock.json", lock=place / "own.lock.yaml", name=name, output=output)
    return output / f"{name}.jsonl"


def test_a_list_and_a_file_of_lines_are_staged_alike(place: Path) -> None:
    lines, listed = stage(place, "align"), stage(place, "tune")
    assert lines.read_text() == listed.read_text().replace("/data/tune", "/data/align")
    first, second = read_records(lines)
    assert first.turns == (("What is it?", "a cat"),) and (second.id, second.image) == ("2", None)


def test_a_staged_picture_is_found_from_the_staged_file(place: Path) -> None:
    lines = stage(place, "align")
    (first, _) = read_records(lines)
    assert first.image is not None and not Path(first.image).is_absolute()
    assert (lines.parent / first.image).resolve() == (place / "pictures/coco/a.jpg").resolve()
    probe = json.loads(stage(place, "probe").read_text())
    assert (place / "results/data/probe" / probe["image"]).resolve().name == "b.jpg"


def test_the_lock_holds_the_hash_of_every_file(place: Path) -> None:
    assert set(read_lock(place / "own.lock.yaml").records) == {"align", "tune", "probe"}
    with (place / "lines.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(StudyError, match=r"lines\.jsonl: not the file that .*own\.lock\.yaml has for align"):
        stage(place, "align")
    assert not (place / "results/data/align").exists()


def turns(*texts: str, first: str = "human") -> list[dict[str, str]]:
    speakers = ("human", "gpt") if first == "human" else ("gpt", "human")
    return [{"from": speakers[n % 2], "value": text} for n, text in enumerate(texts)]


# Records in the form of the public files: LLaVA's 558k (marker last) and 665k (several turns, text alone),
# Cambrian-1's 2.5M (a path from the folder itself) and 737k (a source, no picture in words, numbers for ids).
PUBLIC = [
    {"id": "004539375", "image": "coco/a.jpg", "conversations": turns("Describe it.\n<image>", "a mattress")},
    {"id": "000000033471", "image": "coco/b.jpg", "conversations": turns("<image>\nq", "a", "r", "b")},
    {"id": "wXyZ0_0", "model": "", "conversations": turns("Hi", "Hello", "Bye", "Goodbye")},
    {"id": "wXyZ0_1", "conversations": turns("As I said", "Go on", "Yes", first="gpt")},
    {"id": "wXyZ0_2", "conversations": turns("Hi", "Hello", "And?")},
    {"id": 7, "image": "./coco/a.jpg", "conversations": turns("<image>\nq", "a"), "source": "x.json"},
    {"image": "", "conversations": turns("2 + 2?", "4"), "source": "math.json"},
    {"id": 8, "image": None, "conversations": turns("2 + 3?", "5")},
    {"id": 9, "image": float("nan"), "conversations": turns("2 + 4?", "6")},
    {"id": 10, "image": "None", "conversations": turns("2 + 5?", "7")},
]


def test_records_in_the_form_of_the_public_files_are_learnt_as_their_loaders_do(place: Path) -> None:
    (place / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in PUBLIC))
    lock_sources(settings=place / "lock.json", output=place / "own.lock.yaml")
    lines = stage(place, "align")
    found = list(read_records(lines))
    pictures = [(lines.parent / r.image).resolve().name if r.image else None for r in found]
    assert pictures == ["a.jpg", "b.jpg", None, None, None, "a.jpg", None, None, None, None]
    assert [r.id for r in found][5:8] == ["7", "7", "8"]  # the second by its number
    assert found[0].turns == (("Describe it.", "a mattress"),)
    assert found[1].turns == (("q", "a"), ("r", "b"))
    assert found[3].turns == (("Go on", "Yes"),)
    assert found[4].turns == (("Hi", "Hello"),)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"image": "coco/none.jpg"}, r"record 1: picture .*coco/none\.jpg is missing"),
        ({"conversations": []}, r"line 1, key 'conversations': expected a list"),
        ({"image": None}, r"1 <image> for 0 pictures"),
        ({"image": "nan"}, r"1 <image> for 0 pictures"),
        ({"image": ["coco/a.jpg", "coco/b.jpg"]}, r"key 'image': a list of 2; a record is about one picture"),
        ({"conversations": turns("a cat", first="gpt")}, r"line 1, key 'conversations': expected a list"),
    ],
)
def test_a_record_that_cannot_be_learnt_from_is_named(
    place: Path, fault: dict[str, object], message: str
) -> None:
    (place / "lines.jsonl").write_text(json.dumps(ROWS[0] | fault) + "\n")
    lock_sources(settings=place / "lock.json", output=place / "own.lock.yaml")
    with pytest.raises(StudyError, match=message):
        stage(place, "align")


def test_files_that_are_missing_cut_off_or_not_locked_are_told(place: Path) -> None:
    text = (place / "list.json").read_text()
    (place / "list.json").write_text(text[:-5])
    lock_sources(settings=place / "lock.json", output=place / "own.lock.yaml")
    with pytest.raises(StudyError, match=r"list\.json: cannot be read as records"):
        stage(place, "tune")
    (place / "own.lock.yaml").write_text("study: own\nsources: {}\n")
    with pytest.raises(StudyError, match="the records for tune are not locked"):
        stage(place, "tune")
    (place / "list.json").unlink()
    with pytest.raises(StudyError, match=r"list\.json: no such file of records"):
        stage(place, "tune")
