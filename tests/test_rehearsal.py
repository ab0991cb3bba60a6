"""A rehearsal runs a study's own commands in small, and what passes 90% of a limit is a fault."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from child_process import end_well, start_ranks
from rehearsal_worker import run_steps
from tiny_language_model import write_tiny_language_model

from encoder_roles.cluster.rehearsed import check_rehearsal, rehearsed_state
from encoder_roles.cluster.site import Site
from encoder_roles.encoders.loading import load_encoder
from encoder_roles.provenance import read_jsonl, write_json, write_jsonl
from encoder_roles.rehearsal.rehearse import plan_of, run_rehearsal
from encoder_roles.rehearsal.report import Line, Plan, Run, lines_of, plan_again, total_lines
from encoder_roles.rehearsal.samples import write_samples
from encoder_roles.rehearsal.sources import prepare_encoder
from encoder_roles.rehearsal.step import Step, rehearse_step
from encoder_roles.study.config import Study, load_study
from encoder_roles.study.names import StudyError
from encoder_roles.training.loop import TERMINATED

ROOT = Path(__file__).parents[1]
FULL = "clip+dinov2"
HALF = [0.5, 0.5, 0.5]
CLIP = {"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
CLIP |= {"num_attention_heads": 2, "image_size": 48, "patch_size": 12}
DINO = {"model_type": "dinov2", "hidden_size": 24, "mlp_ratio": 2, "num_hidden_layers": 2}
DINO |= {"num_attention_heads": 2, "image_size": 64, "patch_size": 16}
QWEN = {"model_type": "qwen2", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
QWEN |= {"num_attention_heads": 2, "num_key_value_heads": 2, "vocab_size": 64, "tie_word_embeddings": True}


def row(pixels: int, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "library": "transformers",
        "source": "nowhere",
        "pixels": pixels,
        "mean": HALF,
        "std": HALF,
        "library_config": config,
    }


def tiny(engine: dict[str, Any] | None = None, **changes: Any) -> Study:
    """A study of two tiny encoders and a tiny language model, whose weights are nowhere."""
    study = load_study(ROOT / "config.yaml").model_dump(mode="json")
    training = study["training"]
    training["align"] |= {"batch_pictures": 4, "features": "computed"}
    training["tune"] |= {"batch_pictures": 4, "epochs": 1}
    study |= {
        "study": "tiny",
        "pool": ["clip", "dinov2"],
        "encoders": {"clip": row(48, CLIP), "dinov2": row(64, DINO)},
        "language_model": {"source": "nowhere", "library_config": QWEN},
        "connector": {"kind": "mlp", "layers": 2, "grid": 2},
        "training": training | {"max_tokens": 48, "threads": 1, "engine": engine or {}},
        "masks": {"operators": ["zero", "mean"], "calibration_pictures": 4},
        "effective_rank": study["effective_rank"] | {"pictures": 8, "resamples": 5},
    }
    return Study.model_validate(study | changes)


def in_this_process(step: Step, folder: Path, training: bool) -> int:
    """Run a step here: nothing is imported again."""
    assert training == step.command.startswith("train-")
    try:
        rehearse_step(job=step.write(folder / "step.json"))
    except SystemExit as end:
        return int(end.code) if isinstance(end.code, int) else pytest.fail(str(end.code))
    return 0


class TwoProcesses:
    """Runs the steps of trainings in two processes, and the others here."""

    def __init__(self, place: Path) -> None:
        self.queue, self.number = place / "queue", 0
        self.queue.mkdir()
        self.ranks = start_ranks(2, run_steps, self.queue)

    def __call__(self, step: Step, folder: Path, training: bool) -> int:
        if not training:
            return in_this_process(step, folder, training)
        step.write(self.queue / f"{self.number}.json")
        files = [self.queue / f"{self.number}.{rank}.code" for rank in range(2)]
        while not all(file.is_file() for file in files):
            assert all(rank.is_alive() for rank in self.ranks)
            time.sleep(0.05)
        self.number += 1
        codes = {file.read_text() for file in files}
        assert codes <= {"0", str(TERMINATED)}, codes
        return max(map(int, codes))

    def end(self) -> None:
        (self.queue / "end").touch()
        assert end_well(self.ranks, seconds=120)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    """A study that was rehearsed in one process, and its folder."""
    place, study = tmp_path_factory.mktemp("alone"), tiny()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        run_rehearsal(study, Site(), in_this_process)
    return study, place / "results/tiny/rehearsal"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Study, Path]:
    """A study whose trainings were rehearsed in two processes under ZeRO-2, and its folder."""
    place = tmp_path_factory.mktemp("shared")
    engine = {"kind": "deepspeed", "processes": 2, "zero_stage": 2, "precision": "bf16"}
    study = tiny(subsets=["clip+dinov2"], engine=engine)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        processes = TwoProcesses(place)
        run_rehearsal(study, Site(), processes)
    processes.end()
    return study, place / "results/tiny/rehearsal"


def table(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "rehearsal.csv").set_index(["model", "what", "quantity", "unit"])


def test_it_leaves_tables_and_records_and_no_weights(alone: tuple[Study, Path]) -> None:
    _, folder = alone
    assert {path.name for path in folder.iterdir()} == {"rehearsal.csv", "peaks.csv", "passed.json", "logs"}
    assert not list(folder.rglob("*.safetensors"))
    assert [path.name for path in folder.parent.iterdir()] == ["rehearsal"]


def test_the_smallest_the_largest_and_the_blind_model_are_trained_and_answer(
    alone: tuple[Study, Path],
) -> None:
    ran = table(alone[1]).reset_index().groupby("model")["what"].agg(set)
    assert ran["clip"] == {"align", "tune", "predict"}
    more = {"tune resumed", "masks zero", "masks mean", "ranks pretrained", "ranks", "whole training"}
    assert ran[FULL] == ran["clip"] | (more - {"whole training"})
    assert ran["blind"] == {"tune", "predict"}


@pytest.mark.parametrize(("which", "processes"), [("alone", 1), ("shared", 2)])
def test_every_process_stops_with_a_checkpoint_after_the_signal_and_goes_on(
    which: str, processes: int, request: pytest.FixtureRequest
) -> None:
    """The last process alone gets the signal, after the first step; all save after the second."""
    _, folder = request.getfixturevalue(which)
    peaks = pd.read_csv(folder / "peaks.csv")
    phases = peaks[peaks["model"] == FULL].groupby(["what", "process"])["phase"].agg(list)
    for process in range(processes):
        assert phases["tune", process] == ["start", "step", "step", "checkpoint"]
        assert phases["tune resumed", process] == ["start", "step", "checkpoint", "flops", "written", "end"]
        assert phases["align", process] == ["start", "step", "step", "checkpoint", "flops", "written", "end"]
    assert set(peaks[peaks["what"] == "tune"]["process"]) == set(range(processes))
    assert (peaks["host_gb"] > 0.05).all()


@pytest.mark.parametrize("which", ["alone", "shared"])
def test_a_checkpoint_has_the_planned_bytes(which: str, request: pytest.FixtureRequest) -> None:
    """12 bytes for each trained parameter; a file's header weighs more here than at real sizes."""
    lines = table(request.getfixturevalue(which)[1])
    planned, measured = lines.loc[(FULL, "tune", "checkpoint", "GB"), ["planned", "measured"]]
    assert planned < measured < 1.2 * planned


def test_the_host_memory_of_a_node_is_that_of_all_its_processes(shared: tuple[Study, Path]) -> None:
    peaks = pd.read_csv(shared[1] / "peaks.csv").query("what == 'tune' and model == @FULL")
    each = peaks.groupby("process")["host_gb"].max()
    measured = table(shared[1]).loc[(FULL, "tune", "host memory", "GB"), "measured"]
    assert len(each) == 2 and measured == pytest.approx(each.sum(), rel=1e-4)


def test_what_has_passed_holds_until_config_or_lock_changes(
    alone: tuple[Study, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, folder = alone
    monkeypatch.chdir(folder.parents[2])
    gpus = {"jobs": {**study.jobs, "train_tune": study.jobs["train_tune"].model_copy(update={"gpus": 1})}}
    assert not list(check_rehearsal(study))  # no job requests a GPU
    on_gpus = study.model_copy(update=gpus)
    assert "config changed after the rehearsal" in next(check_rehearsal(on_gpus))
    write_json(folder / "passed.json", rehearsed_state(on_gpus))
    assert not list(check_rehearsal(on_gpus))
    statistics = study.statistics.model_copy(update={"resamples": 7})
    assert not list(check_rehearsal(on_gpus.model_copy(update={"statistics": statistics})))
    Path("studies").mkdir(exist_ok=True)
    Path("studies/tiny.lock.yaml").write_text("sources: {}\n")
    assert "lock changed" in next(check_rehearsal(on_gpus))
    (folder / "passed.json").unlink()
    assert "no rehearsal of tiny has passed" in next(check_rehearsal(on_gpus))
    assert not list(check_rehearsal(on_gpus.model_copy(update={"rehearsal": "optional"})))


@pytest.fixture(scope="module")
def plan() -> Plan:
    return plan_of(tiny())


def a_run(what: str = "tune", rule: str = "train_tune", processes: int = 2, **facts: float) -> Run:
    """A run of the full pool, two processes on a node, whose numbers are round."""
    phases = [
        {"phase": name, "ended": float(second), "seconds": seconds, "host_bytes": 1e9, "device_bytes": 40e9}
        for second, (name, seconds) in enumerate(
            [("start", 60.0), ("step", 9.0), ("step", 2.0), ("checkpoint", 20.0), ("written", 30.0)], start=10
        )
    ]
    records = tuple(
        {"process": process, "node": "n1", "device_total_bytes": 80e9, "phases": phases}
        for process in range(processes)
    )
    return Run(FULL, rule, what, records, 0.0, 100.0, facts)


@pytest.mark.parametrize(
    ("quantity", "unit", "limit"),
    [("device memory", "GB", 80.0), ("host memory", "GB", 3.0), ("warning to end", "s", 300)],
)
def test_a_training_has_the_limits_of_its_device_its_job_and_its_warning(
    quantity: str, unit: str, limit: float, plan: Plan
) -> None:
    lines = {(line.quantity, line.unit): line for line in lines_of(a_run(), plan, Site(), samples=100)}
    line = lines[quantity, unit]
    assert line.limit == limit and line.passes
    measured = {"device memory": 40.0, "host memory": 2.0, "warning to end": 29.0}  # two processes of 1 GB
    assert line.measured == pytest.approx(measured[quantity])


def test_what_no_model_does_has_no_planned_memory(plan: Plan) -> None:
    """Features of an encoder that the study trains in larger subsets alone."""
    run = replace(a_run("features", "extract_features", 1), model="sam")
    lines = {line.quantity: line for line in lines_of(run, plan, Site(), samples=100)}
    assert lines["device memory"].planned is None and lines["device memory"].measured == 40.0


def test_nine_tenths_of_a_limit_pass_and_more_is_a_line_that_says_whose_limit_it_is() -> None:
    fits = Line(FULL, "tune", "device memory", "GB", None, 72.0, 80.0, "the device")
    assert fits.passes and not replace(fits, measured=72.1).passes
    fault = replace(fits, measured=72.1).fault
    assert fault == "tune clip+dinov2: device memory is 72.1 GB, above 90% of the device (80 GB)"


def test_half_the_utilisation_is_twice_the_hours_and_every_training_starts_saves_and_writes(
    plan: Plan,
) -> None:
    planned = plan.study.plan.utilisation
    flops = planned.training / 2 * 2.0 * 2 * plan.peak  # in a step of two seconds on two devices
    answers = planned.prediction / 2 * plan.peak
    tune = a_run(step_flops=flops, checkpoint_bytes=10e9)
    predict = a_run("predict", "predict_subset", 1, answer_flops=answers, answer_seconds=1.0)
    again = plan_again([tune, predict], plan, Site(jobs=2))
    trainings = sum(row["jobs"] * row["devices"] for row in plan.rules if "train_" in row["rule"])
    # a training starts in 10 s, writes its last checkpoint in 20 s and its outputs in 30 s
    assert again.hours == pytest.approx(2 * plan.needs.hours + trainings * 60 / 3600, rel=1e-6)
    assert again.at_once_gb == pytest.approx(again.kept_gb + 2 * 3 * 10)
    assert again.days(4) == pytest.approx(again.hours / 96)
    (disk,) = (line for line in total_lines(again, plan, 60.0, Site()) if line.quantity == "disk at once")
    assert not disk.passes and "the disk's free space" in disk.fault


def test_a_command_that_fails_is_named_with_its_log_and_the_table_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def run_out_of_memory(step: Step, folder: Path, training: bool) -> int:
        (folder / "log").write_text("Traceback\nCUDA out of memory\n\n")
        return 9

    message = r"align clip: failed with exit code 9, see .*/logs/align-clip/log: CUDA out of memory$"
    with pytest.raises(StudyError, match=message):
        run_rehearsal(tiny(), Site(), run_out_of_memory)
    assert {path.name for path in (tmp_path / "results/tiny/rehearsal").iterdir()} == {
        *("rehearsal.csv", "peaks.csv", "logs")
    }


def test_the_longest_samples_of_the_study_come_first(tmp_path: Path) -> None:
    results, model = tmp_path / "results/tiny", write_tiny_language_model(tmp_path / "model")
    rows = [
        {
            "id": str(number),
            "image": f"pictures/{number}.png",
            "conversations": [
                {"from": "human", "value": "<image>\n" + "what " * words},
                {"from": "gpt", "value": "red"},
            ],
        }
        for number, words in enumerate([3, 30, 5, 20, 1])
    ]
    write_jsonl(results / "data/train/train.jsonl", rows)
    output = results / "rehearsal/work/data/tune/tune.jsonl"
    assert write_samples(tiny(), results, "tune", 3, model, output) == 3
    chosen = list(read_jsonl(output))
    assert [row["id"] for row in chosen] == ["1", "3", "2"]
    assert (output.parent / chosen[0]["image"]).resolve() == results / "data/train/pictures/1.png"


@pytest.mark.parametrize("library", ["timm", "open_clip"])
def test_random_weights_have_the_format_of_their_library(library: str, tmp_path: Path) -> None:
    architecture = {"timm": "test_vit3", "open_clip": "test_convnext2"}[library]
    arguments = {"timm": {"img_size": 64}, "open_clip": {}}[library]
    config = {"architecture": architecture, "arguments": arguments}
    changes = {"clip": row(64, config) | {"library": library}}
    study = tiny(pool=["clip"], encoders=changes)
    settings = tmp_path / "settings.json"
    write_json(settings, study.encoders["clip"].model_dump(mode="json"))
    folder, random = prepare_encoder(study, tmp_path, "clip", settings, tmp_path / "new/encoders/clip")
    assert random and load_encoder(folder).spec == study.encoders["clip"]


@pytest.mark.real
def test_two_large_encoders_and_half_a_billion_parameters_are_rehearsed(tmp_path: Path) -> None:
    """Some 20 GB of memory, 65 of disk, and half an hour."""
    output = tmp_path / "rehearsal.csv"
    command = [sys.executable, "performance/rehearsal.py", "--output", str(output)]
    subprocess.run(command, cwd=ROOT, check=True)
    measured = pd.read_csv(output).set_index(["model", "what", "quantity", "unit"])
    planned, size = measured.loc[("clip_l+dinov2_l", "tune", "checkpoint", "GB"), ["planned", "measured"]]
    assert size == pytest.approx(planned, rel=0.01)
