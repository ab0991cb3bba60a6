"""Where networks compute and how exactly: one device, one precision, one copy of the weights."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_encoders
import torch
from tiny_study import TinyStudy
from torch import Tensor, nn

import encoder_roles.encoders.encoder
import encoder_roles.models.vlm
from encoder_roles.data.features import extract_features, stream_features
from encoder_roles.effective_rank.measure import measure_pretrained_ranks, measure_ranks
from encoder_roles.effective_rank.tables import COLUMNS
from encoder_roles.encoders.compute import choose_device, dtype_of
from encoder_roles.encoders.encoder import Encoder
from encoder_roles.encoders.loading import load_encoder
from encoder_roles.encoders.weights import read_weights
from encoder_roles.evaluation.chat import chat
from encoder_roles.evaluation.predict import predict_masks, predict_subset
from encoder_roles.models.connectors.factory import KINDS
from encoder_roles.models.vlm import MultiEncoderVLM, load_trained_encoders, load_vlm
from encoder_roles.provenance import write_rows
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import CONNECTORS, ConnectorSettings
from encoder_roles.training.distributed import ProcessRank

EVERY = (*tiny_encoders.WRITERS, *tiny_encoders.MORE_WRITERS)
SIZES = {"depth": 1, "heads": 2, "queries": 3, "query_grid": 2, "groups": 2}
RANK = {"study": "t", "grid": 2, "pictures": 8, "resamples": 5, "level": 0.95, "seed": 0, "threads": 1}


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which torch sees two GPUs; torch's own settings are as before afterwards."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_without_a_gpu_networks_run_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == choose_device("cpu") == ProcessRank(local_rank=1).device == torch.device("cpu")
    for device in ("cuda", "cuda:0", "mps", "GPU"):
        with pytest.raises(StudyError, match=f"device '{device}': not one of this machine's, cpu$"):
            choose_device(device)


@pytest.mark.usefixtures("two_gpus")
def test_with_gpus_every_process_has_its_own_and_a_person_may_choose() -> None:
    assert choose_device() == torch.device("cuda", 0)
    assert choose_device(local=1) == ProcessRank(local_rank=1).device == torch.device("cuda", 1)
    assert choose_device("cuda:1") == torch.device("cuda", 1)
    assert choose_device("cpu", local=1) == torch.device("cpu")
    with pytest.raises(StudyError, match=r"'cuda:2': not one of this machine's, cpu, cuda, cuda:0, cuda:1"):
        choose_device("cuda:2")


@pytest.mark.usefixtures("two_gpus")
def test_a_process_that_was_given_one_gpu_alone_takes_it_whatever_its_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert ProcessRank(rank=9, world_size=16, local_rank=1).device == torch.device("cuda", 0)


@pytest.mark.usefixtures("two_gpus")
def test_fp32_is_not_rounded_to_tf32_on_a_gpu() -> None:
    choose_device()
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    with torch.backends.cudnn.flags(enabled=True):  # torch reads its settings back without complaint
        pass


def test_a_wrong_precision_is_named(model: Path) -> None:
    assert (dtype_of("fp32"), dtype_of("bf16")) == (torch.float32, torch.bfloat16)
    with pytest.raises(StudyError, match="precision 'fp16': not one of fp32, bf16"):
        load_vlm(model, "fp16")


class ChosenError(Exception):
    """A command has chosen its device."""


def choose(*_: Any, **__: Any) -> torch.device:
    raise ChosenError


@pytest.mark.parametrize("command", ["features", "pretrained ranks", "ranks", "predict", "masks", "chat"])
def test_every_command_that_runs_a_network_asks_for_its_device(
    study: TinyStudy, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    for room in ("data.features", "effective_rank.measure", "evaluation.predict", "evaluation.chat"):
        monkeypatch.setattr(f"encoder_roles.{room}.choose_device", choose)
    write_rows(tmp_path / "before", COLUMNS, [])
    write_rows(tmp_path / "draws", ("encoder", "resample", "erank"), [])
    encoders = list(study.encoders.values())
    features = study.settings("features", {"grid": 2, "threads": 1})
    probe = {"data": study.data, "settings": study.settings("rank", RANK)}
    tables = {name: tmp_path / name for name in ("output", "draws", "spectra")}
    trained = {"subset": "clip+sam", "seed": 0, "model": model, "pretrained": tmp_path / "before"}
    exam = {"requests": study.requests, "model": model}
    settings = {"batch_tokens": 100, "threads": 1}
    predict, masks = (
        study.settings("p", settings),
        study.settings("m", settings | {"calibration_pictures": 4}),
    )
    options = {"operator": "mean", "masks": ("sam",), "data": study.data, "output_root": tmp_path}
    image = study.requests / "images/0.png"
    commands: dict[str, Callable[[], None]] = {
        "features": lambda: extract_features(
            settings=features, encoder=encoders[0], data=study.data, output=tmp_path / "features"
        ),
        "pretrained ranks": lambda: measure_pretrained_ranks(
            encoders=encoders, curve=tmp_path / "curve", **probe, **tables
        ),
        "ranks": lambda: measure_ranks(**trained, **probe, **tables),
        "predict": lambda: predict_subset(
            settings=predict, subset="clip+sam", output=tmp_path / "answers", **exam
        ),
        "masks": lambda: predict_masks(settings=masks, **exam, **options),
        "chat": lambda: chat(model=model, picture=image, question="what ?"),
    }
    with pytest.raises(ChosenError):
        commands[command]()


def test_large_pictures_pass_an_encoder_a_few_at_a_time(
    study: TinyStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(study.encoders["clip"])
    paths = [study.data.parent / f"pictures/{number}.png" for number in range(24)]
    (whole,) = stream_features({"clip": encoder}, paths, 2)
    assert encoder.pictures_per_pass == 64  # a laptop's pictures all at once
    monkeypatch.setattr(encoder_roles.encoders.encoder, "PIXELS_PER_PASS", 5 * encoder.spec.pixels**2 + 1)
    seen: list[int] = []
    encoder.trunk.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    (parts,) = stream_features({"clip": encoder}, paths, 2)
    assert seen == [5, 5, 5, 5, 4]
    torch.testing.assert_close(parts["clip"], whole["clip"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("pixels", "together"), [(336, 37), (378, 29), (1024, 4), (4096, 1)])
def test_a_pass_holds_as_many_pixels_however_large_the_pictures(
    study: TinyStudy, pixels: int, together: int
) -> None:
    encoder = load_encoder(study.encoders["clip"])
    encoder.spec = encoder.spec.model_copy(update={"pixels": pixels})
    assert encoder.pictures_per_pass == together
    assert together * pixels**2 <= 2**22 or together == 1


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, study: TinyStudy) -> dict[str, Path]:
    """Every family of encoders."""
    return tiny_encoders.write_pool(tmp_path_factory.mktemp("every"), EVERY)


def save(sources: dict[str, Path], study: TinyStudy, kind: str, folder: Path) -> Path:
    row = {"kind": kind, "grid": 4} | {key: SIZES[key] for key in CONNECTORS[kind]}
    settings = ConnectorSettings.model_validate(row)
    MultiEncoderVLM.from_sources(sources, study.language_model, settings, 1).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_encoder_and_connector_computes_in_bf16_what_it_does_in_fp32(
    study: TinyStudy, sources: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    folder = save(sources, study, kind, tmp_path)
    exact, rounded = load_vlm(folder), load_vlm(folder, "bf16")
    pictures = tiny_encoders.pictures(3)
    with torch.inference_mode():
        features = [model.features(pictures) for model in (exact, rounded)]
        tokens = [m.visual_tokens(f) for m, f in zip((exact, rounded), features, strict=True)]
    assert {block.dtype for block in features[1].values()} == {tokens[1].dtype} == {torch.bfloat16}
    for name in EVERY:
        assert distance(features[1][name], features[0][name]) < 0.02, name
    assert 1e-4 < distance(tokens[1], tokens[0]) < 0.02


def distance(result: Tensor, expected: Tensor) -> float:
    return float((result.float() - expected).norm() / expected.norm())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_model_is_loaded_into_its_type_without_another_copy(
    study: TinyStudy, model: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, before = read_weights(model), storages()
    collected: list[tuple[set[torch.dtype], int]] = []
    fill = encoder_roles.models.vlm.load_strictly

    def look(module: nn.Module, tensors: dict[str, Tensor], where: Path) -> None:
        types = {weight.dtype for weight in module.parameters()}
        mapped = {value.untyped_storage().data_ptr() for value in tensors.values()}
        added = storages() - before
        collected.append((types, sum(size for place, size in added if place not in mapped)))
        fill(module, tensors, where)

    monkeypatch.setattr(encoder_roles.models.vlm, "load_strictly", look)
    loaded = load_vlm(model, precision)
    dtype = dtype_of(precision)
    ((types, added),) = collected
    assert types == {dtype}
    own = sum(weight.nbytes for weight in loaded.parameters())
    buffers = sum(buffer.nbytes for buffer in loaded.buffers())
    assert own <= added <= own + buffers + 4096, "more than one copy of the weights is held"
    state = loaded.state_dict()
    assert all(torch.equal(state[name], value.to(dtype)) for name, value in file.items())
    assert loaded.language_model.lm_head.weight is loaded.language_model.get_input_embeddings().weight


def storages() -> set[tuple[int, int]]:
    """Where the tensors of this process lie, and how many bytes there are; of the meta device: nowhere."""
    gc.collect()
    tensors = [value for value in gc.get_objects() if type(value) in (Tensor, nn.Parameter)]
    held = [value.untyped_storage() for value in tensors if not value.is_meta]
    return {(storage.data_ptr(), storage.nbytes()) for storage in held}


def test_tables_of_positions_and_the_scale_of_pixels_stay_exact_in_bf16(
    study: TinyStudy, sources: dict[str, Path], tmp_path: Path
) -> None:
    folder = save(sources, study, "mlp", tmp_path)
    exact, rounded = (dict(load_vlm(folder, precision).named_buffers()) for precision in ("fp32", "bf16"))
    assert any("inv_freq" in name for name in exact) and any(name.endswith(".scale") for name in exact)
    for name, value in exact.items():
        if ".trunk." not in name:
            assert torch.equal(rounded[name], value) and rounded[name].dtype == value.dtype, name


def test_encoders_are_measured_in_fp32_whatever_the_answers_are_in(model: Path) -> None:
    encoders, _ = load_trained_encoders(model)
    assert {w.dtype for encoder in encoders.values() for w in encoder.parameters()} == {torch.float32}
    assert all(isinstance(encoder, Encoder) for encoder in encoders.values())
    assert not any(
        weight.is_meta for encoder in encoders.values() for weight in encoder.state_dict().values()
    )


def test_a_network_built_after_one_without_weights_has_weights(model: Path) -> None:
    load_vlm(model)
    assert not nn.Linear(2, 2).weight.is_meta
