"""A user's own records: checked against their lock and the pictures, then read like the world's."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from picture_files import write_png_header
from PIL import Image
from tiny_language_model import write_tiny_language_model

from encoder_roles.data.llava import read_records
from encoder_roles.data.pictures import decode_picture
from encoder_roles.provenance import read_jsonl, sha256_of, write_json
from encoder_roles.sources import checked_pictures
from encoder_roles.sources.lock import lock_sources, read_lock
from encoder_roles.sources.records import stage_records
from encoder_roles.study.names import DataError, StudyError

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


def stage(place: Path, name: str, language_model: Path | None = None) -> Path:
    output = place / "results/data" / name
    stage_records(
        settings=place / "lock.json",
        lock=place / "own.lock.yaml",
        name=name,
        output=output,
        language_model=language_model,
    )
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
    result = list(read_records(lines))
    pictures = [(lines.parent / r.image).resolve().name if r.image else None for r in result]
    assert pictures == ["a.jpg", "b.jpg", None, None, None, "a.jpg", None, None, None, None]
    assert [r.id for r in result][5:8] == ["7", "7", "8"]  # the second by its number
    assert result[0].turns == (("Describe it.", "a mattress"),)
    assert result[1].turns == (("q", "a"), ("r", "b"))
    assert result[3].turns == (("Go on", "Yes"),)
    assert result[4].turns == (("Hi", "Hello"),)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"image": "coco/none.jpg"}, r"of record 1: .*coco/none\.jpg: no such picture"),
        (
            {"conversations": []},
            r"record 1, key 'conversations': expected human and gpt turns in turn, not 'none'",
        ),
        ({"image": None}, r"1 <image> for 0 pictures"),
        ({"image": "nan"}, r"1 <image> for 0 pictures"),
        ({"image": ["coco/a.jpg", "coco/b.jpg"]}, r"key 'image': a list of 2; a record is about one picture"),
        (
            {"conversations": turns("a cat", first="gpt")},
            r"record 1, key 'conversations': expected human and",
        ),
        ({"conversations": "hi"}, r"record 1, key 'conversations': expected a list of turns"),
        (
            {"conversations": [TURNS[0] | {"from": "user"}, TURNS[1]]},
            r"conversations.0.from': expected 'human', not 'user'",
        ),
        (
            {"conversations": [{"from": "system", "value": "Be brief."}, *TURNS]},
            r"not 'system, human, gpt'",
        ),
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


@pytest.mark.parametrize(("name", "file"), [("align", "lines.jsonl"), ("probe", "probe.jsonl")])
@pytest.mark.parametrize("key", ["image", "images"])
def test_a_list_of_one_picture_is_that_picture(place: Path, key: str, name: str, file: str) -> None:
    row = {"id": "one", "conversations": TURNS}
    (place / file).write_text(json.dumps(row | {key: ["coco/a.jpg"]}) + "\n")
    lock_sources(settings=place / "lock.json", output=place / "own.lock.yaml")
    (record,) = read_jsonl(stage(place, name))
    assert str(record["image"]).endswith("coco/a.jpg")


def relock(place: Path, data: bytes, name: str = "align") -> Path:
    """Stage other bytes as the records."""
    (place / ("list.json" if name == "tune" else "lines.jsonl")).write_bytes(data)
    lock_sources(settings=place / "lock.json", output=place / "own.lock.yaml")
    return stage(place, name)


def ids_of(place: Path, *ids: object) -> list[str]:
    """The ids as staged; None: a record without one."""
    body = {"image": "coco/a.jpg", "conversations": TURNS}
    rows = [body if id is None else {"id": id, **body} for id in ids]
    return [record.id for record in read_records(relock(place, "\n".join(map(json.dumps, rows)).encode()))]


def test_any_text_or_whole_number_is_an_id(place: Path) -> None:
    assert ids_of(place, 0, 1, 2) == ["0", "1", "2"]
    assert ids_of(place, 1.0, 0.0, -3, "x", "0", 10**18) == ["1", "0", "-3", "x", "0", "1" + 18 * "0"]


def test_a_record_without_an_id_gets_its_place(place: Path) -> None:
    assert ids_of(place, None, None, "x", None) == ["1", "2", "x", "4"]
    assert ids_of(place, float("nan"), "x") == ["1", "x"]  # as pandas writes what is missing
    (place / "probe.jsonl").write_text('{"image": "coco/b.jpg"}\n{"id": 1, "image": "coco/a.jpg"}\n')
    lock_sources(settings=place / "lock.json", output=place / "own.lock.yaml")
    assert [row["id"] for row in read_jsonl(stage(place, "probe"))] == ["1", "1"]


@pytest.mark.parametrize("id", [True, False, 1.5, float("inf"), 2.0**53, "", [], {}])
def test_truth_fractions_and_empty_text_are_no_ids(place: Path, id: object) -> None:
    with pytest.raises(DataError, match=r"lines\.jsonl.*record 1, key 'id': expected text or a whole"):
        ids_of(place, id)


LINES = [json.dumps(row).encode() for row in ROWS]
LIST = b"[" + b", ".join(LINES) + b"]"
BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    "data",
    [
        b"\n".join(LINES),
        b"\n".join(LINES) + b"\n\n",
        b"\r\n".join(LINES) + b"\r\n",
        b"\n \n" + b"\n\n".join(LINES) + b"\n\t\n",
        BOM + b"\n".join(LINES),
        b"  " + LINES[0] + b"\n  " + LINES[1],
        LIST,
        b"\n" + LIST,
        b" \r\n\t" + LIST + b"\n\n",
        BOM + b"\n" + LIST,
        json.dumps(ROWS, indent=1).encode(),
    ],
)
def test_blank_lines_spaces_and_a_mark_of_utf8_do_not_matter(place: Path, data: bytes) -> None:
    assert relock(place, data).read_text() == relock(place, b"\n".join(LINES)).read_text()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"no records"),
        (BOM + b"\n \n", r"no records"),
        (b"[]", r"no records"),
        (json.dumps(ROWS).encode("utf-16"), r"line 1: not UTF-8"),
        (json.dumps(ROWS).encode("utf-16-le"), r"cannot be read as records"),
        (json.dumps(ROWS).encode("utf-32"), r"line 1: not UTF-8"),
        (LINES[0] + b"\n" + LINES[1].replace(b"Hi", b"H\xefe"), r"line 2: not UTF-8 .*0xef"),
        (LIST.replace(b"Hi", b"H\xefe"), r"cannot be read as records .*0xef"),
        (LIST + b"\n]", r"cannot be read as records .*Extra data"),
        (b"[" * 100_000, r"cannot be read as records"),
        (b'{"id": ' + b"[" * 100_000, r"line 1: not JSON"),
        (b'{"id": ' + b"9" * 5000 + b"}", r"line 1: not JSON"),
        (json.dumps(ROWS[0], indent=1).encode(), r"line 1: not JSON"),
    ],
)
def test_a_file_that_is_no_records_is_one_line(place: Path, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=rf"lines\.jsonl.*{message}") as fault:
        relock(place, data)
    assert "\n" not in str(fault.value)
    assert not (place / "results/data/align").exists()


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("a cat", "\\ud800", "conversations.1.value"),
        ("What", "\\udfff", "conversations.0.value"),
        ("one", "\\ud83d", "id"),
        ("coco/a", "coco/\\ud800", "image"),
        ("coco/a", "coco\\u0000", "image"),
        ("coco/a", "coco\\n", "image"),
    ],
)
def test_half_a_character_is_named_by_record_and_key(place: Path, old: str, new: str, key: str) -> None:
    data = LINES[0].decode().replace(old, new, 1).encode()
    with pytest.raises(DataError, match=rf"lines\.jsonl.*record 2, key '{key}'") as fault:
        relock(place, LINES[1] + b"\n" + data)
    assert "\n" not in str(fault.value)


def test_every_bad_picture_is_listed_once_with_its_reason(place: Path) -> None:
    folder = place / "pictures/coco"
    whole = (folder / "a.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[:-100])
    (folder / "page.jpg").write_text("<html>404</html>")
    Image.fromarray(np.zeros((4, 4), np.float32)).save(folder / "deep.tif")
    write_png_header(folder / "huge.png", 14_000, 14_000)
    names = ("cut.jpg", "a.jpg", "page.jpg", "deep.tif", "huge.png", "none.jpg", "page.jpg", "b.jpg")
    rows = [ROWS[0] | {"image": f"coco/{name}"} for name in names]
    with pytest.raises(DataError, match=r"lines\.jsonl: 5 pictures cannot be .*1 too large.*cut\.jpg"):
        relock(place, "\n".join(map(json.dumps, rows)).encode())
    assert not (place / "results/data/align").exists()
    report = place / "results/data/align.faults.csv"
    with report.open(newline="") as file:
        bad = [(int(row["record"]), Path(row["picture"]).name, row["reason"]) for row in csv.DictReader(file)]
    assert bad == [
        (1, "cut.jpg", "truncated"),
        (3, "page.jpg", "not a picture"),
        (4, "deep.tif", "unsupported"),
        (5, "huge.png", "too large"),
        (6, "none.jpg", "missing"),
    ]
    relock(place, "\n".join(map(json.dumps, [rows[1], rows[7]])).encode())
    assert not report.exists()


def test_a_second_run_decodes_only_what_is_new_changed_or_was_bad(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []

    def decode_and_note(path: Path) -> Image.Image:
        decoded.append(path.name)
        return decode_picture(path)

    monkeypatch.setattr(checked_pictures, "decode_picture", decode_and_note)
    folder = place / "pictures/coco"
    (folder / "cut.jpg").write_bytes((folder / "a.jpg").read_bytes()[:-100])
    rows = [ROWS[0] | {"image": f"coco/{name}.jpg"} for name in ("a", "b", "a", "cut")]
    data = "\n".join(map(json.dumps, rows)).encode()
    with pytest.raises(DataError, match="cut"):
        relock(place, data)
    assert sorted(decoded) == ["a.jpg", "b.jpg", "cut.jpg"]
    Image.new("RGB", (9, 9)).save(folder / "b.jpg")
    with (place / "results/data/.align.decoded").open("ab") as memory:
        memory.write(b"cut off")
    decoded.clear()
    with pytest.raises(DataError, match="cut"):
        relock(place, data)
    assert sorted(decoded) == ["b.jpg", "cut.jpg"]
    Image.new("RGB", (9, 9)).save(folder / "cut.jpg")
    decoded.clear()
    relock(place, data)
    assert decoded == ["cut.jpg"]


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language_model")
    write_tiny_language_model(folder)
    return folder


def conversation(question: str, answer: str, picture: str | None = "a.jpg") -> dict[str, object]:
    """A record, as the tiny language model's tokenizer knows its words."""
    image = {} if picture is None else {"image": f"coco/{picture}"}
    return image | {"conversations": turns(("<image>\n" if picture else "") + question, answer)}


def faulty(place: Path, on_fault: str) -> list[dict[str, object]]:
    """Records with one fault of each kind and two good ones, locked; at most 24 tokens, 4 of a picture."""
    (place / "pictures/coco/cut.jpg").write_bytes((place / "pictures/coco/a.jpg").read_bytes()[:-100])
    rows = [
        conversation("what", "red"),
        conversation("what", "red", "cut.jpg"),
        conversation("what " * 30, "red"),
        conversation("what", "unheard"),
        conversation("what", ""),
        conversation("how", "blue", None),
        conversation("how", "blue", "cut.jpg"),
    ]
    (place / "lines.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = json.loads((place / "lock.json").read_text())
    limits = [{"visual_tokens": 1, "max_tokens": 900}, {"visual_tokens": 4, "max_tokens": 24}]
    write_json(place / "lock.json", settings | {"on_fault": on_fault, "limits": limits})
    return rows


def relocked(place: Path) -> None:
    stages = json.loads((place / "lock.json").read_text())
    only = {key: value for key, value in stages.items() if key not in ("on_fault", "limits")}
    write_json(place / "only.json", only)
    lock_sources(settings=place / "only.json", output=place / "own.lock.yaml")


FAULTS = [(2, "truncated"), (3, "too long"), (4, "not learnable"), (5, "wrong record")]


def listed(file: Path) -> list[tuple[int, str]]:
    with file.open(newline="") as lines:
        return [(int(row["record"]), row["reason"]) for row in csv.DictReader(lines)]


def test_all_faults_of_records_stop_the_study_in_one_list(place: Path, language_model: Path) -> None:
    faulty(place, "stop")
    relocked(place)
    with pytest.raises(DataError, match=r"lines\.jsonl: 3 records and 1 picture cannot .* record 2: .*cut"):
        stage(place, "align", language_model)
    assert listed(place / "results/data/align.faults.csv") == FAULTS
    assert not (place / "results/data/align").exists()


def test_what_is_left_out_is_listed_counted_and_hashed(place: Path, language_model: Path) -> None:
    faulty(place, "leave_out")
    relocked(place)
    kept = list(read_records(stage(place, "align", language_model)))
    assert [record.turns for record in kept] == [(("what", "red"),), (("how", "blue"),)]
    folder = place / "results/data/align"
    assert listed(folder / "align.faults.csv") == FAULTS
    with (folder / "align.counts.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    counts = {row["reason"]: int(row["records"]) for row in rows}
    assert counts == {"kept": 2, "not learnable": 1, "too long": 1, "truncated": 2, "wrong record": 1}
    hashes = {row["file_sha256"] for row in rows if row["reason"] != "kept"}
    assert hashes == {sha256_of(folder / "align.faults.csv")}
    assert rows[0]["file_sha256"] == sha256_of(folder / "align.jsonl")


def test_records_that_are_all_faulty_stop_the_study_whatever_it_leaves_out(
    place: Path, language_model: Path
) -> None:
    rows = faulty(place, "leave_out")
    (place / "lines.jsonl").write_text(json.dumps(rows[3]) + "\n")
    relocked(place)
    with pytest.raises(DataError, match=r"lines\.jsonl: 1 record cannot .* no other record is left"):
        stage(place, "align", language_model)
