"""The full-scale encoder table, and what it asks of the loaders: sizes, aspect rules, levels, more pixels."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_encoders
import torch
import transformers
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

from encoder_roles.data.features import stream_features
from encoder_roles.encoders.encoder import Encoder
from encoder_roles.encoders.framing import Frame
from encoder_roles.encoders.loading import (
    build_encoder,
    build_network,
    load_encoder,
    load_source,
    read_spec,
)
from encoder_roles.encoders.sizes import NetworkSize, build_on_meta, measure_network
from encoder_roles.models.grid import grid_features, resample_grid
from encoder_roles.provenance import write_json
from encoder_roles.sources.stage_encoder import stage_encoder
from encoder_roles.study.config import encoder_table
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import EncoderSpec

# Bytes of model.safetensors (fp32) at the commit that the table pins.
FILES = {"dinov2_l": 1_217_522_888, "dinov2_g": 4_546_005_432, "dinov3_l": 1_212_347_640}
# Millions of parameters of the vision networks, as precise as they are published (sources: table.yaml).
PUBLISHED = {
    "clip_l": 304.53,
    "siglip_so400m": 428,
    "dinov2_l": FILES["dinov2_l"] / 4e6,
    "dinov2_g": FILES["dinov2_g"] / 4e6,
    "sam_l": 308,
    "convnext_xxl": 846.47,
    "eva02_l": 305.08,
    "pix2struct_l": 513,
    "siglip2_so400m": 428.23,
    "siglip2_g": 1163.66,
    "dinov3_l": 303.08,
    "dinov3_h": 840.51,
    "pe_core_l": 317.15,
    "pe_spatial_l": 303.96,
    "aimv2_l": 309.98,
    "dfn_h": 632.68,
    "internvit_300m": 304.01,
    "metaclip2_h": 632.68 - 1281 * 1024 / 1e6,  # without the projection into the common space
    "radio_h": 631 + 128 * 128 * 1280 / 1e6,  # with the position table
}
ROWS = {name: EncoderSpec.model_validate(row) for name, row in encoder_table().items()}
WITHOUT_LAST_NORM = {"pe_spatial", "internvit", "radio"}  # their state after the last block is layer -1
FAMILIES = tiny_encoders.WRITERS | tiny_encoders.MORE_WRITERS | {"vit": tiny_encoders.write_timm}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, EncoderSpec]]:
    root = tmp_path_factory.mktemp("families")
    return {name: (root / name, write(root / name, 0)) for name, write in FAMILIES.items()}


def load(folders: dict[str, tuple[Path, EncoderSpec]], name: str, **changes: Any) -> Encoder:
    folder, spec = folders[name]
    row = spec.model_dump(exclude_none=True) | changes
    return load_source(name, EncoderSpec.model_validate(row), folder)


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """A smooth random picture, uint8 (1, 3, height, width)."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed)) * 255
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return smooth.round().to(torch.uint8)


def pillow(pixels: torch.Tensor) -> Image.Image:
    return Image.fromarray(pixels[0].permute(1, 2, 0).numpy())


def test_the_table_has_the_sources_encoders_one_row_each() -> None:
    assert set(ROWS) == set(PUBLISHED)
    assert all(row.revision and row.library_config and row.published for row in ROWS.values())


@cache
def measured(name: str) -> NetworkSize:
    """The sizes of a row's network; building one of these takes seconds."""
    return measure_network(name, ROWS[name])


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_documents_table_says_what_the_table_says(name: str) -> None:
    text = (Path(__file__).parents[1] / "docs" / "models.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    cells, row = [cell.strip() for cell in line.strip("| ").split("|")], ROWS[name]
    assert row.published is not None
    expected = [name, f"{row.library}, {row.source}", str(row.pixels), row.aspect, str(row.layer)]
    assert cells[:4] + cells[5:6] == expected
    millions = f"{measured(name).parameters / 1e6:,.0f}M"
    assert cells[6:] == [str(row.published.grid), str(row.published.width), millions]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_row_of_the_table_is_the_published_network(name: str) -> None:
    result, row = measured(name), ROWS[name]
    assert row.published is not None
    assert abs(result.parameters / 1e6 - PUBLISHED[name]) < 0.001 * PUBLISHED[name]
    assert abs(row.published.parameters / 1e6 - PUBLISHED[name]) < 0.01
    assert (result.width, result.grid) == (row.published.width, row.published.grid)
    assert result.kept <= result.parameters


@pytest.mark.parametrize("name", FILES)
def test_a_published_file_is_the_networks_weights_and_a_header(name: str) -> None:
    parameters = measured(name).parameters
    with torch.device("meta"):
        network = build_network(name, ROWS[name], ROWS[name].library_config or {})
    tensors = len(network.state_dict())
    assert 50 * tensors < FILES[name] - 4 * parameters < 200 * tensors  # a name, a shape and a place each


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_revision_is_a_commit_or_said_to_be_open(name: str) -> None:
    text = (Path(__file__).parents[1] / "docs" / "models.md").read_text()
    pinned = re.fullmatch(r"[0-9a-f]{40}", ROWS[name].revision or "")
    assert pinned or ROWS[name].revision == "main"
    (line,) = [line for line in text.splitlines() if " are pinned to " in line]
    assert (name in line) == bool(pinned)


def test_clip_by_timm_is_openais_network_by_transformers(tmp_path: Path) -> None:
    theirs = transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=48,
            patch_size=12,
        )
    ).eval()
    with torch.no_grad():
        for number, weight in enumerate(theirs.parameters()):  # away from zero, where GELUs are alike
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)) / 2)
    architecture = "vit_large_patch14_clip_336"
    arguments = {"embed_dim": 16, "depth": 2, "num_heads": 2, "img_size": 48, "patch_size": 12}
    config = {"architecture": architecture, "num_classes": 5, "model_args": arguments}
    write_json(tmp_path / "config.json", config)  # as on the hub: the plain architecture
    save_file(timm_weights(theirs, classes=5), tmp_path / "model.safetensors")
    row = ROWS["clip_l"].model_dump(exclude_none=True) | {"source": str(tmp_path), "pixels": 48}
    row |= {"revision": None, "published": None}
    named = (ROWS["clip_l"].library_config or {})["architecture"]
    row["library_config"] = {"architecture": named, "arguments": arguments | {"num_classes": 5}}
    pixels = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        states = theirs(pixels, output_hidden_states=True).hidden_states
        normed = theirs.post_layernorm(states[-1])
        for layer, expected in ((1, states[1]), (2, states[2]), (-1, normed)):
            encoder = load_source("clip", EncoderSpec.model_validate(row | {"layer": layer}), tmp_path)
            assert torch.allclose(encoder(pixels), expected[:, 1:].reshape(2, 4, 4, 16), atol=1e-4)
        plain = row | {"library_config": None}
        encoder = load_source("clip", EncoderSpec.model_validate(plain), tmp_path)
        assert not torch.allclose(encoder(pixels), normed[:, 1:].reshape(2, 4, 4, 16), atol=1e-3)


def timm_weights(clip: transformers.CLIPVisionModel, classes: int) -> dict[str, torch.Tensor]:
    """CLIP's weights by the names that timm has for them."""
    names = {
        "embeddings.patch_embedding": "patch_embed.proj",
        "pre_layrnorm": "norm_pre",
        "post_layernorm": "norm",
        "encoder.layers": "blocks",
        "layer_norm1": "norm1",
        "layer_norm2": "norm2",
        "self_attn.out_proj": "attn.proj",
    }
    result, attention = {}, {}
    state = {name.removeprefix("vision_model."): weight for name, weight in clip.state_dict().items()}
    for key, weight in state.items():
        name = key
        for old, new in names.items():
            name = name.replace(old, new)
        if "self_attn" in name:
            attention[name] = weight
        elif "embeddings" not in name:
            result[name] = weight
    for name in [name for name in attention if ".q_proj." in name]:
        parts = [attention[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
        result[name.replace("self_attn.q_proj", "attn.qkv")] = torch.cat(parts)
    result["cls_token"] = state["embeddings.class_embedding"][None, None]
    result["pos_embed"] = state["embeddings.position_embedding.weight"][None]
    result["head.weight"], result["head.bias"] = torch.zeros(classes, 16), torch.zeros(classes)
    return {name: weight.clone() for name, weight in result.items()}


def test_the_stages_of_convnext_have_cambrians_5760_channels() -> None:
    spec = ROWS["convnext_xxl"].model_copy(update={"layer": (1, 2, 3, 4)})
    result = measure_network("convnext_xxl", spec)
    assert (result.width, result.grids) == (5760, (256, 128, 64, 32))


def test_pix2struct_is_published_with_its_decoder() -> None:
    vision = {k: v for k, v in (ROWS["pix2struct_l"].library_config or {}).items() if k != "model_type"}
    text = {"hidden_size": 1536, "d_kv": 64, "d_ff": 3968, "num_layers": 18, "num_heads": 24}
    with torch.device("meta"):
        config = transformers.Pix2StructConfig(vision_config=vision, text_config=text)
        whole = transformers.Pix2StructForConditionalGeneration(config)
    assert round(sum(p.numel() for p in whole.parameters()) / 1e9, 1) == 1.3


def test_a_row_without_its_network_cannot_be_measured() -> None:
    with pytest.raises(StudyError, match="library_config is missing"):
        build_on_meta("clip_l", ROWS["clip_l"].model_copy(update={"library_config": None}))


@pytest.mark.parametrize("name", FAMILIES)
def test_levels_are_the_layers_one_by_one(name: str, folders: dict[str, tuple[Path, EncoderSpec]]) -> None:
    for layers in ([1, 2], [2, -1, 1], [-2, -1]):
        encoder = load(folders, name, layer=layers)
        pixels = encoder.preprocess(tiny_encoders.pictures(2))
        with torch.no_grad():
            levels = encoder.levels(pixels)
            alone = [load(folders, name, layer=layer)(pixels) for layer in layers]
        assert len(levels) == len(layers)
        for level, expected in zip(levels, alone, strict=True):
            assert torch.equal(level, expected)
        assert encoder.widths == tuple(level.shape[-1] for level in levels)
        whole = sum(p.numel() for p in load(folders, name).parameters())
        kept = sum(p.numel() for p in encoder.parameters())
        assert kept == whole if -1 in layers or name in WITHOUT_LAST_NORM else kept < whole


def test_levels_of_different_grids_meet_on_the_common_one(
    folders: dict[str, tuple[Path, EncoderSpec]],
) -> None:
    encoder = load(folders, "convnext", layer=[1, 2, 3, 4])
    pixels = encoder.preprocess(tiny_encoders.pictures(2))
    with torch.no_grad():
        stages = encoder.levels(pixels)
        result = grid_features(encoder, pixels, 3)
    assert len({stage.shape[1] for stage in stages}) == 4
    assert result.shape == (2, 3, 3, encoder.width)
    for part, stage in zip(result.split(encoder.widths, dim=-1), stages, strict=True):
        assert torch.equal(part, resample_grid(stage, 3))


@pytest.mark.parametrize("layers", [[2, 2], [-1, -1]])
def test_a_layer_named_twice_is_refused(layers: list[int]) -> None:
    with pytest.raises(ValueError, match="names a layer twice"):
        EncoderSpec.model_validate(ROWS["clip_l"].model_dump() | {"layer": layers})


@pytest.mark.parametrize(("name", "layers"), [("clip", [2, -1, 0]), ("clip", [1, -2]), ("vit", [1, -1, 0])])
def test_a_list_of_layers_that_the_network_cannot_give_is_refused(
    name: str, layers: list[int], folders: dict[str, tuple[Path, EncoderSpec]]
) -> None:
    if (name, layers) == ("clip", [2, -1, 0]):  # the state before the last norm is another one than -1
        assert len(load(folders, name, layer=layers).widths) == 3
        return
    with pytest.raises(StudyError, match=r"names a hidden state twice|is the embedding"):
        load(folders, name, layer=layers)


def test_pix2struct_reads_patches_as_the_librarys_own_processor_and_model_do(
    folders: dict[str, tuple[Path, EncoderSpec]],
) -> None:
    encoder, folder = load(folders, "pix2struct"), folders["pix2struct"][0]
    processor = transformers.Pix2StructImageProcessor(patch_size={"height": 8, "width": 8}, max_patches=25)
    model = transformers.Pix2StructVisionModel.from_pretrained(folder)
    # transformers divides by the sample's deviation, the paper's own code by the population's
    for height, width, rows, columns, close in (
        (40, 40, 5, 5, 5e-4),
        (64, 96, 4, 6, 5e-4),
        (90, 30, 8, 2, 5e-4),
    ):
        pixels = picture(height, width)
        theirs = processor(pillow(pixels), return_tensors="pt")
        patches = theirs["flattened_patches"][0][theirs["attention_mask"][0] == 1]
        ours = encoder.preprocess(pixels)
        assert tuple(ours.shape) == (1, 3, 8 * rows, 8 * columns)
        flat = encoder._flatten(ours)[0]
        assert torch.equal(flat[:, :2], patches[:, :2])  # rows and columns
        assert torch.allclose(flat, patches, atol=close)
        with torch.no_grad():
            expected = model(patches[None]).last_hidden_state.reshape(1, rows, columns, -1)
            assert torch.allclose(encoder(encoder.preprocess(pixels)), expected, atol=close)


@pytest.mark.parametrize(
    ("whole", "vision"),
    [
        ("siglip", transformers.SiglipVisionModel),
        ("metaclip2", transformers.MetaClip2VisionModel),
        ("sam", transformers.SamVisionModel),
        ("pix2struct", transformers.Pix2StructVisionModel),
    ],
)
def test_a_whole_models_checkpoint_gives_its_vision_network(whole: str, vision: type, tmp_path: Path) -> None:
    spec = tiny_encoders.write_whole(whole, tmp_path / whole)
    encoder = load_encoder(tiny_encoders.stage(tmp_path / whole, spec))
    part = tiny_encoders.vision_part(whole, tmp_path / whole)
    assert isinstance(part, vision)
    part.save_pretrained(tmp_path / "alone")
    alone = load_source(whole, spec, tmp_path / "alone")
    pixels = encoder.preprocess(tiny_encoders.pictures(2))
    with torch.no_grad():
        assert torch.equal(encoder(pixels), alone(pixels))
    assert [n for n, _ in encoder.named_parameters()] == [n for n, _ in alone.named_parameters()]


def test_eva02_is_what_timm_itself_loads(folders: dict[str, tuple[Path, EncoderSpec]]) -> None:
    import timm

    encoder, folder = load(folders, "eva02"), folders["eva02"][0]
    pixels = encoder.preprocess(tiny_encoders.pictures(2))
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        expected = network.fc_norm(network.forward_features(pixels)[:, 1:]).reshape(2, 4, 4, 24)
        assert torch.equal(encoder(pixels), expected)


@pytest.mark.parametrize("name", ["dinov3", "pe_core", "pe_spatial", "aimv2", "internvit"])
def test_the_patches_of_a_timm_network_are_those_that_timm_itself_gives(
    name: str, folders: dict[str, tuple[Path, EncoderSpec]]
) -> None:
    import timm

    encoder, folder = load(folders, name), folders[name][0]
    pixels = encoder.preprocess(tiny_encoders.pictures(2))
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        tokens = network.forward_features(pixels)
        side = round((tokens.shape[1] - network.num_prefix_tokens) ** 0.5)
        expected = tokens[:, network.num_prefix_tokens :].reshape(2, side, side, 24)
        assert torch.equal(encoder(pixels), expected)
    if name == "dinov3":
        assert network.num_prefix_tokens == 5


def test_dinov3_has_no_position_table_and_reads_any_size_of_whole_patches(
    folders: dict[str, tuple[Path, EncoderSpec]],
) -> None:
    import timm

    encoder, folder = load(folders, "dinov3", pixels=96, positions="resample"), folders["dinov3"][0]
    pixels = encoder.preprocess(tiny_encoders.pictures(2))
    arguments = tiny_encoders.TINY_VIT | {"img_size": 96}
    network = timm.create_model(f"local-dir:{folder}", pretrained=True, **arguments).eval()
    with torch.no_grad():
        expected = network.forward_features(pixels)[:, 5:].reshape(2, 6, 6, 24)
        assert torch.allclose(encoder(pixels), expected, atol=1e-6)


def test_dinov3_by_timm_is_metas_network_by_transformers(tmp_path: Path) -> None:
    config = transformers.DINOv3ViTConfig(
        hidden_size=24,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=64,
        patch_size=16,
        num_register_tokens=4,
    )
    theirs = transformers.DINOv3ViTModel(config).eval()
    with torch.no_grad():
        for number, (name, weight) in enumerate(theirs.named_parameters()):
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)) / 4)
            if re.search("[qkv]_proj.bias", name):  # zero in Meta's weights, left out by timm
                weight.zero_()
    spec = tiny_encoders.write_dinov3(tmp_path)
    save_file(dinov3_by_timm(theirs.state_dict()), tmp_path / "model.safetensors")
    for side in (64, 96):
        row = spec.model_copy(update={"pixels": side, "positions": "resample"})
        encoder = load_source("dinov3", row, tmp_path)
        pixels = encoder.preprocess(tiny_encoders.pictures(2))
        with torch.no_grad():
            expected = theirs(pixels).last_hidden_state[:, 5:].reshape(2, side // 16, side // 16, 24)
            assert torch.allclose(encoder(pixels), expected, atol=1e-4)


def dinov3_by_timm(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """DINOv3's weights by the names that timm has for them."""
    names = {
        "model.": "",
        "patch_embeddings": "patch_embed.proj",
        "embeddings.": "",
        "layer.": "blocks.",
        "register_tokens": "reg_token",
        "attention.o_proj": "attn.proj",
        "attention.q_proj": "attn.qkv",
        "layer_scale1.lambda1": "gamma_1",
        "layer_scale2.lambda1": "gamma_2",
        "up_proj": "fc1",
        "down_proj": "fc2",
    }
    renamed = {}
    for key, weight in state.items():
        if "mask_token" in key or "k_proj" in key or "v_proj" in key or "q_proj.bias" in key:
            continue
        if "q_proj" in key:
            weight = torch.cat([state[key.replace("q_proj", f"{letter}_proj")] for letter in "qkv"])
        for old, new in names.items():
            key = key.replace(old, new)
        renamed[key] = weight.clone()
    return renamed


def test_radio_is_read_without_the_code_of_its_repository(
    folders: dict[str, tuple[Path, EncoderSpec]],
) -> None:
    folder, spec = folders["radio"]
    state = load_file(folder / "model.safetensors")
    config = transformers.RadioConfig.from_dict(spec.library_config)
    network = transformers.RadioModel.from_pretrained(folder, config=config)
    fused = torch.cat(
        [network.encoder.layer[1].attention.get_submodule(f"{letter}_proj").weight for letter in "qkv"]
    )
    assert torch.equal(fused, state["radio_model.model.blocks.1.attn.qkv.weight"])
    scale = load(folders, "radio").state_dict()["trunk.encoder.layer.1.layer_scale1.lambda1"]
    assert torch.equal(scale, torch.ones(16)), "its code has no layer scale, the library's class has one"
    for side in (48, 72, 120):  # 120: more than its position table
        encoder = load(folders, "radio", pixels=side)
        pictures = tiny_encoders.pictures(2, size=side)
        with torch.no_grad():
            expected = network(pictures / 255).features.reshape(2, side // 12, side // 12, 16)
            assert torch.allclose(encoder(encoder.preprocess(pictures)), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("weight", "shape", "message"),
    [
        (
            "radio_model.model.blocks.1.attn.qkv.weight",
            None,
            r"attention.k_proj.weight' \(and 2 more\) is missing",
        ),
        ("radio_model.model.blocks.1.attn.qkv.weight", (47, 16), r"v_proj.weight' has shape \[15, 16\]"),
        ("radio_model.input_conditioner.norm_std", None, "norm_std' is missing"),
        ("radio_model.model.norm.weight", (16,), "model.norm.weight' has no place in the network"),
    ],
)
def test_a_weight_of_radio_that_does_not_fit_is_named(
    weight: str, shape: tuple[int, ...] | None, message: str, tmp_path: Path
) -> None:
    spec = tiny_encoders.write_radio(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights.pop(weight, None)
    if shape is not None:
        weights[weight] = torch.zeros(shape)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(StudyError, match=message):
        load_source("radio", spec, tmp_path)


def test_radio_normalises_its_input_once_and_by_the_rows_mean(
    folders: dict[str, tuple[Path, EncoderSpec]],
) -> None:
    with pytest.raises(StudyError, match=r"its mean is \[0.5, 0.5, 0.5\], the row's is \[0.4, 0.5, 0.5\]"):
        load(folders, "radio", mean=(0.4, 0.5, 0.5))


def test_metaclip2_gives_the_normed_patches_of_the_librarys_model(
    folders: dict[str, tuple[Path, EncoderSpec]],
) -> None:
    encoder, folder = load(folders, "metaclip2"), folders["metaclip2"][0]
    model = transformers.MetaClip2VisionModel.from_pretrained(folder)
    pixels = encoder.preprocess(tiny_encoders.pictures(2))
    with torch.no_grad():
        expected = model.post_layernorm(model(pixels).last_hidden_state[:, 1:]).reshape(2, 4, 4, 16)
        assert torch.equal(encoder(pixels), expected)


def test_more_pixels_than_pretraining_resample_the_position_table_as_timm_does(
    folders: dict[str, tuple[Path, EncoderSpec]],
) -> None:
    import timm

    encoder, folder = load(folders, "eva02", pixels=84, positions="resample"), folders["eva02"][0]
    pixels = encoder.preprocess(tiny_encoders.pictures(2))
    arguments = {"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 84}
    network = timm.create_model(f"local-dir:{folder}", pretrained=True, **arguments).eval()
    with torch.no_grad():
        expected = network.fc_norm(network.forward_features(pixels)[:, 1:]).reshape(2, 6, 6, 24)
        assert torch.allclose(encoder(pixels), expected, atol=1e-5)
    again = build_encoder("eva02", encoder.spec, encoder.library_config)
    assert {n: w.shape for n, w in again.state_dict().items()} == {
        n: w.shape for n, w in encoder.state_dict().items()
    }


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_a_position_table_is_resampled_only_when_asked(
    name: str, folders: dict[str, tuple[Path, EncoderSpec]]
) -> None:
    with pytest.raises(StudyError, match="its position table is made for 48"):
        load(folders, name, pixels=96)
    encoder = load(folders, name, pixels=96, positions="resample")
    kind = transformers.CLIPVisionModel if name == "clip" else transformers.SiglipVisionModel
    model = kind.from_pretrained(folders[name][0])
    pixels = encoder.preprocess(tiny_encoders.pictures(2))
    with torch.no_grad():
        states = model(pixels, interpolate_pos_encoding=True).last_hidden_state
        side = 96 // encoder.trunk.config.patch_size
        tokens = model.post_layernorm(states[:, 1:]) if name == "clip" else states
        assert torch.equal(encoder(pixels), tokens.reshape(2, side, side, -1))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("dinov2", {"positions": "resample"}, "always resamples its position table"),
        ("sam", {"positions": "resample"}, "cannot do that"),
        ("convnext", {"positions": "resample"}, "has no position table"),
        ("clip", {"aspect": "keep"}, "reads squares"),
        ("eva02", {"aspect": "keep"}, "reads squares"),
        ("eva02", {"positions": "resample", "pixels": 60}, "not a multiple of its patches' 14"),
        ("clip", {"positions": "resample", "pixels": 50}, "not a multiple of its patches' 12"),
        ("pix2struct", {"pixels": 48}, "36 patches, but its network reads 32"),
        ("pix2struct", {"pixels": 44}, "not a multiple of its patches' 8"),
        ("radio", {"pixels": 50}, "not a multiple of its patches' 12"),
        ("radio", {"positions": "resample"}, "always resamples its position table"),
    ],
)
def test_a_rule_that_the_network_has_no_use_for_is_refused(
    name: str, change: dict[str, Any], message: str, folders: dict[str, tuple[Path, EncoderSpec]]
) -> None:
    with pytest.raises(StudyError, match=message) as error:
        load(folders, name, **change)
    assert str(error.value).startswith(f"encoder {name}: ")


@pytest.mark.parametrize(("height", "width"), [(40, 64), (64, 40), (48, 48)])
def test_padding_is_llavas_square_of_the_mean_colour(height: int, width: int) -> None:
    pixels = picture(height, width)
    side = max(height, width)
    square = ImageOps.pad(
        pillow(pixels), (side, side), color=(122, 116, 104)
    )  # int(255 mean), as LLaVA has it
    expected = np.asarray(square.resize((24, 24), Image.Resampling.BICUBIC)).astype(int)
    frame = Frame.of(ROWS["clip_l"].model_copy(update={"pixels": 24}), patch=14)
    result = frame.apply(pixels)[0].permute(1, 2, 0).numpy()
    assert np.abs(result - expected).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(40, 64), (64, 40), (20, 30)])
def test_cropping_is_clips_own_processor(height: int, width: int) -> None:
    pixels = picture(height, width)
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}, do_normalize=False
    )
    theirs = processor(pillow(pixels), return_tensors="pt")["pixel_values"] * 255
    assert (Frame("crop", 24).apply(pixels).float() - theirs).abs().max() <= 1.01


@pytest.mark.parametrize(("height", "width"), [(40, 64), (64, 40), (20, 30)])
def test_the_longest_side_with_zeros_after_it_is_sams_own_processor(
    height: int, width: int, folders: dict[str, tuple[Path, EncoderSpec]]
) -> None:
    row = {"aspect": "longest", "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    encoder, pixels = load(folders, "sam", **row), picture(height, width)
    processor = transformers.SamImageProcessor(
        size={"longest_edge": 48}, pad_size={"height": 48, "width": 48}
    )
    theirs = processor(pillow(pixels), return_tensors="pt")["pixel_values"]
    assert (encoder.preprocess(pixels) - theirs).abs().max() <= 1.01 / 255 / 0.224
    short = 48 * min(height, width) // max(height, width)
    after = (
        encoder.preprocess(pixels)[0, :, short:]
        if width > height
        else encoder.preprocess(pixels)[0, ..., short:]
    )
    assert not after.any()


def test_pictures_of_any_shape_are_streamed_in_order(
    tmp_path: Path, folders: dict[str, tuple[Path, EncoderSpec]]
) -> None:
    shapes, encoder = [(40, 60), (30, 30), (60, 40), (30, 30)], load(folders, "pix2struct")
    for number, (height, width) in enumerate(shapes):
        pillow(picture(height, width, number)).save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    (batch,) = stream_features({"pix2struct": encoder}, paths, 4)
    for number, shape in enumerate(shapes):
        with torch.no_grad():
            alone = grid_features(encoder, encoder.preprocess(picture(*shape, number)), 4)
        assert torch.allclose(batch["pix2struct"][number : number + 1], alone, atol=1e-5)


def staged(spec: EncoderSpec, folder: Path, **published: int) -> Path:
    row = spec.model_dump(mode="json") | {"published": published}
    write_json(folder.parent / "encoder.json", row)
    stage_encoder(settings=folder.parent / "encoder.json", source=Path(spec.source), output=folder)
    return folder


def test_a_network_that_is_not_the_published_one_is_not_staged(
    tmp_path: Path, folders: dict[str, tuple[Path, EncoderSpec]]
) -> None:
    source, spec = folders["siglip"]
    whole = sum(p.numel() for p in transformers.SiglipVisionModel.from_pretrained(source).parameters())
    folder = staged(spec, tmp_path / "siglip", parameters=round(1.009 * whole), width=16, grid=3)
    assert read_spec(folder)[1] == (16,)
    for published, message in (
        ({"parameters": round(1.02 * whole)}, f"its network has {whole:,} parameters"),
        ({"parameters": whole, "width": 32}, "its width is 16"),
        ({"parameters": whole, "grid": 4}, "its grid is 3"),
    ):
        with pytest.raises(StudyError, match=message):
            staged(spec, tmp_path / "other", **published)
        assert not (tmp_path / "other").exists()


def test_a_staged_encoder_says_the_widths_of_its_levels(
    tmp_path: Path, folders: dict[str, tuple[Path, EncoderSpec]]
) -> None:
    spec = folders["sam"][1].model_copy(update={"layer": (1, -1)})
    write_json(tmp_path / "encoder.json", spec.model_dump(mode="json"))
    stage_encoder(settings=tmp_path / "encoder.json", source=folders["sam"][0], output=tmp_path / "sam")
    assert read_spec(tmp_path / "sam") == (spec, (16, 20))
    assert load_encoder(tmp_path / "sam").widths == (16, 20)
