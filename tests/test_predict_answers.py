"""Predictions: shared prefixes, batches and masks change the time, never an answer."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_study import write_model

import encoder_roles.evaluation.decoding as predict_answers
import encoder_roles.evaluation.predict as predict
from encoder_roles.data.prompts import PromptRenderer
from encoder_roles.evaluation.decoding import AnswerPlan, Question, answer
from encoder_roles.evaluation.predict import (
    RequestSet,
    TrainedModel,
    file_inputs,
    join,
    parse_mask,
    predict_masks,
    predict_subset,
    project,
    read_calibrations,
)
from encoder_roles.evaluation.requests import read_requests
from encoder_roles.models.masking import mask_features
from encoder_roles.models.tokenizer import load_tokenizer
from encoder_roles.models.vlm import MultiEncoderVLM, load_vlm
from encoder_roles.provenance import read_jsonl
from encoder_roles.study.names import StudyError
from encoder_roles.study.stages import PredictStage

PREDICT = {"batch_tokens": 800, "threads": 1}
MASKS = PREDICT | {"calibration_pictures": 16}
BENCHMARKS = ("mme", "mmmu")


@pytest.fixture(scope="module")
def candidate(study, model):
    return TrainedModel(model, study.requests, PredictStage.model_validate(PREDICT))


@pytest.fixture(scope="module")
def visual(candidate):
    return project(
        candidate.model,
        join(file_inputs(candidate.model, candidate.request_set.pictures)),
        len(candidate.request_set.pictures),
    )


def one_by_one(candidate, visual):
    """Greedy answers the naive way: every question alone, the whole sequence again for every token."""
    language_model, answers = candidate.model.language_model, []
    embed = language_model.get_input_embeddings()
    end = candidate.tokenizer.eos_token_id
    for question in candidate.request_set.questions:
        answers.append([])
        while len(answers[-1]) < question.max_new_tokens:
            parts = []
            for ids, picture in zip(question.prompt.prefix, question.pictures, strict=True):
                parts += [embed(torch.tensor(ids, dtype=torch.long)), visual[picture]]
            parts.append(embed(torch.tensor([*question.prompt.body, *answers[-1]])))
            with torch.no_grad():
                logits = language_model(inputs_embeds=torch.cat(parts)[None]).logits
            token = int(logits[0, -1].argmax())
            if token == end:
                break
            answers[-1].append(token)
    return answers


def answers_of(candidate, visual, batch):
    end = candidate.tokenizer.eos_token_id
    return answer(candidate.model.language_model, candidate.request_set.questions, visual, end, batch)


def test_shared_prefixes_give_the_answers_of_each_question_alone(candidate, visual):
    expected = one_by_one(candidate, visual)
    assert answers_of(candidate, visual, batch=800) == expected
    assert len({tuple(ids) for ids in expected}) > 5
    assert len({len(ids) for ids in expected}) > 1
    shown = {len(question.pictures) for question in candidate.request_set.questions}
    assert shown == {0, 1, 2}


@pytest.mark.parametrize("batch", [1, 40, 120])
def test_answers_do_not_depend_on_the_batch_size(candidate, visual, batch):
    assert answers_of(candidate, visual, batch) == answers_of(candidate, visual, 800)


def test_answers_do_not_depend_on_how_many_prefixes_are_held(candidate, visual, monkeypatch):
    expected = answers_of(candidate, visual, 800)
    monkeypatch.setitem(predict_answers.CACHE_BYTES, "cpu", 1)
    assert answers_of(candidate, visual, 800) == expected


def sit(study, model, **settings):
    """The texts that a model answers to all requests, and the candidate."""
    candidate = TrainedModel(model, study.requests, PredictStage.model_validate(PREDICT | settings))
    return candidate.answer([lambda inputs: inputs])[0].texts, candidate


def test_bf16_is_what_the_model_computes_in_from_the_pixels_to_the_cached_keys(study, model, monkeypatch):
    seen = {"features": set(), "visual": set(), "cache": set(), "hidden": set()}
    read, tokens, decode = MultiEncoderVLM.framed_features, predict.project, predict_answers._decode

    def read_and_note(*given):
        features = read(*given)
        seen["features"] |= {block.dtype for block in features.values()}
        return features

    def project_and_note(*given):
        visual = tokens(*given)
        seen["visual"].add(visual.dtype)
        return visual

    def decode_and_note(language_model, embeddings, cache, *given):
        layers = [layer for layer in cache.layers if layer.keys is not None]
        seen["cache"] |= {kind.dtype for layer in layers for kind in (layer.keys, layer.values)}
        head = language_model.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda _, inputs: seen["hidden"].add(inputs[0].dtype))
        answers = decode(language_model, embeddings, cache, *given)
        hook.remove()
        return answers

    monkeypatch.setattr(MultiEncoderVLM, "framed_features", read_and_note)
    monkeypatch.setattr(predict, "project", project_and_note)
    monkeypatch.setattr(predict_answers, "_decode", decode_and_note)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        for kinds in seen.values():
            kinds.clear()
        sit(study, model, precision=precision)
        assert seen == {place: {dtype} for place in seen}


def test_answers_in_bf16_repeat_and_are_mostly_those_in_fp32(study, model):
    exact, _ = sit(study, model)
    rounded, _ = sit(study, model, precision="bf16")
    assert sit(study, model, precision="bf16")[0] == rounded
    assert sit(study, model, precision="fp32")[0] == exact
    same = sum(one == other for one, other in zip(exact, rounded, strict=True))
    assert same >= 0.9 * len(exact)
    assert len(set(rounded)) > 5


def test_visual_tokens_in_bf16_are_those_in_fp32_to_its_precision(study, model, visual):
    _, candidate = sit(study, model, precision="bf16")
    pictures = candidate.request_set.pictures
    rounded = project(candidate.model, join(file_inputs(candidate.model, pictures)), len(pictures)).float()
    assert 1e-4 < float((rounded - visual).norm() / visual.norm()) < 0.02


@given(
    st.lists(st.lists(st.integers(0, 11), max_size=3, unique=True), max_size=20),
    st.integers(0, 12),
    st.integers(1, 14),
)
def test_portions_are_all_pictures_and_questions_once_and_divide_no_question(wanted, count, most):
    questions = [Question(None, tuple(row for row in rows if row < count), 1) for rows in wanted]
    portions = list(RequestSet({}, questions, (None,) * count).portions(most))
    assert [row for rows, _ in portions for row in rows] == list(range(count))
    assert sorted(place for _, places in portions for place in places) == list(range(len(questions)))
    for rows, places in portions:
        assert places == sorted(places)
        assert all(row in rows for place in places for row in questions[place].pictures)
    if all(len(question.pictures) < 2 for question in questions):
        assert all(len(rows) <= most for rows, _ in portions)
        assert len(portions) == max(1, -(-count // most))


@pytest.mark.parametrize("operator", ["mean", "shuffle", "noise", "drop"])
def test_a_portion_at_a_time_gives_the_answers_of_all_pictures_at_once(
    study, model, tmp_path, operator, monkeypatch
):
    def run(folder):
        options = {"masks": ("clip", "none"), "data": study.data, "output_root": tmp_path / folder}
        settings = study.settings("masks", MASKS)
        predict_masks(settings=settings, operator=operator, requests=study.requests, model=model, **options)
        return {mask: predictions(tmp_path / folder / f"{mask}.{operator}") for mask in ("clip", "none")}

    whole, held = run("whole"), []
    read = predict.file_inputs

    def read_and_note(vlm, pictures, store):
        held.append(len(pictures))
        return read(vlm, pictures, store)

    monkeypatch.setattr(predict, "file_inputs", read_and_note)
    monkeypatch.setattr(predict, "HELD_BYTES", 1)
    assert run("parts") == whole
    assert len(held) > 9 and max(held[1:]) <= 3  # the first are the calibration pictures


def predictions(folder):
    return {benchmark: list(read_jsonl(folder / f"{benchmark}.jsonl")) for benchmark in BENCHMARKS}


def test_predictions_answer_every_request_in_order(study, model, tmp_path):
    settings = study.settings("predict", PREDICT)
    predict_subset(
        settings=settings, requests=study.requests, model=model, subset="clip+sam", output=tmp_path / "p"
    )
    for benchmark, rows in predictions(tmp_path / "p").items():
        requests = read_requests(study.requests, benchmark)
        assert [(row["id"], row["cluster"]) for row in rows] == [(r.id, r.cluster) for r in requests]
        assert all(set(row) == {"id", "cluster", "text"} and isinstance(row["text"], str) for row in rows)
    record = json.loads((tmp_path / "p/prediction.json").read_text())
    assert (record["mask"], record["operator"], record["questions"]) == ("clip+sam", "unmasked", 27)
    assert (record["device"], record["precision"], record["threads"]) == ("cpu", "fp32", 1)
    settings = study.settings("predict", PREDICT | {"precision": "bf16"})
    predict_subset(
        settings=settings, requests=study.requests, model=model, subset="clip+sam", output=tmp_path / "p"
    )
    assert json.loads((tmp_path / "p/prediction.json").read_text())["precision"] == "bf16"


def test_the_blind_model_answers_without_reading_a_picture(study, tmp_path):
    model = write_model(study, "blind", tmp_path / "blind")
    settings = study.settings("predict", PREDICT)
    predict_subset(
        settings=settings, requests=study.requests, model=model, subset="blind", output=tmp_path / "p"
    )
    recorded = {}
    for request, row in zip(
        read_requests(study.requests, "mme"), predictions(tmp_path / "p")["mme"], strict=True
    ):
        assert recorded.setdefault(request.prompt, row["text"]) == row["text"]
    assert json.loads((tmp_path / "p/prediction.json").read_text())["mask"] == "none"


@pytest.mark.parametrize("operator", ["zero", "mean", "shuffle", "noise", "drop"])
def test_masks_in_one_process_equal_each_mask_by_itself(study, model, tmp_path, operator):
    def run(root, *masks):
        predict_masks(
            settings=study.settings("masks", MASKS),
            operator=operator,
            requests=study.requests,
            model=model,
            masks=masks,
            data=study.data,
            output_root=root,
        )

    run(tmp_path / "all", "none", "clip", "sam")
    run(tmp_path / "one", "sam")
    result = {mask: predictions(tmp_path / f"all/{mask}.{operator}") for mask in ("none", "clip", "sam")}
    assert result["sam"] == predictions(tmp_path / f"one/sam.{operator}")
    assert result["clip"] != result["sam"]


def test_zeroing_everything_leaves_answers_that_follow_from_the_question_alone(study, model, tmp_path):
    predict_masks(
        settings=study.settings("masks", MASKS),
        operator="zero",
        requests=study.requests,
        model=model,
        masks=("none",),
        data=study.data,
        output_root=tmp_path,
    )
    texts = {}
    for request, row in zip(
        read_requests(study.requests, "mme"), predictions(tmp_path / "none.zero")["mme"], strict=True
    ):
        texts.setdefault(request.prompt, set()).add(row["text"])
    assert all(len(result) == 1 for result in texts.values())


def test_masking_acts_on_the_projectors_input_with_means_of_training_pictures(study, candidate, visual):
    calibrations = read_calibrations(candidate.model, study.data, 16, donors=False)
    inputs = join(file_inputs(candidate.model, candidate.request_set.pictures))
    assert torch.equal(project(candidate.model, inputs, len(candidate.request_set.pictures)), visual)
    masked = mask_features(inputs, frozenset({"clip"}), "mean", calibrations)
    training = [study.data.parent / f"pictures/{number}.png" for number in range(16)]
    expected = join(file_inputs(candidate.model, training))["sam"].mean((0, 1, 2))
    torch.testing.assert_close(masked["sam"][3, 1, 0], expected)
    assert masked["clip"] is inputs["clip"]


def test_masks_are_named_in_pool_order_and_remove_something():
    assert parse_mask("none", ["clip", "sam"]) == frozenset()
    assert parse_mask("sam", ["clip", "sam"]) == {"sam"}
    for wrong in ("clip+sam", "sam+clip", "dinov2", "", "clip+clip"):
        with pytest.raises(StudyError, match="mask"):
            parse_mask(wrong, ["clip", "sam"])


def test_a_wrong_model_or_missing_picture_leaves_no_predictions(study, model, tmp_path):
    settings = study.settings("predict", PREDICT)

    def predict(requests, subset):
        predict_subset(
            settings=settings, requests=requests, model=model, subset=subset, output=tmp_path / "p"
        )

    with pytest.raises(StudyError, match=r"trained on 'clip\+sam', not on 'clip'"):
        predict(study.requests, "clip")
    import shutil

    broken = shutil.copytree(study.requests, tmp_path / "requests")
    (broken / "images/3.png").unlink()
    with pytest.raises(StudyError, match=r"3\.png: no such picture"):
        predict(broken, "clip+sam")
    (broken / "mme.jsonl").write_text("")
    with pytest.raises(StudyError, match=r"mme\.jsonl"):
        predict(broken, "clip+sam")
    assert not (tmp_path / "p").exists()


def test_features_do_not_depend_on_how_many_pictures_are_read_together(study, candidate, monkeypatch):
    whole = join(file_inputs(candidate.model, candidate.request_set.pictures))
    monkeypatch.setattr(predict, "PICTURES_AT_A_TIME", 5)
    parts = join(file_inputs(candidate.model, candidate.request_set.pictures))
    for name, block in whole.items():
        torch.testing.assert_close(parts[name], block, atol=1e-5, rtol=0)


def test_the_saved_model_answers_like_the_one_in_memory(study, model, candidate, visual):
    again = load_vlm(model)
    pictures = candidate.request_set.pictures
    assert torch.equal(project(again, join(file_inputs(again, pictures)), len(pictures)), visual)
    assert PromptRenderer(load_tokenizer(model)).render("what colour ?") == PromptRenderer(
        candidate.tokenizer
    ).render("what colour ?")


def test_every_distinct_prefix_question_and_answer_is_computed_once(candidate, visual):
    computed, needed = [], 0
    model = candidate.model.language_model.base_model

    def count(_module, _args, given):
        computed.append(given["inputs_embeds"].shape[0] * given["inputs_embeds"].shape[1])

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    answers = answers_of(candidate, visual, 120)
    hook.remove()
    questions, tokens = candidate.request_set.questions, visual.shape[1]
    for question, ids in zip(questions, answers, strict=True):
        needed += len(question.prompt.body) + min(len(ids), question.max_new_tokens - 1)
    prefixes = {(q.prompt.prefix, q.pictures): q.tokens(tokens) - len(q.prompt.body) for q in questions}
    assert sum(computed) == needed + sum(prefixes.values())


def test_one_plan_answers_the_same_questions_about_any_visual_tokens(candidate, visual):
    questions, model = candidate.request_set.questions, candidate.model.language_model
    plan = AnswerPlan(model, questions, visual.shape[1], 200)
    end = candidate.tokenizer.eos_token_id
    for tokens in (visual, torch.zeros_like(visual), visual.flip(0)):
        assert plan.answer(tokens, end) == answer(model, questions, tokens, end, 800)
