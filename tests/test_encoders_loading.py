"""Encoders of three libraries behind one interface: features are the libraries' own, faults are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_encoders
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from encoder_roles.encoders import weights
from encoder_roles.encoders.encoder import Encoder
from encoder_roles.encoders.framing import resize
from encoder_roles.encoders.loading import load_encoder, load_source, read_frame
from encoder_roles.provenance import write_json
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import EncoderSpec

CLASSES = {
    "clip": transformers.CLIPVisionModel,
    "siglip": transformers.SiglipVisionModel,
    "dinov2": transformers.Dinov2Model,
    "sam": transformers.SamVisionModel,
}
CLASS_TOKENS = {"clip": 1, "siglip": 0, "dinov2": 1}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return tiny_encoders.write_pool(tmp_path_factory.mktemp("pool"))


def grid(tokens: torch.Tensor) -> torch.Tensor:
    side = round(tokens.shape[1] ** 0.5)
    return tokens.reshape(len(tokens), side, side, -1)


def features(encoder: Encoder) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = encoder.preprocess(tiny_encoders.pictures(2))
    with torch.no_grad():
        return pixels, encoder(pixels)


def test_the_frame_of_a_staged_folder_is_that_of_its_loaded_encoder(tmp_path: Path) -> None:
    pool = tiny_encoders.write_pool(tmp_path, (*tiny_encoders.WRITERS, *tiny_encoders.MORE_WRITERS))
    frames = {name: read_frame(folder) for name, folder in pool.items()}
    assert frames == {name: load_encoder(folder).frame for name, folder in pool.items()}
    assert {"squash", "keep"} <= {frame.aspect for frame in frames.values()}


@pytest.mark.parametrize("name", CLASSES)
def test_the_last_layer_is_transformers_own_after_its_final_norm(name: str, pool: dict[str, Path]) -> None:
    encoder = load_encoder(pool[name])
    pixels, result = features(encoder)
    model = CLASSES[name].from_pretrained(pool[name])
    with torch.no_grad():
        states = model(pixels).last_hidden_state
        if name == "sam":
            expected = states.permute(0, 2, 3, 1)
        else:
            patches = states[:, CLASS_TOKENS[name] :]
            expected = grid(model.post_layernorm(patches) if name == "clip" else patches)
    assert torch.equal(result, expected)
    assert result.shape[-1] == encoder.width


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize(("layer", "state"), [(0, 0), (1, 1), (2, 2), (-2, 1), (-3, 0)])
def test_other_layers_are_the_hidden_states(name: str, layer: int, state: int, pool: dict[str, Path]) -> None:
    spec = EncoderSpec.model_validate(
        {"library": "transformers", "source": "", "pixels": 64 if name == "dinov2" else 48, "layer": layer}
        | {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    )
    encoder = load_source(name, spec, pool[name])
    pixels, result = features(encoder)
    with torch.no_grad():
        states = CLASSES[name].from_pretrained(pool[name])(pixels, output_hidden_states=True).hidden_states
    expected = states[state] if name == "sam" else grid(states[state][:, CLASS_TOKENS[name] :])
    assert torch.equal(result, expected)
    kept = sum(p.numel() for p in encoder.parameters())
    assert kept < sum(p.numel() for p in load_encoder(pool[name]).parameters())


def test_an_open_clip_trunk_is_what_open_clip_itself_loads(pool: dict[str, Path]) -> None:
    import open_clip

    pixels, result = features(load_encoder(pool["convnext"]))
    trunk = open_clip.create_model(f"local-dir:{pool['convnext']}").visual.trunk.eval()
    with torch.no_grad():
        expected = trunk.head.norm(trunk.forward_features(pixels)).permute(0, 2, 3, 1)
        stages = trunk.forward_intermediates(pixels, intermediates_only=True)
    assert torch.equal(result, expected)
    spec = load_encoder(pool["convnext"]).spec
    for layer, stage in ((-2, 2), (2, 1), (4, 3)):
        encoder = load_source("convnext", spec.model_copy(update={"layer": layer}), pool["convnext"])
        with torch.no_grad():
            assert torch.equal(encoder(pixels), stages[stage].permute(0, 2, 3, 1))
        assert encoder.width == stages[stage].shape[1]


def test_a_timm_folder_is_what_timm_itself_loads(tmp_path: Path) -> None:
    import timm

    spec = tiny_encoders.write_timm(tmp_path / "vit")
    encoder = load_encoder(tiny_encoders.stage(tmp_path / "vit", spec))
    pixels, result = features(encoder)
    network = timm.create_model(f"local-dir:{tmp_path / 'vit'}", pretrained=True).eval()
    with torch.no_grad():
        tokens = network.forward_features(pixels)[:, network.num_prefix_tokens :]
        expected = network.fc_norm(tokens)
    assert network.num_prefix_tokens > 0
    assert torch.equal(result, grid(expected))


def test_a_whole_clip_checkpoint_gives_its_vision_network(tmp_path: Path) -> None:
    spec = tiny_encoders.write_clip(tmp_path / "whole", whole=True)
    encoder = load_encoder(tiny_encoders.stage(tmp_path / "whole", spec))
    model = transformers.CLIPModel.from_pretrained(tmp_path / "whole").vision_model
    pixels, result = features(encoder)
    with torch.no_grad():
        expected = grid(model.post_layernorm(model(pixels).last_hidden_state[:, 1:]))
    assert torch.equal(result, expected)
    assert not [name for name, _ in encoder.named_parameters() if "text" in name]


def test_pixels_are_resized_as_pillow_does_and_normalised_per_channel(pool: dict[str, Path]) -> None:
    encoder = load_encoder(pool["clip"])
    pictures = tiny_encoders.pictures(2)
    array = pictures.permute(0, 2, 3, 1).numpy()
    pillow = np.stack([Image.fromarray(a).resize((48, 48), Image.Resampling.BICUBIC) for a in array])
    difference = resize(pictures, 48).permute(0, 2, 3, 1).numpy().astype(int) - pillow
    assert np.abs(difference).max() <= 1
    spec = encoder.spec.model_copy(update={"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)})
    pixels = load_source("clip", spec, pool["clip"]).preprocess(pictures)
    unit = resize(pictures, 48).double() / 255
    expected = (unit - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(
        3, 1, 1
    )
    assert torch.allclose(pixels.double(), expected, atol=1e-5)


def test_pictures_that_are_not_uint8_are_refused() -> None:
    with pytest.raises(StudyError, match="uint8"):
        resize(torch.zeros(1, 3, 8, 8), 4)
    with pytest.raises(StudyError, match="uint8"):
        resize(torch.zeros(3, 8, 8, dtype=torch.uint8), 4)


def weights_of(folder: Path) -> Path:
    (path,) = folder.glob("*.safetensors")
    return path


NEEDED = ("patch_embedding.weight", "projection.weight", "patch_embed.proj.weight", "trunk.stem.0.weight")


def damage(folder: Path, kind: str) -> str:
    """Damage one weight of a folder; return the weight's name, as the error must give it."""
    path = weights_of(folder)
    weights = load_file(path)
    name = next(n for n in sorted(weights) if any(part in n for part in NEEDED))
    if kind == "missing":
        del weights[name]
    elif kind == "unexpected":
        prefix = "visual.trunk." if name.startswith("visual.trunk.") else ""
        name = f"{prefix}stray.weight"
        weights[name] = torch.zeros(3)
    else:
        weights[name] = torch.zeros(*weights[name].shape[:-1], weights[name].shape[-1] + 1)
    save_file(weights, path, metadata={"format": "pt"})
    return name.removeprefix("visual.trunk.")


@pytest.mark.parametrize("kind", ["missing", "unexpected", "shape"])
@pytest.mark.parametrize("name", ["clip", "dinov2", "sam", "convnext", "vit", "pix2struct", "eva02"])
def test_a_weight_that_does_not_fit_is_named(name: str, kind: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    writers = tiny_encoders.WRITERS | tiny_encoders.MORE_WRITERS | {"vit": tiny_encoders.write_timm}
    tiny_encoders.stage(folder, writers[name](folder, 0))
    weight = damage(folder, kind)
    with pytest.raises(StudyError) as caught:
        load_encoder(folder)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    assert weight in message


@pytest.mark.parametrize("name", ["siglip", "convnext"])
def test_a_truncated_file_of_weights_is_named(name: str, tmp_path: Path) -> None:
    (folder,) = tiny_encoders.write_pool(tmp_path, (name,)).values()
    path = weights_of(folder)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StudyError, match="truncated or damaged") as caught:
        load_encoder(folder)
    assert str(folder) in str(caught.value)


def held_of_files() -> int:
    """Bytes of mapped files that this process holds in memory."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssFile:")[1].split()[0])


def test_weights_are_copied_without_a_second_copy_of_the_file_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {f"trunk.{n}": torch.full((2**20,), float(n)) for n in range(16)}  # 4 MiB each
    save_file(parts, tmp_path / "model.safetensors")
    monkeypatch.setattr(weights, "REMAPPED", 2**23)
    module = torch.nn.ParameterDict({name.removeprefix("trunk."): torch.zeros(2**20) for name in parts})
    stored, most, before = weights.read_weights(tmp_path, prefix="trunk."), 0, held_of_files()

    class Watched(dict[str, torch.Tensor]):
        """The stored weights, and what is held after each."""

        def items(self):  # type: ignore[no-untyped-def, override]
            nonlocal most
            for name, value in stored.items():
                yield name, value
                most = max(most, held_of_files() - before)

    weights.load_strictly(module, Watched.fromkeys(stored), tmp_path)
    assert all(torch.equal(module[name.removeprefix("trunk.")], value) for name, value in parts.items())
    assert most < 2**25, f"{most:,} bytes of a file of 64 MiB"


def test_weights_that_are_not_safetensors_are_not_read(tmp_path: Path) -> None:
    (folder,) = tiny_encoders.write_pool(tmp_path, ("clip",)).values()
    torch.save({}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(StudyError, match="safetensors"):
        load_encoder(folder)


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"pixels": 60}, "48"), ({"layer": 3}, "hidden states 0 to 2"), ({"layer": -4}, "hidden states 0 to 2")],
)
def test_a_specification_the_network_cannot_meet_is_refused(
    change: dict[str, int], reason: str, pool: dict[str, Path]
) -> None:
    spec = load_encoder(pool["clip"]).spec.model_copy(update=change)
    with pytest.raises(StudyError, match=reason):
        load_source("clip", spec, pool["clip"])


def test_an_unknown_kind_of_network_is_refused(tmp_path: Path) -> None:
    (folder,) = tiny_encoders.write_pool(tmp_path, ("clip",)).values()
    write_json(folder / "config.json", {"model_type": "bert"})
    with pytest.raises(StudyError, match=r"config\.json.*'bert'"):
        load_encoder(folder)
    (folder / "encoder.json").write_text('{"library": "transformers"')
    with pytest.raises(StudyError, match=r"encoder\.json"):
        load_encoder(folder)


def test_a_transformers_encoder_imports_neither_timm_nor_open_clip(pool: dict[str, Path]) -> None:
    code = (
        "import sys; from pathlib import Path; from encoder_roles.encoders.loading import load_encoder; "
        f"load_encoder(Path({str(pool['clip'])!r})); print('timm' in sys.modules, 'open_clip' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-2:] == ["False", "False"]
