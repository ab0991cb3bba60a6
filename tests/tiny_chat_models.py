"""Tokenizers and chat templates shaped like those of the language model families, and tiny models for them.

The vocabularies are bytes (Qwen, Llama 3) or characters (Vicuna) with a few merges; what matters is what the
families differ in: how text is cut before merging, which special tokens there are, who writes the beginning
token, and what the template writes around a message.
"""

from __future__ import annotations

from typing import Any

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # before transformers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

_CUT = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s*[\r\n]+|\s+"

CHATML = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# the last answer has an empty chain of thought; the generation prompt has it when thinking is off
QWEN3 = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
LLAMA3 = (
    "{% if date_string is not defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "{{ bos_token + '<|start_header_id|>system<|end_header_id|>\n\n' }}"
    "{{ 'Today Date: ' + date_string + '<|eot_id|>' }}"
    "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}"
    "{{ message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
VICUNA = (
    "{{ 'A chat between a user and an assistant. ' }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'USER: ' + message['content'] }}"
    "{% else %}{{ ' ASSISTANT: ' + message['content'] + eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)


def _bytes(special: tuple[str, ...]) -> Tokenizer:
    """Byte-level BPE with the merge of `red` and ` red`, and the families' rule of cutting text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("r", "e"), ("re", "d"), ("Ġ", "red"), ("Ċ", "Ċ")]
    vocabulary = {token: i for i, token in enumerate([*alphabet, *("".join(pair) for pair in merges)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CUT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in special])
    return tokenizer


def _wrap(tokenizer: Tokenizer, template: str | None, **special: str) -> Any:
    named = {f"{role}_token": token for role, token in special.items()}
    wrapped = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    wrapped.chat_template = template
    return wrapped


def qwen(template: str = CHATML) -> Any:
    """Qwen 2.5, or with its template Qwen 3: no beginning token."""
    tokenizer = _bytes(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))
    tokenizer.add_tokens(["<think>", "</think>"])
    return _wrap(tokenizer, template, eos="<|im_end|>", pad="<|endoftext|>")


def llama3() -> Any:
    """Llama 3: the tokenizer and the template both write the beginning token."""
    bos = "<|begin_of_text|>"
    tokenizer = _bytes((bos, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return _wrap(tokenizer, LLAMA3, bos=bos, eos="<|eot_id|>")


def vicuna() -> Any:
    """Vicuna: sentencepiece's pieces with a space before the text; the tokenizer writes the beginning token
    and the template does not."""
    characters = sorted(set("▁.:<>?,'!_\n0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    merges = [("r", "e"), ("re", "d"), ("▁", "red")]
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{n:02X}>" for n in range(256)), *characters]
    pieces += ["".join(pair) for pair in merges]
    vocabulary = {token: i for i, token in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    replaced = decoders.Replace("▁", " ")
    tokenizer.decoder = decoders.Sequence(
        [replaced, decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _wrap(tokenizer, VICUNA, bos="<s>", eos="</s>", unk="<unk>")


def tiny_model(family: str, vocabulary: int) -> Any:
    """A random two-layer causal language model of the family, in evaluation mode."""
    import torch

    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "max_position_embeddings": 512, "vocab_size": vocabulary}
    if family == "qwen3":
        sizes |= {"head_dim": 16}
    names = {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama3": "Llama", "vicuna": "Llama"}
    if family == "vicuna":
        sizes |= {"num_key_value_heads": 4}
    config = getattr(transformers, f"{names[family]}Config")(**sizes, initializer_range=0.2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, f"{names[family]}ForCausalLM")(config).eval()
