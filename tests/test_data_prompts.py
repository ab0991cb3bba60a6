"""Prompts: one rendering for training and evaluation, by the tokenizer's chat template."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_language_model import WORDS, tiny_tokenizer

from encoder_roles.data.prompts import IGNORED, PromptRenderer, render
from encoder_roles.study.names import StudyError

TOKENIZER = tiny_tokenizer()
RENDERER = PromptRenderer(TOKENIZER)
text = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)


@given(question=text, answer=text, images=st.integers(0, 3))
def test_prefix_and_body_are_the_chat_templates_own_tokens(question, answer, images):
    prompt = RENDERER.render(question, answer, images)
    content = "<image>\n" * images + question
    conversation = [{"role": "user", "content": content}, {"role": "assistant", "content": answer}]
    whole = TOKENIZER.apply_chat_template(conversation, tokenize=False).replace("<image>\n", " ")
    joined = [token for piece in prompt.prefix for token in piece] + list(prompt.body)
    assert joined == TOKENIZER(whole, add_special_tokens=False)["input_ids"]
    assert len(prompt.prefix) == images


@given(question=text, answer=text, images=st.integers(0, 2))
def test_only_the_answer_and_its_end_are_learnt_and_evaluation_stops_right_before(question, answer, images):
    learnt, evaluated = RENDERER.render(question, answer, images), RENDERER.render(question, None, images)
    assert evaluated.prefix == learnt.prefix
    assert learnt.body[: len(evaluated.body)] == evaluated.body
    assert evaluated.learnt == 0
    tokens = [label for label in learnt.labels if label != IGNORED]
    assert tokens == list(learnt.body[len(evaluated.body) :])
    assert TOKENIZER.decode(tokens) == f"{answer} <eos>"


def test_image_markers_inside_a_question_move_to_the_front():
    assert RENDERER.render("what is <image> ?".replace(" <image>", "<image>")) == RENDERER.render("what is ?")


def test_a_template_that_ends_turns_with_a_newline_does_not_have_it_learnt():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ '<bos>' + m['role'] + '\n' + (m['content'] | trim) + ' <eos>\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<bos>assistant\n' }}{% endif %}"
    )
    prompt = render(tokenizer, "what colour", "red")
    assert [label for label in prompt.labels if label != IGNORED] == [*tokenizer("red")["input_ids"], 2]


def test_what_cannot_be_learnt_is_an_error():
    with pytest.raises(StudyError, match="no token of its answer"):
        RENDERER.render("what colour", "   ")
    with pytest.raises(StudyError, match="'crimson' has words that the tokenizer does not know"):
        RENDERER.render("what colour", "crimson")


def test_a_tokenizer_without_a_usable_chat_template_is_an_error():
    tokenizer = tiny_tokenizer()
    for template, problem in ((None, "no chat template"), ("{{ 'hello' }}", "chat template does not write")):
        tokenizer.chat_template = template
        with pytest.raises(StudyError, match=problem):
            render(tokenizer, "what colour", "red")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}"
    with pytest.raises(StudyError, match="end the answer with '<eos>'"):
        render(tokenizer, "what colour", "red")


def test_a_conversation_is_one_prompt_in_which_every_answer_is_learnt():
    renderer = PromptRenderer(tiny_tokenizer())
    turns = [("what colour ?", "red"), ("is it blue ?", "no"), ("how many ?", "a")]
    prompt = renderer.render_turns(turns, images=1)
    text = renderer.tokenizer.apply_chat_template(
        [
            {"role": role, "content": content}
            for number, turn in enumerate(turns)
            for role, content in zip(
                ("user", "assistant"), (("" if number else "<image>\n") + turn[0], turn[1]), strict=True
            )
        ],
        tokenize=False,
    )
    before, after = text.split("<image>\n")
    assert prompt.prefix == (renderer.ids(before),)
    assert prompt.body == renderer.ids(after)
    learnt = [label for label in prompt.labels if label != IGNORED]
    assert renderer.tokenizer.decode(learnt) == "red <eos> no <eos> a <eos>"
    assert renderer.render_turns(turns[:1]) == renderer.render(*turns[0])
