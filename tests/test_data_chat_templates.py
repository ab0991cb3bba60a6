"""Prompts of the language model families: what their own templates and tokenizers write, in both stages."""

from __future__ import annotations

from typing import Any

import pytest
import tiny_chat_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from encoder_roles.data.packing import Sample, pack
from encoder_roles.data.prompts import IGNORED, TEMPLATE_OPTIONS, PromptRenderer
from encoder_roles.evaluation.decoding import Question, answer
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import load_language_model
from encoder_roles.provenance import write_json
from encoder_roles.sources.stage_language_model import stage_language_model
from encoder_roles.study.names import StudyError
from encoder_roles.training.attention import use_packed_attention
from encoder_roles.training.step import answer_losses

TOKENIZERS: dict[str, Any] = {
    "qwen2": tiny_chat_models.qwen(),
    "qwen3": tiny_chat_models.qwen(tiny_chat_models.QWEN3),
    "llama3": tiny_chat_models.llama3(),
    "vicuna": tiny_chat_models.vicuna(),
}
RENDERERS = {family: PromptRenderer(tokenizer) for family, tokenizer in TOKENIZERS.items()}
words = st.text("abcdefr ?.:'\n", min_size=1, max_size=20).map(str.strip).filter(bool)


def tokens(prompt: Any) -> list[int]:
    return [token for piece in prompt.prefix for token in piece] + list(prompt.body)


@pytest.mark.parametrize("family", TOKENIZERS)
@given(question=words, answer=words)
@settings(max_examples=40, deadline=None)
def test_a_prompt_without_pictures_is_the_tokenizers_own_encoding(
    family: str, question: str, answer: str
) -> None:
    tokenizer = TOKENIZERS[family]
    conversation = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    options = {"tokenize": False, **TEMPLATE_OPTIONS}
    requests = tokenizer.apply_chat_template(conversation[:1], add_generation_prompt=True, **options)
    whole = tokenizer.apply_chat_template(conversation, **options)
    own = family == "vicuna"  # its template leaves the beginning token to the tokenizer
    prompt = RENDERERS[family].render(question, None, images=0)
    assert tokens(prompt) == tokenizer(requests, add_special_tokens=own)["input_ids"]
    learnt = RENDERERS[family].render(question, answer, images=0)
    expected = tokenizer(whole.rstrip("\n"), add_special_tokens=own)["input_ids"]
    if tokenizer(requests, add_special_tokens=own)["input_ids"] == expected[: len(tokens(prompt))]:
        assert tokens(learnt) == expected
    assert tokens(learnt)[: len(tokens(prompt))] == tokens(prompt)


@pytest.mark.parametrize("images", [0, 1, 2])
@pytest.mark.parametrize("family", TOKENIZERS)
def test_training_and_evaluation_begin_alike_and_once(family: str, images: int) -> None:
    tokenizer, renderer = TOKENIZERS[family], RENDERERS[family]
    learnt, question = (
        renderer.render("what colour ?", "red", images),
        renderer.render("what colour ?", None, images),
    )
    assert learnt.prefix == question.prefix
    assert learnt.body[: len(question.body)] == question.body
    if tokenizer.bos_token is not None:
        assert tokens(question)[0] == tokenizer.bos_token_id
        assert tokens(question).count(tokenizer.bos_token_id) == 1
    else:
        assert tokens(question)[0] == tokenizer.convert_tokens_to_ids("<|im_start|>")
    labels = [label for label in learnt.labels if label != IGNORED]
    assert labels[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(labels[:-1]).strip() == "red"
    assert len(labels) == 2, "the answer is the one token that follows the generation prompt"


def test_what_stands_around_the_question_is_the_families_own() -> None:
    texts = {
        family: TOKENIZERS[family].decode(tokens(renderer.render("is it red", None, images=1)))
        for family, renderer in RENDERERS.items()
    }
    assert texts["qwen2"] == (
        "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nis it red<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert texts["qwen3"].endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert "Today Date: 26 Jul 2024<|eot_id|>" in texts["llama3"]
    assert texts["llama3"].endswith("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")
    assert texts["vicuna"].startswith("<s> A chat between")
    assert texts["vicuna"].endswith("is it red ASSISTANT:")


def test_an_empty_chain_of_thought_is_part_of_the_prompt_and_not_learnt() -> None:
    prompt = RENDERERS["qwen3"].render("what", "red")
    thought = TOKENIZERS["qwen3"].convert_tokens_to_ids("</think>")
    place = prompt.body.index(thought)
    assert all(label == IGNORED for label in prompt.labels[: place + 1])


def test_a_template_that_writes_todays_date_is_refused() -> None:
    tokenizer = tiny_chat_models.llama3()
    tokenizer.chat_template = "{{ strftime_now('%d') }}" + tiny_chat_models.CHATML
    with pytest.raises(StudyError, match="today's date"):
        PromptRenderer(tokenizer)


def test_a_beginning_token_written_twice_is_refused() -> None:
    tokenizer = tiny_chat_models.llama3()
    tokenizer.chat_template = "{{ bos_token }}" + tiny_chat_models.LLAMA3
    with pytest.raises(StudyError, match=r"begins with '<\|begin_of_text\|>' twice"):
        PromptRenderer(tokenizer).render("what", "red")


@pytest.mark.parametrize("family", TOKENIZERS)
def test_any_family_is_staged_trained_packed_and_answers(family: str, tmp_path: Any) -> None:
    """Packed losses are those of the model itself on the whole sequence, and the answer is its greedy own."""
    source = tmp_path / "source"
    tiny_chat_models.tiny_model(family, len(TOKENIZERS[family])).save_pretrained(source)
    TOKENIZERS[family].save_pretrained(source)
    write_json(tmp_path / "settings.json", {"chat_template": None})
    stage_language_model(settings=tmp_path / "settings.json", source=source, output=tmp_path / "staged")
    tokenizer, model = load_tokenizer(tmp_path / "staged"), load_language_model(tmp_path / "staged")
    renderer = PromptRenderer(tokenizer)
    prompts = [renderer.render("what colour ?", "red"), renderer.render("is it a cat", "no, a dog")]
    visual = torch.randn(1, 3, 32, generator=torch.Generator().manual_seed(0))
    batch = pack([Sample(("picture",), tuple(prompts))], 3)
    expected = []
    with torch.no_grad():
        for prompt in prompts:
            embed = model.get_input_embeddings()
            parts = [embed(torch.tensor(prompt.prefix[0])), visual[0], embed(torch.tensor(prompt.body))]
            logits = model(inputs_embeds=torch.cat(parts)[None]).logits[0, -len(prompt.body) - 1 :]
            result = torch.nn.functional.cross_entropy(
                logits[:-1], torch.tensor(prompt.labels), reduction="none", ignore_index=IGNORED
            )
            expected.append(result[torch.tensor(prompt.labels) != IGNORED])
        question = renderer.render("what colour ?")
        (text,) = answer(model, [Question(question, (0,), 4)], visual, tokenizer.eos_token_id, 1)
        parts = [embed(torch.tensor(question.prefix[0])), visual[0], embed(torch.tensor(question.body))]
        assert text[0] == int(model(inputs_embeds=torch.cat(parts)[None]).logits[0, -1].argmax())
        use_packed_attention(model)
        assert torch.allclose(answer_losses(model, batch, visual), torch.cat(expected), atol=1e-4)


def test_a_language_model_that_lacks_a_weight_is_refused(tmp_path: Any) -> None:
    tiny_chat_models.tiny_model("llama3", 300).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(StudyError, match=r"model\.layers\.1\.mlp\.up_proj\.weight' is missing"):
        load_language_model(tmp_path)
