"""Tiny random models of public families in transformers' own format, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tiny_language_model import tiny_tokenizer

CHAT_TEMPLATE = (
    "{{ '<bos>' }}{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ ' PICTURE ' }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ ' <answer>' }}{% endif %}"
)


def tokenizer_with(picture: str) -> tuple[Any, str]:
    """A tokenizer with this token for a picture, and a chat template that writes it."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<answer>", picture]})
    return tokenizer, CHAT_TEMPLATE.replace("PICTURE", picture)


def tiny_llama(tokenizer: Any) -> Any:
    """The configuration of the language model."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def save_random(kind: Any, config: Any, folder: Path) -> None:
    """Save a model whose parameters, biases too, are drawn, so that its answers differ."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = kind(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn_like(parameter) * 0.4)
    model.save_pretrained(folder)


def write_tiny_llava(folder: Path) -> Path:
    """LLaVA (CLIP of 2 x 2 patches, Llama) and its processor in a folder."""
    tokenizer, template = tokenizer_with("<image>")
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=16,
        patch_size=8,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=tiny_llama(tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
    )
    save_random(LlavaForConditionalGeneration, config, folder)
    size = {"height": 16, "width": 16}
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=size),
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template,
    )
    processor.save_pretrained(folder)
    return folder


def write_tiny_deepseek_vl(folder: Path) -> Path:
    """DeepSeek-VL with its two encoders (SigLIP of 2 x 2 patches, SAM, Llama) and its processor."""
    picture = "<image_placeholder>"
    tokenizer, template = tokenizer_with(picture)
    tokenizer.image_token = picture
    from transformers import (
        DeepseekVLHybridConfig,
        DeepseekVLHybridForConditionalGeneration,
        DeepseekVLHybridImageProcessor,
        DeepseekVLHybridProcessor,
        SamVisionConfig,
        SiglipVisionConfig,
    )

    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16}
    config = DeepseekVLHybridConfig(
        text_config=tiny_llama(tokenizer),
        vision_config=SiglipVisionConfig(intermediate_size=32, image_size=32, **small),
        high_res_vision_config=SamVisionConfig(
            output_channels=8,
            image_size=128,
            window_size=2,
            global_attn_indexes=[1],
            mlp_dim=32,
            num_pos_feats=8,
            **small,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids(picture),
    )
    save_random(DeepseekVLHybridForConditionalGeneration, config, folder)
    sizes = {"size": {"height": 32, "width": 32}, "high_res_size": {"height": 128, "width": 128}}
    processor = DeepseekVLHybridProcessor(
        image_processor=DeepseekVLHybridImageProcessor(min_size=4, **sizes),
        tokenizer=tokenizer,
        chat_template=template,
        num_image_tokens=4,
    )
    processor.save_pretrained(folder)
    file = folder / "tokenizer_config.json"  # where public checkpoints say which token is a picture's
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["extra_special_tokens"] = {"image_token": picture}
    file.write_text(json.dumps(settings), encoding="utf-8")
    return folder
