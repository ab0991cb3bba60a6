"""align and tune: what they learn, what they leave alone, and how an interrupted run continues."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from child_process import start_process
from tiny_study import ALIGN, TUNE, write_tiny_study
from torch.utils._python_dispatch import TorchDispatchMode
from waiting import there, wait_for

from encoder_roles.encoders.weights import read_tensors
from encoder_roles.evaluation.predict import predict_masks
from encoder_roles.manifest.code import code_of
from encoder_roles.models.vlm import MultiEncoderVLM, load_vlm
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import ConnectorSettings
from encoder_roles.training.align import train_align
from encoder_roles.training.engine import TorchEngine
from encoder_roles.training.flops import count_flops
from encoder_roles.training.loop import TERMINATED
from encoder_roles.training.tune import train_tune

WEIGHTS = "model.safetensors"


def align(study, output, subset="clip+sam", seed=0, **changes):
    names = subset.split("+")
    settings = study.settings(f"align-{output.name}", ALIGN | {"align": ALIGN["align"] | changes})
    train_align(
        settings=settings,
        subset=subset,
        seed=seed,
        encoders=tuple(study.encoders[name] for name in names),
        language_model=study.language_model,
        features=study.features(*names),
        data=study.data,
        restart=study.root / ".restart",
        output=output,
    )
    return output


def tune(study, output, subset="clip+sam", aligned=None, seed=0, **changes):
    names = [] if subset == "blind" else subset.split("+")
    train_tune(
        settings=study.settings(f"tune-{output.name}", TUNE | {"tune": TUNE["tune"] | changes}),
        subset=subset,
        seed=seed,
        encoders=tuple(study.encoders[name] for name in names),
        language_model=study.language_model,
        align=aligned,
        data=study.data,
        restart=study.root / ".restart",
        output=output,
    )
    return output


@pytest.fixture(scope="module")
def aligned(study):
    return align(study, study.root / "models/clip+sam/align")


@pytest.fixture(scope="module")
def tuned(study, aligned):
    return tune(study, study.root / "models/clip+sam/tune", aligned=aligned)


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_align_lowers_the_loss_and_writes_a_row_a_step(aligned):
    log = log_of(aligned)
    assert [row["step"] for row in log] == list(range(12))
    assert set(log[0]) == {"step", "loss", "learning_rate", "seconds"}
    assert log[-1]["loss"] < 0.9 * log[0]["loss"]


def test_tune_learns_to_tell_colours_that_blind_cannot(study, tuned):
    blind = tune(study, study.root / "models/blind/tune", subset="blind", epochs=12)
    seeing = tune(
        study, study.root / "models/long/tune", aligned=study.root / "models/clip+sam/align", epochs=12
    )
    assert log_of(seeing)[-1]["loss"] < 0.5 * log_of(blind)[-1]["loss"]
    assert load_vlm(blind).connector is None


def test_training_json_has_the_documented_record(tuned):
    record = json.loads((tuned / "training.json").read_text())
    assert {k: record[k] for k in ("subset", "seed", "stage", "steps", "samples", "threads")} == {
        "subset": "clip+sam",
        "seed": 0,
        "stage": "tune",
        "steps": 9,
        "samples": 72,
        "threads": 1,
    }
    assert set(record["parameters"]) == {"connector", "language_model", "clip", "sam"}
    assert record["flops"] > 6 * 8 * record["parameters"]["language_model"]
    assert record["final_loss"] == log_of(tuned)[-1]["loss"]
    assert record["peak_memory_mb"] > 50
    assert "torch" in record["versions"]


def test_a_training_says_which_parts_it_trains_and_which_are_frozen(study, aligned, tmp_path, capsys):
    tune(study, tmp_path / "tune", aligned=aligned, train_encoders=False)
    parts, size, *_ = capsys.readouterr().err.splitlines()
    counts = json.loads((tmp_path / "tune/training.json").read_text())["parameters"]
    assert parts == (
        f"tune clip+sam seed 0: trains connector ({counts['connector']:,} parameters, learning rate 0.01), "
        f"language_model ({counts['language_model']:,} parameters, learning rate 0.01); "
        f"frozen: clip ({counts['clip']:,}), sam ({counts['sam']:,})"
    )
    assert re.fullmatch(
        r"tune clip\+sam seed 0: 9 steps of 8 samples \(about \d+ tokens, 4 of them per picture\), cpu, "
        "from the beginning",
        size,
    )
    align(study, tmp_path / "align")
    parts = capsys.readouterr().err.splitlines()[0]
    assert "trains connector (" in parts
    assert parts.endswith(f"frozen: language_model ({counts['language_model']:,})")


@pytest.fixture(scope="module")
def imported_by_tune(study, aligned, tmp_path_factory):
    """The names of the modules that `encoder-roles train-tune` has imported when it ends."""
    folder = tmp_path_factory.mktemp("imports")
    names = ("--encoders", *study.encoders.values(), "--align", aligned, "--data", study.data)
    arguments = [
        *("--settings", study.settings("tune-light", TUNE), "--subset", "clip+sam", "--seed", 0, *names),
        *("--language-model", study.language_model, "--restart", folder / "restart"),
        *("--output", folder / "tune"),
    ]
    code = "import sys; from encoder_roles.cli import main; main(); print(*sys.modules)"
    command = [sys.executable, "-c", code, "train-tune", *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    assert (folder / "tune" / WEIGHTS).exists()
    return set(done.stdout.split())


def test_a_tune_with_the_torch_engine_does_not_import_deepspeed(imported_by_tune):
    assert "torch" in imported_by_tune and "deepspeed" not in imported_by_tune


def test_the_code_of_a_tune_holds_every_module_that_it_imports(imported_by_tune):
    command = {"encoder_roles.cli", "encoder_roles.study.command_line"}  # of every command, in no job's code
    files = {file.removesuffix(".py").removesuffix("/__init__") for file in code_of(train_tune.__module__)}
    ours = {name for name in imported_by_tune if name.partition(".")[0] == "encoder_roles"}
    assert {name.replace(".", "/") for name in ours - command} <= files


def test_joint_training_changes_every_part_and_frozen_training_no_encoder(study, aligned, tuned):
    frozen = tune(study, study.root / "models/frozen/tune", aligned=aligned, train_encoders=False)
    start = MultiEncoderVLM.from_sources(
        study.encoders, study.language_model, ConnectorSettings.model_validate(TUNE["connector"]), 0
    ).state_dict()
    joint, kept = read_tensors(tuned / WEIGHTS), read_tensors(frozen / WEIGHTS)
    for part in ("encoders.clip", "encoders.sam", "connector", "language_model"):
        names = [name for name in joint if name.startswith(part)]
        assert any(not joint[name].equal(start[name]) for name in names), part
        if part.startswith("encoders"):
            assert all(kept[name].equal(start[name]) for name in names)


def test_a_rerun_writes_the_same_weights_and_another_seed_others(study, aligned):
    again = align(study, study.root / "again")
    other = align(study, study.root / "other", seed=1)
    bytes_of = {f: (f / "connector.safetensors").read_bytes() for f in (aligned, again, other)}
    assert bytes_of[again] == bytes_of[aligned] != bytes_of[other]


LONG = {"epochs": 16}  # 48 steps: long enough to be broken off twice


def wait_for_step(restart, step):
    """Wait until there is a checkpoint of this step or a later one; returns the newest."""
    newest = []

    def late_enough():
        newest[:] = there(restart, "*/step*")[-1:]
        return newest and int(newest[0].name.removeprefix("step")) >= step

    wait_for(late_enough, seconds=300)
    return newest[0]


def test_a_killed_run_goes_on_from_its_checkpoint_and_ends_in_the_same_bytes(
    study, aligned, tmp_path, capsys
):
    restart = study.root / ".restart"
    whole = tune(study, tmp_path / "whole", aligned=aligned, **LONG)
    assert not list(restart.iterdir())

    again = partial(tune, study, tmp_path / "broken", aligned=aligned, **LONG)
    broken = start_process(tmp_path / "log", again)
    wait_for_step(restart, 8)
    broken.kill()
    broken.join()
    process = start_process(tmp_path / "log", again)  # asked to stop, it saves first
    wait_for_step(restart, 16)
    process.terminate()
    process.join()
    assert process.exitcode == TERMINATED
    assert "continuing from" in (tmp_path / "log").read_text()
    assert not (tmp_path / "broken").exists()

    newest = wait_for_step(restart, 16)  # a checkpoint cut off on disk is not gone on from
    state = newest / "state-00000.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    again()
    assert f"{newest} is damaged" in capsys.readouterr().err
    assert (tmp_path / "broken" / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert [row["loss"] for row in log_of(tmp_path / "broken")] == [row["loss"] for row in log_of(whole)]
    assert not list(restart.iterdir())


def test_a_loss_that_is_not_finite_stops_at_once_and_names_step_and_batch(study, tmp_path):
    broken = shutil.copytree(study.language_model, tmp_path / "language_model")
    from safetensors.torch import load_file, save_file

    weights = load_file(broken / WEIGHTS)
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, broken / WEIGHTS, {"format": "pt"})
    names = ("clip", "sam")
    with pytest.raises(StudyError, match=r"loss is nan at step 0, batch: 8 pictures, pictures/"):
        train_align(
            settings=study.settings("align-nan", ALIGN),
            subset="clip+sam",
            seed=0,
            encoders=tuple(study.encoders[name] for name in names),
            language_model=broken,
            features=study.features(*names),
            data=study.data,
            restart=tmp_path / ".restart",
            output=tmp_path / "align",
        )
    assert not (tmp_path / "align").exists()


def test_inputs_that_do_not_belong_together_are_errors(study, aligned, tmp_path):
    with pytest.raises(StudyError, match="folders are those of 'clip'"):
        train_tune(
            settings=study.settings("tune-x", TUNE),
            subset="clip+sam",
            seed=0,
            encoders=(study.encoders["clip"],),
            language_model=study.language_model,
            align=aligned,
            data=study.data,
            restart=tmp_path,
            output=tmp_path / "x",
        )
    with pytest.raises(StudyError, match="'clip' needs an align folder"):
        tune(study, tmp_path / "x", subset="clip")
    with pytest.raises(StudyError, match="'blind' needs no align folder"):
        tune(study, tmp_path / "x", subset="blind", aligned=aligned)
    with pytest.raises(StudyError, match=r"connector\.safetensors"):
        tune(study, tmp_path / "x", subset="clip", aligned=aligned)
    with pytest.raises(StudyError, match="'blind' has no connector"):
        train_align(
            settings=study.settings("align-x", ALIGN),
            subset="blind",
            seed=0,
            encoders=(),
            language_model=study.language_model,
            features=(),
            data=study.data,
            restart=tmp_path,
            output=tmp_path / "x",
        )
    assert not (tmp_path / "x").exists()


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        for value in output if isinstance(output, tuple) else (output,):
            self.elements = max(self.elements, value.numel() if isinstance(value, torch.Tensor) else 0)
        return output


def test_flops_of_attention_are_counted_and_scaled_to_all_samples():
    heads, length, size = 2, 240, 8
    query = torch.randn(1, heads, length, size, requires_grad=True)

    class Task:
        batches = SimpleNamespace(samples=30)

        def first(self):
            return None, 10

    class Attend(TorchEngine):
        def __init__(self):
            self.device = torch.device("cpu")

        def forward(self, batch):
            return torch.nn.functional.scaled_dot_product_attention(query, query, query).sum()

    products = 2 * 2 * heads * length * length * size  # scores and their mix, a multiply and an add each
    with Largest() as largest:
        flops = count_flops(Attend(), Task())
    assert flops == 3 * 3 * products  # forward, twice that backward; three batches
    assert largest.elements == heads * length * size, "no matrix of length x length: a step has none either"


KINDS = {
    "token_interleave": {"layers": 1},
    "multi_level": {"layers": 1, "width": 8},
    "sva": {"layers": 1, "width": 8, "heads": 2, "depth": 1, "query_grid": 1, "groups": 2},
}


@pytest.fixture(scope="module")
def levelled(tmp_path_factory):
    """The tiny study with two layers of each encoder."""
    return write_tiny_study(tmp_path_factory.mktemp("levelled"), layer=(1, -1))


@pytest.mark.parametrize("kind", KINDS)
def test_other_connectors_and_levels_are_trained_and_answer_under_every_mask(levelled, tmp_path, kind):
    study, names = levelled, ("clip", "sam")
    connector = {"kind": kind, "grid": 2} | KINDS[kind]
    few = {"align": ALIGN["align"] | {"steps": 6}, "tune": TUNE["tune"] | {"epochs": 1}}
    given = {"subset": "clip+sam", "seed": 0, "encoders": tuple(study.encoders.values())}
    given |= {"language_model": study.language_model, "data": study.data, "restart": tmp_path / ".restart"}
    row = {"connector": connector, "threads": 1, "checkpoint_every": 100}
    settings = study.settings(f"align-{kind}", row | {"align": few["align"]})
    train_align(settings=settings, features=study.features(*names), output=tmp_path / "align", **given)
    settings = study.settings(f"tune-{kind}", row | {"tune": few["tune"]})
    train_tune(settings=settings, align=tmp_path / "align", output=tmp_path / "tune", **given)
    log = log_of(tmp_path / "align")
    assert log[-1]["loss"] < log[0]["loss"]
    model = load_vlm(tmp_path / "tune")
    assert model.tokens_per_picture == {"token_interleave": 8, "multi_level": 4, "sva": 1}[kind]
    predict_masks(
        settings=study.settings("masks", {"batch_tokens": 200, "threads": 1, "calibration_pictures": 4}),
        operator="drop",
        requests=study.requests,
        model=tmp_path / "tune",
        masks=("clip", "none"),
        data=study.data,
        output_root=tmp_path,
    )
    for mask in ("clip", "none"):
        assert len((tmp_path / f"{mask}.drop/mme.jsonl").read_text().splitlines()) == 24
