"""Packing changes what is computed together, never what is computed."""

from __future__ import annotations

from encoder_roles.encoders import _transformers  # isort: skip  # noqa: F401  # before transformers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_language_model import WORDS, tiny_tokenizer, write_tiny_language_model

from encoder_roles.data.packing import Sample, pack
from encoder_roles.data.prompts import PromptRenderer
from encoder_roles.training.attention import use_packed_attention
from encoder_roles.training.step import answer_losses

RENDERER = PromptRenderer(tiny_tokenizer())
words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=6).map(" ".join)


@pytest.fixture(scope="module")
def language_model(tmp_path_factory):
    from transformers import AutoModelForCausalLM

    folder = write_tiny_language_model(tmp_path_factory.mktemp("lm"))
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    use_packed_attention(model)
    return model


@given(st.lists(st.lists(words, min_size=1, max_size=6), min_size=1, max_size=6), st.sampled_from([1, 4]))
def test_no_token_is_computed_twice_and_only_rounding_pads(questions, rounding):
    samples = [Sample(("a",), tuple(RENDERER.render(q, "red", 1) for q in texts)) for texts in questions]
    batch = pack(samples, 4, rounding)
    needed = sum(5 + sum(len(prompt.body) for prompt in sample.questions) for sample in samples)
    assert batch.tokens == needed
    assert len(batch.ids) - needed <= (rounding - 1) * sum(len(texts) for texts in questions)
    assert sum(rows * length for rows, length in batch.blocks.shapes) == len(batch.ids)


def draw_samples(draw_from, visual_tokens):
    samples, visual = [], []
    for number, (images, questions) in enumerate(draw_from):
        prompts = tuple(RENDERER.render(question, answer, images) for question, answer in questions)
        samples.append(Sample(tuple(f"{number}-{i}.png" for i in range(images)), prompts))
        visual.append(torch.randn(images, visual_tokens, 32, generator=torch.Generator().manual_seed(number)))
    return samples, visual


@settings(max_examples=25, deadline=None)
@given(
    picks=st.lists(
        st.tuples(st.integers(0, 2), st.lists(st.tuples(words, words), min_size=1, max_size=4)),
        min_size=1,
        max_size=5,
    ),
    visual_tokens=st.sampled_from([0, 1, 4]),
    rounding=st.sampled_from([1, 4]),
)
def test_packed_losses_are_those_of_each_question_alone(language_model, picks, visual_tokens, rounding):
    samples, visual = draw_samples(picks, visual_tokens)
    batch = pack(samples, visual_tokens, rounding)
    with torch.no_grad():
        packed = answer_losses(language_model, batch, torch.cat(visual))
        number = 0
        for sample, seen in zip(samples, visual, strict=True):
            for prompt in sample.questions:
                alone = pack([Sample(sample.pictures, (prompt,))], visual_tokens)
                expected = answer_losses(language_model, alone, seen)
                torch.testing.assert_close(packed[batch.question == number], expected, atol=1e-5, rtol=0)
                number += 1
    assert number == int(batch.question.max()) + 1


def test_a_question_alone_has_the_loss_the_language_model_itself_computes(language_model):
    prompt = RENDERER.render("what colour is the circle ?", "red and blue", images=0)
    ids, labels = torch.tensor([prompt.body]), torch.tensor([prompt.labels])
    with torch.no_grad():
        language_model.set_attn_implementation("eager")
        expected = language_model(input_ids=ids, labels=labels).loss
        use_packed_attention(language_model)
        losses = answer_losses(language_model, pack([Sample((), (prompt,))], 4), torch.zeros(0, 4, 32))
    torch.testing.assert_close(losses.mean(), expected, atol=1e-6, rtol=0)
    assert len(losses) == prompt.learnt == 4


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.lists(st.tuples(words, words), min_size=1, max_size=4)),
        min_size=1,
        max_size=4,
    )
)
def test_attention_by_samples_has_the_losses_and_gradients_of_attention_by_blocks(language_model, picks):
    samples, visual = draw_samples(picks, 4)
    batch, computed = pack(samples, 4), []
    for way in ("trees", "blocks", "flash"):
        use_packed_attention(language_model, way)
        losses = answer_losses(language_model, batch, torch.cat(visual))
        gradients = torch.autograd.grad(losses.sum(), list(language_model.parameters()))
        computed.append((losses.detach(), torch.cat([gradient.flatten() for gradient in gradients])))
    use_packed_attention(language_model)
    for by_samples, *by_blocks in zip(*computed, strict=True):
        for expected in by_blocks:
            assert (by_samples - expected).norm() <= 1e-5 * expected.norm()


def test_samples_of_like_lengths_attend_together_and_longer_ones_pad_none_of_them():
    short, long = (
        Sample(("a",), (RENDERER.render(" ".join(WORDS[:1] * count), "red", 1),)) for count in (3, 30)
    )
    shapes = pack([short, long, short, short], 4).trees.shapes
    assert [rows for rows, _ in shapes] == [1, 3]
    assert all(
        length == sample.prefix_length(4) + len(sample.questions[0].body)
        for (_, length), sample in zip(shapes, (long, short), strict=True)
    )


def test_every_visual_token_reaches_every_question_and_no_other_picture(language_model):
    questions = tuple(RENDERER.render(q, "red", 1) for q in ("what colour", "how many"))
    batch = pack([Sample(("a",), questions), Sample(("b",), questions)], 3)
    visual = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    losses = answer_losses(language_model, batch, visual)
    for number in range(4):
        loss = losses[batch.question == number].sum()
        (gradient,) = torch.autograd.grad(loss, visual, retain_graph=True)
        picture = number // 2
        assert gradient[picture].abs().amax(-1).gt(0).all()
        assert gradient[1 - picture].eq(0).all()
