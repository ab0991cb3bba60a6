"""Many processes train what one does: DeepSpeed's stages against the plain engine, two processes on a CPU."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from child_process import end_well, start_ranks
from process_scenarios import (
    LONG,
    MICRO,
    MIXED,
    NAMES,
    SCENARIOS,
    STEPS,
    STOPPED_AT,
    ZERO2,
    train_all,
    tune,
    write_settings,
)
from tiny_study import ALIGN, write_tiny_study

from encoder_roles.encoders.weights import read_tensors
from encoder_roles.provenance import read_jsonl, write_jsonl
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import EngineSettings
from encoder_roles.training.align import train_align
from encoder_roles.training.checkpoints import damage
from encoder_roles.training.distributed import ProcessRank, find_rank, join_processes, rendezvous


def write_mixed(study) -> None:
    """mixed.jsonl: the pictures' records and as many conversations of two turns about nothing."""
    rows = list(read_jsonl(study.data))
    for number in range(24):
        turns = [("human", "what colour is red ?"), ("gpt", "red"), ("human", "is it blue ?"), ("gpt", "no")]
        conversation = [{"from": speaker, "value": text} for speaker, text in turns]
        rows.append({"id": f"text-{number}", "conversations": conversation})
    write_jsonl(study.data.with_name("mixed.jsonl"), rows)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study whose scenarios have all been trained, with two processes and by the plain engine."""
    study = write_tiny_study(tmp_path_factory.mktemp("ranks"), NAMES)
    write_mixed(study)
    train_align(
        settings=study.settings("align", ALIGN),
        subset="+".join(NAMES),
        seed=0,
        encoders=tuple(study.encoders.values()),
        language_model=study.language_model,
        features=study.features(*NAMES),
        data=study.data,
        restart=study.root / ".restart/align",
        output=study.root / "align",
    )
    for name, (engine, changes, _) in SCENARIOS.items():
        write_settings(study, name, engine, changes)
    assert end_well(start_ranks(2, train_all, study), seconds=600)
    for name, changes, data in (
        ("plain", LONG, "train"),
        ("plain-text", MIXED, "mixed"),
        ("plain-frozen", {**LONG, "train_encoders": False}, "train"),
    ):
        write_settings(study, name, {}, changes)
        tune(study, name, data)
    return study


def losses(study, name):
    return [row["loss"] for row in read_jsonl(study.root / "out" / name / "log.jsonl")]


def weights(study, name):
    return read_tensors(study.root / "out" / name / "model.safetensors")


def check_equal(study, name, plain, loss, weight):
    assert losses(study, name) == pytest.approx(losses(study, plain), abs=loss)
    result, expected = weights(study, name), weights(study, plain)
    assert result.keys() == expected.keys()
    assert max((result[key] - expected[key]).abs().max().item() for key in expected) < weight


@pytest.mark.parametrize("name", ["zero2", "zero3", "zero3-checkpointing"])
def test_zero_has_the_losses_and_the_weights_of_the_plain_engine(study, name):
    assert len(losses(study, name)) == STEPS
    check_equal(study, name, "plain", 1e-5, 1e-4)


def test_frozen_encoders_under_zero_are_written_as_they_were(study):
    check_equal(study, "zero3-frozen", "plain-frozen", 1e-5, 1e-4)
    result, before = weights(study, "zero3-frozen"), weights(study, "plain-frozen")
    assert all(result[key].equal(before[key]) for key in result if key.startswith("encoders."))


@pytest.mark.parametrize("name", ["zero2-offload-text", "zero3-text"])
def test_batches_without_a_picture_hang_no_rank_and_teach_the_same(study, name):
    check_equal(study, name, "plain-text", 1e-5, 1e-4)


@pytest.mark.parametrize("name", ["zero2", "zero3"])
def test_a_run_on_two_ranks_that_was_killed_ends_in_the_same_bytes(study, name):
    file = "model.safetensors"
    whole, resumed = (study.root / "out" / run / file for run in (name, f"{name}-resumed"))
    assert resumed.read_bytes() == whole.read_bytes()
    assert losses(study, f"{name}-resumed") == losses(study, name)
    assert not list((study.root / ".restart" / f"{name}-resumed").iterdir())


def test_a_checkpoint_of_two_ranks_is_one_file_each_and_whole(study):
    (newest,) = sorted((study.root / ".restart/zero3-stopped").glob("*/step*"), reverse=True)
    assert newest.name == f"step{STOPPED_AT:09d}"
    assert {f.name for f in newest.glob("state-*")} == {f"state-0000{n}.safetensors" for n in range(2)}
    assert damage(newest) is None


def test_what_two_ranks_began_one_ends_with_the_same_weights(study):
    import shutil

    restart = study.root / ".restart"
    for name in ("one-plain", "one-zero2"):
        shutil.copytree(restart / "zero3-stopped", restart / name)
    write_settings(study, "one-plain", {}, MICRO)
    tune(study, "one-plain")
    check_equal(study, "one-plain", "plain", 1e-5, 1e-4)

    write_settings(study, "one-zero2", ZERO2 | {"processes": 1}, MICRO)
    assert end_well(start_ranks(1, tune, study, "one-zero2"), seconds=600)
    check_equal(study, "one-zero2", "plain", 1e-5, 1e-4)
    for name in ("one-plain", "one-zero2"):  # the first steps are the log of the run that was stopped
        assert losses(study, name)[:STOPPED_AT] == losses(study, "zero3")[:STOPPED_AT]


def test_bf16_keeps_fp32_weights_that_learn_as_fp32_does(study):
    result, plain = losses(study, "zero2-bf16"), losses(study, "plain")
    fallen, expected = result[0] - result[-1], plain[0] - plain[-1]
    assert fallen == pytest.approx(expected, rel=0.2)  # rounding moves a step's loss by 0.1
    kept = weights(study, "zero2-bf16")["language_model.model.layers.0.mlp.up_proj.weight"]
    assert not kept.equal(kept.bfloat16().float())


def test_training_json_says_how_many_ranks_there_were(study):
    record = json.loads((study.root / "out/zero2/training.json").read_text())
    plain = json.loads((study.root / "out/plain/training.json").read_text())
    assert (record["processes"], plain["processes"]) == (2, 1)
    assert record["parameters"] == plain["parameters"]
    assert record["flops"] == pytest.approx(plain["flops"], rel=0.02)  # pads differ with the micro batch
    zero3 = json.loads((study.root / "out/zero3/training.json").read_text())
    assert zero3["parameters"] == plain["parameters"]


def test_a_place_is_read_from_torchrun_or_from_srun(monkeypatch):
    torchrun = {"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    srun = {"SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "8", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "77"}
    assert find_rank(torchrun | srun) == ProcessRank(3, 8, 1)
    assert find_rank(srun) == ProcessRank(5, 8, 1)
    assert find_rank(srun | {"SLURM_STEP_NUM_TASKS": "1"}) is None
    assert find_rank({}) is None
    meeting = rendezvous(srun, ProcessRank(5, 8, 1))
    assert (meeting["MASTER_ADDR"], meeting["RANK"], meeting["WORLD_SIZE"]) == ("127.0.0.1", "5", "8")
    other = rendezvous(srun | {"SLURM_JOB_ID": "78"}, ProcessRank(5, 8, 1))
    assert other["MASTER_PORT"] != meeting["MASTER_PORT"]

    for name, value in torchrun.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StudyError, match="processes is 2, but 8 were started"):
        join_processes(EngineSettings(kind="deepspeed", processes=2))


@pytest.mark.parametrize(("rank", "kept"), [(0, 4), (1, 0)])
def test_only_the_first_process_keeps_the_weights_that_all_gather(monkeypatch, rank, kept):
    """The others hold one gathered tensor at a time: views of them would keep the whole model in memory."""
    import weakref

    from encoder_roles.training import deepspeed_engine

    buffers, alive = [], []

    def gather(parameter):
        values = np.ones(parameter.shape, np.float32)  # what a tensor's storage keeps alive
        alive.append(sum(buffer() is not None for buffer in buffers))
        buffers.append(weakref.ref(values))
        return torch.from_numpy(values)

    monkeypatch.setattr(deepspeed_engine, "safe_get_full_fp32_param", gather)
    engine = object.__new__(deepspeed_engine.DeepSpeedEngine)
    engine.model = torch.nn.Sequential(*(torch.nn.Linear(8, 8, bias=False) for _ in range(4)))
    engine.named, engine.process = dict(engine.model.named_parameters()), ProcessRank(rank, 2, rank)
    weights = engine.weights()
    assert len(weights or {}) == kept
    assert alive == ([0, 1, 2, 3] if rank == 0 else [0, 0, 0, 0])
    assert sum(buffer() is not None for buffer in buffers) == kept
