"""Framed pictures: what a store holds is what reading the files gives, and no job then decodes a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_study import ALIGN, TUNE, TinyStudy, write_tiny_study

import encoder_roles.data.pictures
from encoder_roles.data.frame_pictures import frame_pictures, picture_names
from encoder_roles.data.picture_store import PictureStore, write_store
from encoder_roles.data.pictures import PictureReader
from encoder_roles.effective_rank.measure import measure_pretrained_ranks
from encoder_roles.encoders.framing import Frame, frame_picture
from encoder_roles.evaluation.predict import predict_masks, predict_subset
from encoder_roles.provenance import write_jsonl
from encoder_roles.study.names import StudyError
from encoder_roles.training.align import train_align
from encoder_roles.training.tune import train_tune

FRAMES = (Frame("squash", 12), Frame("pad", 16, (9, 9, 9)), Frame("crop", 8), Frame("squash", 10, own=True))
PREDICT = {"batch_tokens": 200, "threads": 1, "precision": "fp32"}
RANK = {"study": "tiny", "grid": 2, "pictures": 8, "resamples": 4, "level": 0.95, "seed": 0, "threads": 1}
SUBSET = "clip+sam"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=5))
def test_a_store_holds_what_framing_each_picture_gives(tmp_path: Path, sizes: list[tuple[int, int]]) -> None:
    random = np.random.default_rng(0)
    pictures = [torch.from_numpy(random.integers(0, 256, (3, *size), dtype=np.uint8)) for size in sizes]
    framed = [frame_picture(picture, FRAMES) for picture in pictures]
    names = [f"pictures/{number}.png" for number in range(len(pictures))]
    write_store(names, framed, FRAMES, tmp_path / "framed")
    reader = PictureReader(FRAMES, PictureStore([tmp_path / "framed"], tmp_path))
    for size in (1, 2):
        portions = reader.portions([tmp_path / name for name in names], size)
        stored = [picture for portion in portions for picture in portion]
        for picture, expected in zip(stored, framed, strict=True):
            assert picture.keys() == expected.keys()
            assert all(torch.equal(picture[frame], expected[frame]) for frame in FRAMES)


def test_framing_loads_no_network(study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encoder_roles.encoders.loading.load_source", lambda *_: pytest.fail("a network"))
    frame_pictures(
        encoders=tuple(study.encoders.values()), records=study.data, output=tmp_path / "framed", threads=1
    )
    assert list((tmp_path / "framed").glob("*.npy"))


def test_pictures_of_two_sizes_in_one_frame_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    frame = Frame("longest", 20)
    pictures = [torch.zeros(3, *size, dtype=torch.uint8) for size in ((30, 30), (30, 20))]
    framed = [frame_picture(picture, [frame]) for picture in pictures]
    with pytest.raises(StudyError, match=r"b\.png: 20 x 13 pixels when framed by longest.*pictures: read"):
        write_store(["a.png", "b.png"], framed, [frame], tmp_path / "framed")
    assert not list(tmp_path.iterdir())


def test_what_a_store_lacks_is_named(tmp_path: Path) -> None:
    picture = torch.zeros(3, 8, 8, dtype=torch.uint8)
    write_store(["a.png"], [frame_picture(picture, FRAMES[:1])], FRAMES[:1], tmp_path / "framed")
    store = PictureStore([tmp_path / "framed"], tmp_path)
    with pytest.raises(StudyError, match=r"framed: no picture .*b\.png; frame the pictures again"):
        store.framed(tmp_path / "b.png", FRAMES[:1])
    with pytest.raises(StudyError, match="no pictures framed by pad to 16 pixels"):
        store.framed(tmp_path / "a.png", FRAMES)
    (tmp_path / "framed/0.squash12.npy").write_bytes(b"")
    with pytest.raises(StudyError, match=r"framed: not framed pictures .*; frame them again"):
        PictureStore([tmp_path / "framed"], tmp_path)


def test_records_and_requests_name_each_of_their_pictures_once(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "records.jsonl", [{"image": "a"}, {"image": "b"}, {"text": 1}, {"image": "a"}])
    write_jsonl(tmp_path / "requests.jsonl", [{"images": ["c", "a"]}, {"images": []}])
    assert picture_names([tmp_path / "records.jsonl"]) == ["a", "b"]
    assert picture_names([tmp_path / "records.jsonl", tmp_path / "requests.jsonl"]) == ["a", "b", "c"]
    (tmp_path / "records.jsonl").write_text("[1]\n")
    with pytest.raises(StudyError, match=r"records\.jsonl: not a list of pictures"):
        picture_names([tmp_path / "records.jsonl"])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> TinyStudy:
    """A tiny study with its training pictures and those of its requests framed, a folder per encoder."""
    study = write_tiny_study(tmp_path_factory.mktemp("framed"))
    for name, folder in study.encoders.items():
        frame_pictures(encoders=(folder,), records=study.data, output=study.root / f"framed/train/{name}")
        frame_pictures(encoders=(folder,), requests=study.requests, output=study.root / f"framed/ask/{name}")
    return study


def run_everything(study: TinyStudy, output: Path, train: tuple[Path, ...], ask: tuple[Path, ...]) -> None:
    """Every command that reads pixels, into a folder."""
    encoders, language = tuple(study.encoders.values()), study.language_model
    model = {"subset": SUBSET, "seed": 0, "encoders": encoders, "language_model": language}
    align = ALIGN | {"align": ALIGN["align"] | {"features": "computed"}}
    train_align(
        **model,
        settings=study.settings("align", align),
        data=study.data,
        restart=output / "restart_align",
        output=output / "align",
        pictures=train,
    )
    train_tune(
        **model,
        settings=study.settings("tune", TUNE),
        align=output / "align",
        data=study.data,
        restart=output / "restart_tune",
        output=output / "tune",
        pictures=train,
    )
    inputs = {"requests": study.requests, "model": output / "tune", "pictures": ask}
    predict = study.settings("predict", PREDICT)
    predict_subset(**inputs, settings=predict, subset=SUBSET, output=output / "answers")
    predict_masks(
        **inputs,
        settings=study.settings("masks", PREDICT | {"calibration_pictures": 8}),
        operator="mean",
        masks=("clip", "none"),
        data=study.data,
        output_root=output / "masked",
        calibration_pictures=train,
    )
    measure_pretrained_ranks(
        settings=study.settings("effective_rank", RANK),
        encoders=list(encoders),
        data=study.data,
        **{name: output / f"{name}.csv" for name in ("output", "curve", "draws", "spectra")},
        pictures=train,
    )


def test_jobs_with_framed_pictures_decode_no_file_and_write_the_same_bytes(
    study: TinyStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_everything(study, tmp_path / "read", (), ())
    folders = [
        tuple(study.root / f"framed/{pictures}/{name}" for name in study.encoders)
        for pictures in ("train", "ask")
    ]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a picture file was opened")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(AssertionError, match="a picture file was opened"):
        encoder_roles.data.pictures.read_picture(study.requests / "images/0.png")
    run_everything(study, tmp_path / "stored", *folders)
    measured = ("training.json", "log.jsonl", "prediction.json")  # seconds and memory
    files = [p.relative_to(tmp_path / "read") for p in sorted((tmp_path / "read").rglob("*")) if p.is_file()]
    assert {"model.safetensors", "mme.jsonl", "output.csv"} <= {file.name for file in files}
    for file in files:
        if file.name not in measured:
            assert (tmp_path / "stored" / file).read_bytes() == (tmp_path / "read" / file).read_bytes(), file


def test_the_index_says_what_was_framed_how(study: TinyStudy) -> None:
    index = json.loads((study.root / "framed/train/clip/index.json").read_text())
    assert index["pictures"][:2] == ["pictures/0.png", "pictures/1.png"]
    assert [entry["frame"]["aspect"] for entry in index["frames"]] == ["squash"]


def test_either_records_or_requests_are_framed(study: TinyStudy, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="give either --records or --requests"):
        frame_pictures(encoders=tuple(study.encoders.values()), output=tmp_path / "framed")
