"""Tiny random encoders, written in each library's own format, for the tests of every room.

`write_pool(folder)` gives five staged folders: what a study's `encoders/` holds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from encoder_roles.encoders import _torchvision  # isort: skip  # noqa: F401  # must come before transformers' models
import transformers

from encoder_roles.encoders.loading import SPEC_FILE, load_source
from encoder_roles.provenance import write_json
from encoder_roles.study.sections import EncoderSpec


def write_clip(folder: Path, seed: int = 0, whole: bool = False) -> EncoderSpec:
    """CLIP's vision network, or the whole CLIP model; 48 px, patches of 12."""
    torch.manual_seed(seed)
    vision = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=48,
        patch_size=12,
    )
    if whole:
        text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        text |= {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
        config = transformers.CLIPConfig(text_config=text, vision_config=vision.to_dict(), projection_dim=8)
        transformers.CLIPModel(config).save_pretrained(folder)
    else:
        transformers.CLIPVisionModel(vision).save_pretrained(folder)
    return _spec("transformers", folder, 48)


def write_siglip(folder: Path, seed: int = 0) -> EncoderSpec:
    """SigLIP's vision network with its pooling head; 48 px, patches of 16."""
    torch.manual_seed(seed)
    config = transformers.SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=48,
        patch_size=16,
    )
    transformers.SiglipVisionModel(config).save_pretrained(folder)
    return _spec("transformers", folder, 48)


def write_dinov2(folder: Path, seed: int = 0) -> EncoderSpec:
    """DINOv2; 64 px, patches of 16."""
    torch.manual_seed(seed)
    config = transformers.Dinov2Config(
        hidden_size=24, mlp_ratio=2, num_hidden_layers=2, num_attention_heads=2, image_size=64, patch_size=16
    )
    transformers.Dinov2Model(config).save_pretrained(folder)
    return _spec("transformers", folder, 64)


def write_sam(folder: Path, seed: int = 0) -> EncoderSpec:
    """SAM's vision network; 48 px, patches of 12."""
    torch.manual_seed(seed)
    config = transformers.SamVisionConfig(
        hidden_size=16,
        output_channels=20,
        mlp_dim=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=48,
        patch_size=12,
        use_rel_pos=False,
        window_size=0,
        global_attn_indexes=[0, 1],
    )
    transformers.SamVisionModel(config).save_pretrained(folder)
    return _spec("transformers", folder, 48)


def write_convnext(folder: Path, seed: int = 0) -> EncoderSpec:
    """An open_clip model whose vision tower is a timm ConvNeXt; 64 px."""
    import open_clip

    torch.manual_seed(seed)
    model_cfg = {
        "embed_dim": 8,
        "custom_text": True,
        "vision_cfg": {
            "timm_model_name": "test_convnext2",
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 64,
        },
        "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1},
    }
    model = open_clip.CustomTextCLIP(
        **{key: value for key, value in model_cfg.items() if key != "custom_text"},  # type: ignore[arg-type]
    )
    folder.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    write_json(folder / "open_clip_config.json", {"model_cfg": model_cfg, "preprocess_cfg": {"size": 64}})
    return _spec("open_clip", folder, 64)


def write_timm(folder: Path, seed: int = 0) -> EncoderSpec:
    """A timm ViT in timm's own format, its position table for 64 px; patches of 16, register tokens."""
    return _write_timm(folder, "test_vit3", {"img_size": 64}, 64, seed)


def _write_timm(
    folder: Path, architecture: str, arguments: dict[str, int], pixels: int, seed: int
) -> EncoderSpec:
    import timm

    torch.manual_seed(seed)
    network = timm.create_model(architecture, num_classes=5, **arguments)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), folder / "model.safetensors")
    config = {"architecture": architecture, "num_classes": 5, "model_args": arguments, "pretrained_cfg": {}}
    write_json(folder / "config.json", config)
    return _spec("timm", folder, pixels)


def write_pix2struct(folder: Path, seed: int = 0, whole: bool = False) -> EncoderSpec:
    """Pix2Struct's image encoder, or the whole model; patches of 8, 25 at most, proportions kept."""
    torch.manual_seed(seed)
    vision = transformers.Pix2StructVisionConfig(
        hidden_size=16,
        patch_embed_hidden_size=3 * 8 * 8,
        d_ff=32,
        d_kv=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        seq_len=32,
        patch_size=8,
    )
    if whole:
        text = {"vocab_size": 50, "hidden_size": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
        config = transformers.Pix2StructConfig(text_config=text, vision_config=vision.to_dict())
        transformers.Pix2StructForConditionalGeneration(config).save_pretrained(folder)
    else:
        transformers.Pix2StructVisionModel(vision).save_pretrained(folder)
    row = {"library": "transformers", "source": str(folder), "pixels": 40}
    return EncoderSpec.model_validate(row | {"aspect": "keep", "normalisation": "picture"})


def write_eva02(folder: Path, seed: int = 0) -> EncoderSpec:
    """EVA-02 in timm's own format, its position table for 56 px; patches of 14, rotary positions."""
    arguments = {"img_size": 56, "embed_dim": 24, "depth": 2, "num_heads": 2}
    return _write_timm(folder, "eva02_tiny_patch14_224", arguments, 56, seed)


TINY_VIT = {"embed_dim": 24, "depth": 2, "num_heads": 2}


def write_dinov3(folder: Path, seed: int = 0) -> EncoderSpec:
    """DINOv3 in timm's own format, 64 px; patches of 16, rotary positions, class token, four registers."""
    return _write_timm(folder, "vit_small_patch16_dinov3", TINY_VIT | {"img_size": 64}, 64, seed)


def write_pe_core(folder: Path, seed: int = 0) -> EncoderSpec:
    """Perception Encoder core in timm's own format, 48 px; patches of 16, attention pooling and a head."""
    return _write_timm(folder, "vit_pe_core_tiny_patch16_384", TINY_VIT | {"img_size": 48}, 48, seed)


def write_pe_spatial(folder: Path, seed: int = 0) -> EncoderSpec:
    """Perception Encoder spatial in timm's own format, 48 px; patches of 16, no norm after the blocks."""
    return _write_timm(folder, "vit_pe_spatial_tiny_patch16_512", TINY_VIT | {"img_size": 48}, 48, seed)


def write_aimv2(folder: Path, seed: int = 0) -> EncoderSpec:
    """AIMv2 in timm's own format, 56 px; patches of 14, no class token, RMSNorm and SwiGLU."""
    return _write_timm(folder, "aimv2_large_patch14_224", TINY_VIT | {"img_size": 56}, 56, seed)


def write_internvit(folder: Path, seed: int = 0) -> EncoderSpec:
    """InternViT in timm's own format, 56 px; patches of 14, layer scale, no norm after the blocks."""
    return _write_timm(folder, "vit_intern300m_patch14_448", TINY_VIT | {"img_size": 56}, 56, seed)


def write_metaclip2(folder: Path, seed: int = 0) -> EncoderSpec:
    """MetaCLIP 2's vision network; 48 px, patches of 12."""
    torch.manual_seed(seed)
    config = transformers.MetaClip2VisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=48,
        patch_size=12,
        hidden_act="gelu",
    )
    transformers.MetaClip2VisionModel(config).save_pretrained(folder)
    return _spec("transformers", folder, 48)


def write_radio(folder: Path, seed: int = 0) -> EncoderSpec:
    """RADIO as its repository has it, 48 px: weights by the names of its own code, and a config.json for that
    code, which says nothing to transformers; patches of 12, three class tokens, two registers."""
    library_config = {
        "model_type": "radio",
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    library_config |= {"patch_size": 12, "max_img_size": 96, "num_cls_tokens": 3, "num_registers": 2}
    library_config |= {"norm_mean": [0.5, 0.5, 0.5], "norm_std": [0.5, 0.5, 0.5]}
    torch.manual_seed(seed)
    network = transformers.RadioModel(transformers.RadioConfig.from_dict(library_config))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_radio_names(network.state_dict()), folder / "model.safetensors")
    code = {"AutoConfig": "hf_model.RADIOConfig", "AutoModel": "hf_model.RADIOModel"}
    write_json(folder / "config.json", {"architectures": ["RADIOModel"], "auto_map": code, "patch_size": 12})
    return _spec("transformers", folder, 48).model_copy(update={"library_config": library_config})


def _radio_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """RADIO's weights by the names of its own code, without layer scale, with one matrix for q, k and v."""
    names = {
        "embeddings.patch_projection": "model.patch_generator.embedder",
        "embeddings.position_embedding": "model.patch_generator.pos_embed",
        "embeddings.cls_register_token": "model.patch_generator.cls_token.token",
        "encoder.layer": "model.blocks",
        "attention.o_proj": "attn.proj",
        "attention.q_proj": "attn.qkv",
    }
    renamed = {}
    for key, weight in state.items():
        if "lambda1" in key or "k_proj" in key or "v_proj" in key:
            continue
        if "q_proj" in key:
            weight = torch.cat([state[key.replace("q_proj", f"{letter}_proj")] for letter in "qkv"])
        for old, new in names.items():
            key = key.replace(old, new)
        renamed[f"radio_model.{key}"] = weight.clone()
    return renamed


WRITERS: dict[str, Callable[[Path, int], EncoderSpec]] = {
    "clip": write_clip,
    "siglip": write_siglip,
    "dinov2": write_dinov2,
    "convnext": write_convnext,
    "sam": write_sam,
}
# Families beside the laptop pool's five.
MORE_WRITERS: dict[str, Callable[[Path, int], EncoderSpec]] = {
    "pix2struct": write_pix2struct,
    "eva02": write_eva02,
    "dinov3": write_dinov3,
    "pe_core": write_pe_core,
    "pe_spatial": write_pe_spatial,
    "aimv2": write_aimv2,
    "internvit": write_internvit,
    "metaclip2": write_metaclip2,
    "radio": write_radio,
}


def stage(folder: Path, spec: EncoderSpec) -> Path:
    """Write the folder's encoder.json, as `stage_encoder` does."""
    encoder = load_source(folder.name, spec, folder)
    sizes = {"width": encoder.width, "widths": list(encoder.widths)}
    write_json(folder / SPEC_FILE, spec.model_dump(mode="json") | sizes)
    return folder


def write_pool(folder: Path, names: tuple[str, ...] = tuple(WRITERS)) -> dict[str, Path]:
    """Staged folders of tiny encoders, each with its own seed, in the order of `names`."""
    staged, writers = {}, WRITERS | MORE_WRITERS
    for name in names:
        spec = writers[name](folder / name, list(writers).index(name))
        staged[name] = stage(folder / name, spec)
    return staged


def pictures(count: int = 3, seed: int = 0, size: int = 96) -> torch.Tensor:
    """Random uint8 pictures (count, 3, size, size)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return torch.nn.functional.interpolate(coarse, size=(size, size), mode="nearest")


def _spec(library: str, folder: Path, pixels: int) -> EncoderSpec:
    half = (0.5, 0.5, 0.5)
    return EncoderSpec.model_validate(
        {"library": library, "source": str(folder), "pixels": pixels, "mean": half, "std": half}
    )


def write_whole(name: str, folder: Path) -> EncoderSpec:
    """A whole model with the vision network `name` in it, as hubs have them; its spec is the network's."""
    spec = (WRITERS | MORE_WRITERS)[name](folder.with_name(f"{folder.name}-vision"), 0)
    vision = _class(name, "VisionConfig").from_pretrained(spec.source).to_dict()
    torch.manual_seed(1)
    if name == "pix2struct":
        write_pix2struct(folder, whole=True)
    elif name == "sam":
        decoder = {"hidden_size": 20, "mlp_dim": 16, "num_attention_heads": 2, "iou_head_hidden_dim": 8}
        prompt = {"hidden_size": 20, "image_size": 48, "patch_size": 12}
        config = transformers.SamConfig(
            vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder
        )
        transformers.SamModel(config).save_pretrained(folder)
    else:
        text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        text |= {"vocab_size": 50, "eos_token_id": 1}
        config = _class(name, "Config")(text_config=text, vision_config=vision)
        _class(name, "Model")(config).save_pretrained(folder)
    return spec.model_copy(update={"source": str(folder)})


def vision_part(name: str, folder: Path) -> transformers.PreTrainedModel:
    """The vision network inside a whole model of `write_whole`, as transformers itself loads it."""
    if name == "pix2struct":
        return transformers.Pix2StructForConditionalGeneration.from_pretrained(folder).encoder
    whole = _class(name, "Model").from_pretrained(folder)
    part = whole.vision_encoder if name == "sam" else whole.vision_model
    if isinstance(part, _class(name, "VisionModel")):
        return part
    alone = _class(name, "VisionModel")(part.config)
    inner = alone.vision_encoder if name == "sam" else alone.vision_model
    inner.load_state_dict(part.state_dict())
    return alone


def _class(name: str, ending: str) -> type:
    return getattr(
        transformers,
        {"sam": "Sam", "siglip": "Siglip", "pix2struct": "Pix2Struct", "metaclip2": "MetaClip2"}[name]
        + ending,
    )
