"""The model under lmms-eval's own evaluator answers as our prediction jobs do."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from benchmark_cases import write_case
from tenacity import Future, RetryError
from tiny_study import TinyStudy

from encoder_roles.benchmarks.table import TASKS
from encoder_roles.evaluation._evaluate import PIPELINES, import_evaluate
from encoder_roles.evaluation.adapter import EncoderRoles, cut
from encoder_roles.evaluation.harness import load_task
from encoder_roles.evaluation.lmms_command import ended_by_faults, with_study
from encoder_roles.evaluation.predict import predict_masks, predict_subset
from encoder_roles.evaluation.requests import write_requests
from encoder_roles.provenance import read_jsonl, write_json
from encoder_roles.study.names import StudyError

from lmms_eval.evaluator import simple_evaluate  # isort: skip
from lmms_eval.models import get_model  # isort: skip
from lmms_eval.tasks import TaskManager  # isort: skip

BENCHMARKS = ("gqa", "mmmu", "mmbench", "seed")
LOGGED = ("--study", "tiny", "--output_path", "out", "--log_samples")
MASKS = {"batch_tokens": 800, "threads": 1, "calibration_pictures": 16}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # lmms-eval writes `submissions` where it is run


@pytest.fixture(scope="module")
def cases(study: TinyStudy) -> Path:
    folder = study.root / "cases"
    for benchmark in BENCHMARKS:
        write_case(folder, benchmark, 12)
    write_json(folder / "requests.json", {"benchmarks": BENCHMARKS})
    write_requests(settings=folder / "requests.json", data=folder, output=folder / "requests")
    write_json(folder / "masks.json", MASKS)
    write_json(folder / "predict.json", {key: MASKS[key] for key in ("batch_tokens", "threads")})
    return folder


def answers_of_lmms_eval(cases: Path, **arguments: Any) -> dict[str, list[str]]:
    """What the model answers when lmms-eval finds it by name and asks it, by benchmark and row."""
    tasks = {
        name: load_task(TASKS[name], cases / f"benchmarks/{name}/test.parquet", True) for name in BENCHMARKS
    }
    described = ",".join(f"{key}={value}" for key, value in arguments.items())
    with contextlib.redirect_stdout(Path(os.devnull).open("w")), contextlib.redirect_stderr(io.StringIO()):
        results = simple_evaluate(
            model="encoder_roles",
            model_args=described,
            batch_size=3,
            device="cpu",
            tasks=[task.lmms for task in tasks.values()],
            task_manager=TaskManager(include_defaults=False),
            process_docs_parallel=1,
            bootstrap_iters=0,
        )
    collected = {}
    for name, task in tasks.items():
        rows = sorted(results["samples"][task.lmms.config.task], key=lambda row: row["doc_id"])
        collected[name] = [row["resps"][0][0] for row in rows]
    return collected


def answers_in(folder: Path) -> dict[str, list[str]]:
    return {name: [row["text"] for row in read_jsonl(folder / f"{name}.jsonl")] for name in BENCHMARKS}


def test_lmms_eval_finds_the_model_by_its_entry_point() -> None:
    assert get_model("encoder_roles") is EncoderRoles


def test_the_answers_are_those_of_the_prediction_job(cases: Path, model: Path, tmp_path: Path) -> None:
    predict_subset(
        settings=cases / "predict.json",
        requests=cases / "requests",
        model=model,
        subset="clip+sam",
        output=tmp_path / "answers",
    )
    expected = answers_in(tmp_path / "answers")
    assert len({text for texts in expected.values() for text in texts}) > 3
    assert answers_of_lmms_eval(cases, pretrained=model) == expected


def test_lmms_evals_command_line_gets_the_answers_of_the_prediction_job(
    cases: Path, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/data").symlink_to(cases)
    arguments = f"--model encoder_roles --model_args pretrained={model} --tasks tiny_seed --batch_size auto"
    done = subprocess.run(
        [sys.executable, "-m", "encoder_roles.evaluation", *arguments.split(), *LOGGED],
        env=os.environ | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "seed_image" in done.stdout
    (samples,) = (tmp_path / "out").rglob("*samples_tiny_seed.jsonl")
    answers = {row["doc_id"]: row["filtered_resps"] for row in read_jsonl(samples)}
    predict_subset(
        settings=cases / "predict.json",
        requests=cases / "requests",
        model=model,
        subset="clip+sam",
        output=tmp_path / "answers",
    )
    expected = {int(row["id"]): row["text"] for row in read_jsonl(tmp_path / "answers/seed.jsonl")}
    assert {place: answers[place] for place in expected} == expected


def test_evaluate_is_imported_without_pipelines_which_can_be_imported_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "evaluate.py").write_text(f"import sys\nmissing = sys.modules[{PIPELINES!r}] is None\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "evaluate")
    monkeypatch.delitem(sys.modules, PIPELINES, raising=False)
    import_evaluate()
    assert sys.modules["evaluate"].missing and PIPELINES not in sys.modules
    there = ModuleType(PIPELINES)
    monkeypatch.setitem(sys.modules, PIPELINES, there)
    import_evaluate()
    assert sys.modules[PIPELINES] is there


def hub_error(kind: str) -> Exception:
    """A retry that gave up on an error of this kind, as lmms-eval's loading of data raises it."""
    attempt = Future(1)
    attempt.set_exception(type(kind, (Exception,), {})("no"))
    return RetryError(attempt)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (StudyError("mask=sam: is now keep=sam"), "lmms-eval: mask=sam: is now keep=sam"),
        (
            hub_error("LocalTokenNotFoundError"),
            "lmms-eval: the task's data need a login to their hub: `hf auth",
        ),
        (hub_error("ConnectionError"), "lmms-eval: the hub with the task's data cannot be reached; results/"),
        (ZeroDivisionError("by zero"), "lmms-eval: by zero"),
    ],
)
def test_a_fault_of_lmms_evals_command_line_is_one_line_and_an_exit_code(error: Exception, line: str) -> None:
    def evaluate(_: Any) -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        ended_by_faults(evaluate)(None)
    assert str(ended.value.code).startswith(line)


def test_a_study_without_data_for_lmms_eval_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="none: has no data of benchmarks"):
        with_study(["--tasks", "none_mme", "--study", str(tmp_path / "none")], tmp_path)


@pytest.mark.parametrize("operator", ["zero", "mean"])
def test_the_answers_under_a_mask_are_those_of_the_masking_job(
    study: TinyStudy, cases: Path, model: Path, tmp_path: Path, operator: Any
) -> None:
    predict_masks(
        settings=cases / "masks.json",
        operator=operator,
        requests=cases / "requests",
        model=model,
        masks=("sam", "none"),
        data=study.data,
        output_root=tmp_path,
    )
    for mask in ("sam", "none"):
        result = answers_of_lmms_eval(
            cases,
            pretrained=model,
            keep=mask,
            operator=operator,
            calibration=study.data,
            calibration_pictures=16,
        )
        assert result == answers_in(tmp_path / f"{mask}.{operator}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keep": "sam+clip"}, "mask 'sam\\+clip'"),
        ({"keep": "sam", "operator": "blur"}, "operator 'blur': not one of zero, mean"),
        ({"keep": "sam", "operator": "mean"}, "operator mean: needs calibration="),
        ({"mask": "sam"}, "mask=sam: is now keep=sam, because it names the encoders that stay"),
        ({"batch_size": "many"}, "batch_size 'many': needs a positive number"),
        ({"device": "cuda:7"}, "device 'cuda:7': not one of this machine's, cpu"),
        ({"precision": "fp8"}, "precision 'fp8': not one of fp32, bf16"),
        ({"pretrained": "nowhere"}, "nowhere"),
    ],
)
def test_wrong_arguments_are_one_clear_error(model: Path, arguments: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        EncoderRoles(**({"pretrained": str(model)} | arguments))


def test_the_model_computes_where_and_in_what_it_is_asked_to(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = []

    def choose(chosen: str | None) -> torch.device:
        devices.append(chosen)
        return torch.device("cpu")

    monkeypatch.setattr("encoder_roles.evaluation.adapter.choose_device", choose)
    rounded = EncoderRoles(pretrained=str(model), precision="bf16", device="cuda:1")
    exact = EncoderRoles(pretrained=str(model))
    assert devices == ["cuda:1", None]
    assert (rounded.vlm.dtype, exact.vlm.dtype) == (torch.bfloat16, torch.float32)


def test_a_task_that_samples_is_refused(model: Path) -> None:
    class Request:
        args = ("What?", {"do_sample": True}, None, 0, "poem", "test")

    with pytest.raises(StudyError, match="task poem: encoder_roles decodes greedily"):
        EncoderRoles(pretrained=str(model)).generate_until([Request()])


def test_an_answer_is_cut_at_the_first_stop_string() -> None:
    assert cut("red\n\nQuestion: blue", ["Question", "\n\n"]) == "red"
    assert cut("red", []) == cut("red", [""]) == "red"
    assert json.loads(cut("[1, 2]", ["]]"])) == [1, 2]
