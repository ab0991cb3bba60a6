"""Training files of public data sets' kind: read as they are needed, cut where asked, wrong records named."""

from __future__ import annotations

import json

import pytest
from tiny_language_model import tiny_tokenizer

from encoder_roles.data.packing import pack
from encoder_roles.data.prompts import PromptRenderer
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import TuneSettings
from encoder_roles.training.batches import Batches, TrainingData
from encoder_roles.training.distributed import ProcessRank
from encoder_roles.training.step import AnswerTask


def write(tmp_path, *questions):
    """A record a question; those that begin with `!` are about a picture."""
    rows = []
    for number, question in enumerate(questions):
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "red and blue"}]
        rows.append({"id": str(number), "conversations": turns})
        if question.startswith("!"):
            turns[0]["value"] = "<image>\n" + question[1:]
            rows[-1]["image"] = f"{number}.png"
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def data(path, longest=100, cut=False):
    return TrainingData(path, PromptRenderer(tiny_tokenizer()), longest, 4, cut, group_by_picture=False)


def test_a_record_that_is_too_long_is_an_error_or_cut(tmp_path):
    path = write(tmp_path, "what colour ?", "!what colour " + "is " * 20)
    assert data(path)[0].pictures == ()
    with pytest.raises(StudyError, match=r"data\.jsonl, line 2: .* has 32 tokens, .* at most 31"):
        data(path, longest=31)[1]
    cut = data(path, longest=30, cut=True)[1].questions[0]
    assert len(cut.body) + 5 == 30 and cut.learnt == 2
    with pytest.raises(StudyError, match="line 2: its first answer begins after token 20"):
        data(path, longest=20, cut=True)[1]


def test_a_fault_below_the_first_records_is_met_when_its_record_is(tmp_path):
    path = write(tmp_path, "what colour ?", "is it ?")
    path.write_text(path.read_text().replace("is it ?", "is").replace("red and blue", "ochre", 2))
    with pytest.raises(StudyError, match=r"data\.jsonl, line 1: .*does not know"):
        data(path)[0]


def test_length_grouping_gives_batches_of_pictures_and_batches_of_text(tmp_path):
    path = write(tmp_path, *("!what" if number % 2 else "is " * (number % 7 + 1) for number in range(64)))
    batches = Batches(
        data(path), samples=64, batch_pictures=8, questions=1, seed=0, stage="tune", length_grouped=True
    )
    kinds = [{bool(sample.pictures) for sample in batches[step]} for step in range(8)]
    assert sorted(map(list, kinds)) == [[False]] * 4 + [[True]] * 4


def test_a_micro_batch_of_which_nothing_is_learnt_has_all_its_tokens(tmp_path):
    batches = Batches(
        data(write(tmp_path, "!what")), samples=1, batch_pictures=1, questions=1, seed=0, stage="tune"
    )
    batch = pack(batches[0], 4)
    dummy = batch.unlearnt()
    assert (len(dummy.learnt), len(dummy.predicting), len(dummy.ids)) == (0, 0, len(batch.ids))
    assert len(batch.learnt) == 4


class Noted:
    """A visual that notes which pictures it is told of, and reads none."""

    def __init__(self):
        self.begun = []

    def begin(self, pictures):
        self.begun += pictures


@pytest.mark.parametrize("rank", [0, 1])
def test_a_ranks_pictures_of_the_next_step_are_begun_while_one_is_computed(tmp_path, rank):
    path = write(tmp_path, *("!what" if number % 3 else "is it ?" for number in range(16)))
    result = Batches(data(path), samples=16, batch_pictures=4, questions=1, seed=0, stage="tune")

    def task(visual):
        return AnswerTask("tune", result, 4, 2, ProcessRank(rank=rank, world_size=2), visual)

    def pictures(batches):
        return [picture for batch in batches for picture in batch.pictures]

    noted, whole = Noted(), task(Noted())
    alone = [pictures(task(Noted()).micro_batches(step)) for step in range(4)]
    running = task(noted)
    for step in range(4):
        batches = running.micro_batches(step)
        assert pictures(batches) == alone[step] == pictures(whole.micro_batches(step))
        until = {picture for loaded in alone[: step + 2] for picture in loaded}
        assert set(noted.begun) == until, "this step's and the next one's, and no other"
    assert sum(map(len, alone)) > 4


def test_an_encoder_may_have_a_learning_rate_of_its_own():
    from tiny_study import TUNE
    from torch import nn

    from encoder_roles.training import tune

    class Model:
        encoders = nn.ModuleDict({"clip": nn.Linear(2, 2), "sam": nn.Linear(2, 2)})
        connector, language_model = nn.Linear(2, 2), nn.Linear(2, 2)

    rates = {**TUNE["tune"]["learning_rates"], "by_encoder": {"sam": 0.25}}
    settings = TuneSettings.model_validate(TUNE["tune"] | {"learning_rates": rates})
    parts = tune.trained_parts(Model(), settings)
    assert {name: part.learning_rate for name, part in parts.items()} == {
        "connector": 1e-2,
        "language_model": 1e-2,
        "clip": 1e-3,
        "sam": 0.25,
    }
