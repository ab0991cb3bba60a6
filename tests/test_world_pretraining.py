"""Pretraining: objectives learn, reruns are equal bytes, the libraries' own loaders read what was saved."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from encoder_roles.encoders.loading import load_source
from encoder_roles.provenance import sha256_of
from encoder_roles.study.config import load_study
from encoder_roles.study.names import StudyError
from encoder_roles.world.drawing import draw_many, segment
from encoder_roles.world.gates import read_gates
from encoder_roles.world.pretraining import probes
from encoder_roles.world.pretraining.captions import INDEX, TextTower, encode_phrases, same_caption
from encoder_roles.world.pretraining.commands import build, pretrain_encoder
from encoder_roles.world.pretraining.dinov2 import sinkhorn
from encoder_roles.world.pretraining.loop import Objective, rate, train
from encoder_roles.world.pretraining.pictures import Album, draw_album
from encoder_roles.world.pretraining.recipes import ENCODERS, MARGIN
from encoder_roles.world.pretraining.sam import BACKGROUND, CELLS, EDGE, INSIDE, cell_targets
from encoder_roles.world.sampling import sample_scenes

torch.set_num_threads(1)
NAMES = tuple(ENCODERS)


def album_of(name: str, pictures: int = 96) -> Album:
    recipe = ENCODERS[name].recipe
    return draw_album(sample_scenes(0, "train", recipe.mix, pictures), recipe.pixels)


def run(name: str, steps: int) -> tuple[Objective, list[float]]:
    objective = build(ENCODERS[name], seed=0)
    generator = torch.Generator().manual_seed(0)
    return objective, train(objective, album_of(name), ENCODERS[name].recipe, steps, generator)


@pytest.mark.parametrize("name", NAMES)
def test_every_objective_lowers_its_loss_within_a_few_steps(name: str) -> None:
    _, losses = run(name, 24)
    assert np.mean(losses[-4:]) < 0.97 * np.mean(losses[:2])


@pytest.mark.parametrize("name", NAMES)
def test_a_rerun_saves_the_same_bytes(name: str, tmp_path: Path) -> None:
    for copy in ("first", "second"):
        (tmp_path / copy).mkdir()
        run(name, 2)[0].save(tmp_path / copy)
    files = sorted(file.name for file in (tmp_path / "first").iterdir())
    assert any(file.endswith(".safetensors") for file in files)
    for file in files:
        assert sha256_of(tmp_path / "first" / file) == sha256_of(tmp_path / "second" / file)


def test_pretraining_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    run("siglip", 1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", [name for name in NAMES if ENCODERS[name].library == "transformers"])
def test_transformers_itself_loads_a_saved_encoder(name: str, tmp_path: Path) -> None:
    import transformers

    objective, _ = run(name, 1)
    objective.save(tmp_path)
    trained = objective.teacher[0] if name == "dinov2" else objective.vision  # type: ignore[attr-defined]
    loaded = getattr(transformers, type(objective.vision).__name__).from_pretrained(tmp_path)
    pixels = album_of(name, 4).pixels(torch.arange(4))
    with torch.no_grad():
        there, here = (m.eval()(pixel_values=pixels).last_hidden_state for m in (loaded, trained))
    assert torch.equal(there, here)


def test_open_clip_itself_loads_the_saved_convnext(tmp_path: Path) -> None:
    import open_clip

    objective, _ = run("convnext", 1)
    objective.save(tmp_path)
    loaded, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    pixels = album_of("convnext", 4).pixels(torch.arange(4))
    with torch.no_grad():
        trained = objective.model.eval()  # type: ignore[attr-defined]
        assert torch.equal(loaded.eval().encode_image(pixels), trained.encode_image(pixels))


@pytest.mark.parametrize("name", NAMES)
def test_the_pinned_encoder_is_the_one_the_config_reads(name: str) -> None:
    spec = load_study(Path("config.yaml")).encoders[name]
    plan = ENCODERS[name].spec
    assert (spec.library, spec.pixels, spec.mean, spec.std) == (
        plan.library,
        plan.pixels,
        plan.mean,
        plan.std,
    )
    folder = Path(spec.source)
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, file = line.split()
        assert sha256_of(folder / file) == digest
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1_600_000
    encoder = load_source(name, spec, folder)
    pictures = torch.zeros(1, 3, 96, 96, dtype=torch.uint8)
    assert encoder(encoder.preprocess(pictures)).shape[-1] == encoder.width


@pytest.mark.parametrize("name", NAMES)
def test_the_pinned_encoder_is_well_above_the_untrained_network_in_each_of_its_skills(name: str) -> None:
    rows = {row["gate"]: row for row in read_gates(Path("sources/laptop/encoders") / name / "gates.csv")}
    assert {gate for gate, row in rows.items() if row["threshold"]} == set(ENCODERS[name].skills)
    for skill in ENCODERS[name].skills:
        assert float(rows[skill]["value"]) >= float(rows[f"{skill} untrained"]["high"]) + MARGIN


def test_the_command_writes_encoder_sums_gates_and_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PICTURES", {"train": 40, "development": 20})
    probes._pictures.cache_clear()
    monkeypatch.setattr(type(ENCODERS["sam"]), "recipe", _short(ENCODERS["sam"].recipe))
    pretrain_encoder(encoder="sam", output=tmp_path / "sam", steps=2)
    probes._pictures.cache_clear()
    folder = tmp_path / "sam"
    assert {file.name for file in folder.iterdir()} == {
        "config.json", "model.safetensors", "SHA256SUMS", "gates.csv", "README.md"
    }  # fmt: skip
    with (folder / "gates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["gate"] for row in rows} == {f"{s}{end}" for s in probes.SKILLS for end in ("", " untrained")}
    assert (
        f"{json.loads((folder / 'config.json').read_text())['image_size']} x"
        in (folder / "README.md").read_text()
    )


def _short(recipe: object) -> object:
    import dataclasses

    return dataclasses.replace(recipe, pictures=80)  # type: ignore[type-var]


def test_an_unknown_encoder_or_no_steps_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"'resnet'.*known: clip"):
        pretrain_encoder(encoder="resnet", output=tmp_path)
    with pytest.raises(StudyError, match="steps is 0"):
        pretrain_encoder(encoder="clip", output=tmp_path, steps=0)


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [rate(step, 500, 50) for step in range(500)]
    assert rates[49] == rates[50] == 1.0
    assert all(a < b for a, b in itertools.pairwise(rates[:50]))
    assert all(a > b for a, b in itertools.pairwise(rates[50:]))
    assert rates[-1] < 1e-3


def test_a_caption_is_the_same_in_any_order_of_phrases_but_not_of_words() -> None:
    first = [("red", "star"), ("blue", "circle")]
    turned, swapped = first[::-1], [("red", "circle"), ("blue", "star")]
    assert same_caption([first, turned, swapped]).tolist() == [
        [True, True, False], [True, True, False], [False, False, True]
    ]  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tower = TextTower(16)
    embedded = tower(encode_phrases([first, turned, swapped]))
    assert torch.allclose(embedded[0], embedded[1], atol=1e-6)
    assert not torch.allclose(embedded[0], embedded[2], atol=1e-3)


def test_padding_says_nothing() -> None:
    tower = TextTower(16)
    alone = encode_phrases([[("red", "star")]])
    padded = encode_phrases([[("red", "star")], [("red",), ("blue",), ("green",)]])[:1]
    assert torch.allclose(tower(alone), tower(padded), atol=1e-6) and INDEX[""] == 0


def test_sinkhorn_uses_prototypes_evenly_and_rows_sum_to_one() -> None:
    scores = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)) * 0.1 + torch.linspace(0, 1, 8)
    shares = sinkhorn(scores, rounds=50)
    assert torch.allclose(shares.sum(1), torch.ones(64), atol=1e-4)
    assert torch.allclose(shares.sum(0), torch.full((8,), 8.0), atol=0.05)
    assert torch.isfinite(shares).all()


def test_sam_targets_are_exact_on_a_planted_square() -> None:
    segments = np.zeros((96, 96), np.uint8)
    segments[8:24, 40:58] = 1  # 16 rows and 18 columns: the last two fill half a cell
    classes, geometry = cell_targets(segments)
    assert classes.shape == (CELLS, CELLS)
    assert (classes[2:6, 10:14] == INSIDE).all() and (classes[2:6, 14] == EDGE).all()
    assert (classes != BACKGROUND).sum() == 4 * 5
    row, column, size = geometry[2, 10].astype(float)
    assert row == pytest.approx((16 - 10) / 48, abs=1e-3)  # from the cell's middle down to the square's
    assert column == pytest.approx((49 - 42) / 48, abs=1e-3)
    assert size == pytest.approx(np.log(16 * 18 / 48**2), abs=1e-2)


def test_a_readout_finds_what_is_there_and_nothing_in_noise() -> None:
    """A probe of features that are the pixels themselves reads colours; of shuffled features, only chance."""

    class Pixels(torch.nn.Module):
        def preprocess(self, pictures: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.avg_pool2d(pictures.float(), 12)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            cells = torch.nn.functional.pixel_unshuffle(pixels, 2)
            return cells.permute(0, 2, 3, 1)

    class Noise(Pixels):
        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.randn(len(pixels), 4, 4, 8, generator=torch.Generator().manual_seed(0))

    seen = probes.probe(Pixels(), ["colour"])["colour"]  # type: ignore[arg-type]
    noise = probes.probe(Noise(), ["colour"])["colour"]  # type: ignore[arg-type]
    assert seen.low > 60 > 30 > noise.high
    assert seen.low < seen.value < seen.high and seen.n > 500


def test_train_pictures_of_an_encoder_are_train_scenes_only() -> None:
    for name in NAMES:
        scenes = sample_scenes(0, "train", ENCODERS[name].recipe.mix, 50)
        assert all(scene.id.startswith("train-") for scene in scenes)
        assert (segment(scenes[0]) > 0).any() and draw_many(scenes[:1]).any()
