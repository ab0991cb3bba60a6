"""Features and ranks of encoders, by the commands the workflow runs."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import tiny_encoders
import torch
from PIL import Image
from tiny_language_model import write_tiny_language_model

from encoder_roles.data.features import extract_features, read_features
from encoder_roles.effective_rank.measure import measure_pretrained_ranks, measure_ranks
from encoder_roles.effective_rank.spectra import effective_rank
from encoder_roles.effective_rank.tables import COLUMNS, collect_ranks
from encoder_roles.encoders.loading import load_encoder
from encoder_roles.models.grid import resample_grid
from encoder_roles.models.vlm import MultiEncoderVLM
from encoder_roles.provenance import write_json, write_jsonl
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import ConnectorSettings

GRID = 2
POOL = ("clip", "dinov2")


class Study:
    """A folder with probe and training pictures, two staged encoders and the pretrained ranks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.encoders = tiny_encoders.write_pool(folder / "encoders", POOL)
        self.language_model = write_tiny_language_model(folder / "language_model")
        self.pictures = tiny_encoders.pictures(24)
        (folder / "pictures").mkdir()
        for number, picture in enumerate(self.pictures):
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / "pictures" / f"{number}.png")
        names = [f"pictures/{n}.png" for n in range(24)]
        write_jsonl(folder / "probe.jsonl", ({"id": n, "image": n} for n in names))
        turns = [{"from": "human", "value": "<image>\nwhat ?"}, {"from": "gpt", "value": "red"}]
        order = [3, 3, 0, 7, 0]
        write_jsonl(
            folder / "train.jsonl",
            ({"id": str(i), "image": names[n], "conversations": turns} for i, n in enumerate(order)),
        )
        write_json(folder / "features.json", {"grid": GRID, "threads": 1})
        self.settings(pictures=24)

    def settings(self, **changes: int) -> Path:
        row = {"study": "t", "grid": GRID, "resamples": 50, "level": 0.95, "seed": 0, "threads": 1} | changes
        write_json(self.folder / "rank.json", row)
        return self.folder / "rank.json"

    def pretrained(self, settings: Path, output: str = "pretrained") -> Path:
        measure_pretrained_ranks(
            settings=settings,
            encoders=list(self.encoders.values()),
            data=self.folder / "probe.jsonl",
            output=self.folder / f"{output}.csv",
            curve=self.folder / f"{output}_curve.csv",
            draws=self.folder / f"{output}_draws.csv",
            spectra=self.folder / f"{output}_spectra.csv",
        )
        return self.folder / f"{output}.csv"

    def model(self, subset: str, noise: float) -> Path:
        parts = {name: self.encoders[name] for name in subset.split("+")}
        model = MultiEncoderVLM.from_sources(parts, self.language_model, ConnectorSettings(grid=GRID), 0)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.encoders.parameters():
                weight.add_(noise * torch.randn(weight.shape, generator=generator))
        model.save_pretrained(self.folder / subset)
        return self.folder / subset

    def trained(self, subset: str, noise: float = 0.0, seed: int = 0) -> list[dict[str, str]]:
        output = self.folder / f"{subset}.csv"
        measure_ranks(
            settings=self.folder / "rank.json",
            subset=subset,
            seed=seed,
            model=self.model(subset, noise),
            data=self.folder / "probe.jsonl",
            pretrained=self.folder / "pretrained.csv",
            draws=self.folder / "pretrained_draws.csv",
            output=output,
            spectra=self.folder / f"{subset}_spectra.csv",
        )
        return rows(output)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    result = Study(tmp_path_factory.mktemp("study"))
    result.pretrained(result.settings(pictures=24))
    return result


def test_features_are_the_encoders_own_in_order_of_first_appearance(study: Study) -> None:
    output = study.folder / "features" / "dinov2.safetensors"
    folder = study.encoders["dinov2"]
    data = study.folder / "train.jsonl"
    extract_features(settings=study.folder / "features.json", encoder=folder, data=data, output=output)
    pictures, features = read_features(output)
    assert pictures == [f"pictures/{n}.png" for n in (3, 0, 7)]
    encoder = load_encoder(folder)
    with torch.no_grad():
        expected = resample_grid(encoder(encoder.preprocess(study.pictures[[3, 0, 7]])), GRID)
    assert torch.equal(features, expected)
    first = output.read_bytes()
    extract_features(settings=study.folder / "features.json", encoder=folder, data=data, output=output)
    assert output.read_bytes() == first
    output.write_bytes(first[:-8])
    with pytest.raises(StudyError, match=r"dinov2\.safetensors: not a whole file"):
        read_features(output)


def test_pretrained_ranks_are_those_of_a_direct_decomposition(study: Study) -> None:
    for row in rows(study.folder / "pretrained.csv"):
        encoder = load_encoder(study.encoders[row["encoder"]])
        with torch.no_grad():
            features = resample_grid(encoder(encoder.preprocess(study.pictures)), GRID)
        x = features.reshape(-1, encoder.width).double().numpy()
        sigma = np.linalg.svd(x - x.mean(0), compute_uv=False)
        share = sigma / sigma.sum()
        assert float(row["erank"]) == pytest.approx(np.exp(-(share * np.log(share)).sum()), rel=1e-4)
        assert float(row["erank_low"]) < float(row["erank"]) < float(row["erank_high"])
        assert float(row["erank_per_width"]) == pytest.approx(float(row["erank"]) / encoder.width)
        assert (row["subset"], row["ratio"], row["ratio_solo"]) == ("pretrained", "1.0", "")
        assert (row["pictures"], row["tokens"]) == ("24", str(24 * GRID * GRID))


def test_the_curve_ends_at_the_rank_itself(study: Study) -> None:
    curve = rows(study.folder / "pretrained_curve.csv")
    for row in rows(study.folder / "pretrained.csv"):
        points = [point for point in curve if point["encoder"] == row["encoder"]]
        assert points[-1]["pictures"] == "24"
        assert float(points[-1]["erank"]) == pytest.approx(float(row["erank"]), rel=1e-12)


def test_an_encoder_that_training_left_alone_has_ratio_one_without_spread(study: Study) -> None:
    (row,) = study.trained("clip")
    for column in ("ratio", "ratio_low", "ratio_high"):
        assert float(row[column]) == pytest.approx(1.0, abs=1e-9)


def test_ranks_after_training_are_compared_with_before_and_with_solo(study: Study) -> None:
    pair, solo = study.trained("clip+dinov2", 0.2), study.trained("dinov2", 0.1)
    before = {row["encoder"]: float(row["erank"]) for row in rows(study.folder / "pretrained.csv")}
    for row in pair:
        assert float(row["ratio"]) == pytest.approx(float(row["erank"]) / before[row["encoder"]])
        assert float(row["ratio_low"]) < float(row["ratio"]) < float(row["ratio_high"])
    output = study.folder / "ranks.csv"
    names = ("dinov2", "clip+dinov2")
    collect_ranks(
        pretrained=study.folder / "pretrained.csv",
        trained=[study.folder / f"{name}.csv" for name in names],
        output=output,
        pretrained_spectra=study.folder / "pretrained_spectra.csv",
        trained_spectra=[study.folder / f"{name}_spectra.csv" for name in names],
        spectra=study.folder / "spectra.csv",
    )
    table = rows(output)
    assert tuple(table[0]) == COLUMNS
    assert [r["subset"] for r in table] == ["pretrained"] * 2 + ["dinov2"] + ["clip+dinov2"] * 2
    solo_ratio = {(r["subset"], r["encoder"]): r["ratio_solo"] for r in table}
    assert float(solo_ratio["dinov2", "dinov2"]) == 1.0
    expected = float(pair[1]["erank"]) / float(solo[0]["erank"])
    assert float(solo_ratio["clip+dinov2", "dinov2"]) == pytest.approx(expected)
    assert solo_ratio["clip+dinov2", "clip"] == ""  # no model of clip alone in this table


def test_the_published_spectra_are_those_the_ranks_are_of(study: Study) -> None:
    study.trained("clip+dinov2", 0.2)
    for table, spectra in (("pretrained", "pretrained_spectra"), ("clip+dinov2", "clip+dinov2_spectra")):
        result = rows(study.folder / f"{spectra}.csv")
        for row in rows(study.folder / f"{table}.csv"):
            sigma = np.array([float(r["sigma"]) for r in result if r["encoder"] == row["encoder"]])
            assert len(sigma) == int(row["width"])
            assert (np.diff(sigma) <= 0).all()
            assert float(effective_rank(sigma)) == pytest.approx(float(row["erank"]))
            energy = (sigma**2).sum() / sigma[0] ** 2 / len(sigma)
            assert float(row["stable_rank_per_width"]) == pytest.approx(energy)


def test_a_rerun_writes_the_same_bytes(study: Study) -> None:
    again = study.pretrained(study.folder / "rank.json", output="again")
    assert again.read_bytes() == (study.folder / "pretrained.csv").read_bytes()
    assert (
        again.with_name("again_draws.csv").read_bytes()
        == again.with_name("pretrained_draws.csv").read_bytes()
    )


def test_ranks_of_other_pictures_are_not_compared(study: Study) -> None:
    try:
        study.settings(pictures=20)
        with pytest.raises(StudyError, match="pictures 24, here it is 20"):
            study.trained("clip")
        study.settings(pictures=25)
        with pytest.raises(StudyError, match=r"probe\.jsonl: 24 pictures"):
            study.trained("clip")
        study.settings(pictures=24, grid=4)
        with pytest.raises(StudyError, match="grid of 2"):
            study.trained("clip")
    finally:
        study.settings(pictures=24)


def test_a_damaged_picture_or_table_is_named(study: Study, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "probe.jsonl", [{"id": "a", "image": "missing.png"}] * 24)
    with pytest.raises(StudyError, match=r"missing\.png: no such picture"):
        measure_pretrained_ranks(
            settings=study.folder / "rank.json",
            encoders=[study.encoders["clip"]],
            data=tmp_path / "probe.jsonl",
            output=tmp_path / "ranks.csv",
            curve=tmp_path / "curve.csv",
            draws=tmp_path / "draws.csv",
            spectra=tmp_path / "spectra.csv",
        )
    assert not list(tmp_path.glob("*.csv"))
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(StudyError, match=r"other\.csv: not a table of ranks"):
        collect_ranks(
            pretrained=tmp_path / "other.csv",
            trained=[],
            output=tmp_path / "ranks.csv",
            pretrained_spectra=study.folder / "pretrained_spectra.csv",
            trained_spectra=[],
            spectra=tmp_path / "spectra.csv",
        )
