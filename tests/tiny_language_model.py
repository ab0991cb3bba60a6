"""A tiny language model with a word-level tokenizer, for tests: random weights, made in no time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

WORDS = (
    "what",
    "colour",
    "is",
    "the",
    "?",
    "red",
    "green",
    "blue",
    "circle",
    "a",
    "and",
    "yes",
    "no",
    "word",
    "how",
    "many",
)
CHAT_TEMPLATE = (
    "{{ '<bos>' }}{% for message in messages %}{% if message['role'] == 'user' %}{{ message['content'] }}"
    "{% else %}{{ ' <answer> ' + message['content'] + ' <eos>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' <answer>' }}{% endif %}"
)

UNKNOWN = "<unk>"


def tiny_tokenizer(words: Sequence[str] = WORDS):
    """A word-level tokenizer: four special tokens and one token a word."""
    from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # before transformers
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {
        token: i for i, token in enumerate(("<pad>", "<bos>", "<eos>", "<answer>", "<unk>", *words))
    }
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos": "<bos>", "eos": "<eos>", "pad": "<pad>", "unk": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{role}_token": token for role, token in special.items()},
        additional_special_tokens=["<answer>"],
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def write_tiny_language_model(
    folder: Path, width: int = 32, layers: int = 2, words: Sequence[str] = WORDS
) -> Path:
    """Save a random Qwen2 and its tokenizer to a folder, in transformers' own format."""
    tokenizer = tiny_tokenizer(words)
    from transformers import Qwen2Config, Qwen2ForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=2 * width,
                num_hidden_layers=layers,
                num_attention_heads=2,
                num_key_value_heads=2,
                max_position_embeddings=256,
                tie_word_embeddings=True,
                initializer_range=0.2,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
