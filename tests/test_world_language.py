"""The language model: no unknown tokens, independent segments, the library's own forward, equal bytes."""

from __future__ import annotations

import collections
from pathlib import Path

import numpy as np
import pytest
import torch

import encoder_roles.encoders._torchvision  # noqa: F401  # before transformers' models

# isort: split

from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.provenance import sha256_of
from encoder_roles.study.names import BENCHMARKS, StudyError
from encoder_roles.world.captions import caption
from encoder_roles.world.gates import read_gates
from encoder_roles.world.pretraining.language_commands import gate_language_model, gate_row, grade, save
from encoder_roles.world.pretraining.language_model import (
    ANSWER,
    BOS,
    EOS,
    IGNORED,
    LEAST_PRACTICE,
    SPECIAL,
    Mistakes,
    Row,
    answer_logits,
    build_model,
    build_tokenizer,
    draw_row,
    encoder_of,
    learning_rate,
    pack,
    pretrain,
)
from encoder_roles.world.questions import (
    CAPTION_PROMPT,
    benchmark_questions,
    training_forms,
    training_questions,
)
from encoder_roles.world.sampling import sample_scenes

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    return build_model(tokenizer, 0)


def some_rows(tokenizer: PreTrainedTokenizerFast, n: int) -> list[Row]:
    rng, encode = np.random.default_rng(0), encoder_of(tokenizer)
    words = [word for word in tokenizer.get_vocab() if word.isalpha() and word.islower()]
    scenes = sample_scenes(2, "train", None, n)
    return [draw_row(scene, training_questions(scene, rng, 6), rng, words, encode) for scene in scenes]


def test_no_prompt_caption_or_answer_has_an_unknown_token(tokenizer: PreTrainedTokenizerFast) -> None:
    rng, encode = np.random.default_rng(0), encoder_of(tokenizer)
    texts = [CAPTION_PROMPT]
    for benchmark in BENCHMARKS:
        for question in benchmark_questions(benchmark, 11, "test", 80)[1]:
            texts += [question.prompt, question.answer]
    for scene in sample_scenes(12, "probe", None, 300):
        texts.append(caption(scene, rng))
        texts += [text for pair in training_questions(scene, rng, 2) for text in pair]
    assert len(texts) > 2000
    for text in texts:
        assert tokenizer.unk_token_id not in encode(text), text


def test_captions_and_answers_survive_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    rng, encode = np.random.default_rng(1), encoder_of(tokenizer)
    for scene in sample_scenes(13, "test", None, 200):
        texts = [caption(scene, rng), *(answer for _, answer in training_questions(scene, rng, 3))]
        assert [tokenizer.decode(encode(text)) for text in texts] == texts


def test_the_letter_of_an_option_is_the_token_of_the_answer(tokenizer: PreTrainedTokenizerFast) -> None:
    encode = encoder_of(tokenizer)
    for benchmark in ("seed", "cvbench3d", "realworldqa"):
        for question in benchmark_questions(benchmark, 14, "test", 20)[1]:
            (letter,) = encode(question.answer)
            if question.answer.isupper():
                assert encode(question.prompt).count(letter) == 1


def test_the_chat_template_writes_question_and_answer_once(tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [{"role": "user", "content": "<image>\nWhat?"}, {"role": "assistant", "content": "red"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == f"{BOS}<image>\nWhat?{ANSWER}red{EOS}"
    assert len(tokenizer) < 130 and tokenizer.convert_tokens_to_ids(list(SPECIAL)) == [0, 1, 2, 3, 4]


def test_the_packed_forward_is_the_library_s_forward(
    tokenizer: PreTrainedTokenizerFast, model: Qwen2ForCausalLM
) -> None:
    rows = some_rows(tokenizer, 3)
    logits, targets = answer_logits(model, pack(rows))
    expected, expected_targets = [], []
    for row in rows:
        for prompt, answer in row.segments:
            ids = torch.tensor([row.prefix + prompt + answer])
            start = len(row.prefix + prompt) - 1
            expected.append(model(input_ids=ids).logits[0, start:-1])
            expected_targets += answer
    assert targets.tolist() == expected_targets
    torch.testing.assert_close(logits, torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_a_segment_does_not_see_the_others(
    tokenizer: PreTrainedTokenizerFast, model: Qwen2ForCausalLM
) -> None:
    (row,) = some_rows(tokenizer, 1)
    alone = Row(row.prefix, row.segments[-1:])
    together, _ = answer_logits(model, pack([row]))
    last, _ = answer_logits(model, pack([alone]))
    torch.testing.assert_close(together[-len(last) :], last, rtol=1e-4, atol=1e-4)


def test_only_answers_and_end_tokens_are_learnt(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = some_rows(tokenizer, 2)
    targets = pack(rows).targets
    answers = [token for row in rows for _, answer in row.segments for token in answer]
    assert targets[targets != IGNORED].tolist() == answers
    assert answers.count(tokenizer.eos_token_id) == sum(len(row.segments) for row in rows)


def test_the_learning_rate_warms_up_stays_and_falls() -> None:
    rates = [learning_rate(step, 1000, 2e-3) for step in range(1000)]
    assert rates[0] < rates[25] < rates[60] == rates[490] == 2e-3 > rates[700] > rates[999] > 0


def test_pretraining_twice_gives_the_same_bytes_and_learns(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("encoder_roles.world.pretraining.language_model.POOL_SCENES", 60)
    losses: list[float] = []
    for name in ("once", "again"):
        trained = pretrain(tokenizer, 4, 2, 3, lambda step, loss, model: losses.append(loss))
        save(trained, tokenizer, tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "once").iterdir())
    assert "model.safetensors" in files and "tokenizer.json" in files
    for file in files:
        assert sha256_of(tmp_path / "once" / file) == sha256_of(tmp_path / "again" / file)
    assert losses[:6] == losses[6:] and losses[5] < losses[0]


def test_practice_asks_most_what_is_still_answered_wrongly_and_forgets_nothing() -> None:
    rng, mistakes = np.random.default_rng(0), Mistakes()
    forms = tuple(dict.fromkeys(training_forms("objects")))
    weak = ("cvbench3d", "distance")
    for form in forms:
        for _ in range(400):
            mistakes.note(form, right=form != weak)
    drawn = collections.Counter(mistakes.draw(forms, rng) for _ in range(20_000))
    usual = [drawn[form] for form in forms if form != weak]
    assert min(usual) > 0
    expected = (1 + LEAST_PRACTICE) / LEAST_PRACTICE
    assert drawn[weak] / np.mean(usual) == pytest.approx(expected, rel=0.15)
    for _ in range(400):
        mistakes.note(weak, right=True)
    later = collections.Counter(mistakes.draw(forms, rng) for _ in range(20_000))
    assert later[weak] < 3 * np.mean(usual)


def test_gates_are_measured_for_every_format_and_number_of_things(
    tokenizer: PreTrainedTokenizerFast,
    model: Qwen2ForCausalLM,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("encoder_roles.world.pretraining.language_commands.GATE_QUESTIONS", 12)
    save(model, tokenizer, tmp_path / "lm")
    gate_language_model(language_model=tmp_path / "lm", output=tmp_path / "gates.csv")
    header, *rows = (tmp_path / "gates.csv").read_text().splitlines()
    assert header == "source,gate,value,low,high,n,threshold,passed"
    assert [row.split(",")[1] for row in rows[:16]] == [f"text accuracy {b}" for b in BENCHMARKS]
    assert [row.split(",")[1][-6:].strip() for row in rows[16:]] == ["thing", "things", "things", "things"]
    assert {row.split(",")[-1] for row in rows} == {"false"}


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"model\.safetensors"):
        gate_language_model(language_model=tmp_path, output=tmp_path / "gates.csv")


PINNED = Path("sources/laptop/language_model")


def test_the_pinned_language_model_is_whole_and_passed_the_gate_of_every_format() -> None:
    for line in (PINNED / "SHA256SUMS").read_text().splitlines():
        digest, file = line.split()
        assert sha256_of(PINNED / file) == digest
    rows = read_gates(PINNED / "gates.csv")
    assert [row["gate"] for row in rows[:16]] == [f"text accuracy {name}" for name in BENCHMARKS]
    assert [row["gate"] for row in rows if row["passed"] != "true"] == []


def test_the_pinned_language_model_answers_new_questions_of_every_format(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("encoder_roles.world.pretraining.language_commands.GATE_QUESTIONS", 40)
    model = Qwen2ForCausalLM.from_pretrained(PINNED)
    tokenizer = load_tokenizer(PINNED)
    for benchmark in BENCHMARKS:
        right = [right for _, right in grade(model, tokenizer, benchmark, seed=77)]
        assert np.mean(right) >= 0.9, benchmark


def test_the_committed_gates_have_the_intervals_that_their_answers_give() -> None:
    rows = read_gates(PINNED / "gates.csv")
    assert len(rows) > len(BENCHMARKS)
    for row in rows:
        right = round(float(row["value"]) * int(row["n"]) / 100)
        computed = gate_row(row["gate"], [True] * right + [False] * (int(row["n"]) - right))
        assert {key: str(value) for key, value in computed.items()} == row
