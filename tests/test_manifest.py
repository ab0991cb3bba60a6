"""The manifest of a study and what `verify` finds: each fault planted in a small study of real files."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from encoder_roles import provenance
from encoder_roles.cli import COMMANDS, main
from encoder_roles.manifest import environment, job, repair, verify, write
from encoder_roles.manifest.code import PACKAGE, code_key, code_of
from encoder_roles.manifest.compare import MEASURED, compare_runs
from encoder_roles.paper.catalogue import MEASURED_FIGURES
from encoder_roles.provenance import write_json, write_jsonl
from encoder_roles.study.config import load_study
from encoder_roles.study.names import StudyError

ROOT = Path(__file__).resolve().parent.parent
LOCK = "torch==2.13.0+cpu \\\n    --hash=sha256:00\nopen-clip-torch==3.3.0 \\\n    --hash=sha256:00\n"
RESULTS = Path("results/tiny")
# output -> its rule, what makes it, its text
MADE = {
    "settings/align.json": ("write_settings", None, "{}"),
    "features/clip/train.safetensors": ("extract_features", "extract-features", "features"),
    "models/clip/seed0/tune": ("train_tune", "train-tune", "weights"),
    "scores.parquet": ("score_predictions", "score-predictions", "scores"),
    "figures/chains.pdf": ("draw_chains", "workflow/scripts/draw_chains.py", "picture"),
}


@pytest.fixture
def pinned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one lock, and a Python whose environment was made from it."""
    prefix, root = tmp_path / "prefix", tmp_path / "repository"
    for folder in (prefix, root / "envs"):
        folder.mkdir(parents=True)
        (folder / "laptop.lock").write_text(LOCK)
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "prefix", str(prefix))
    versions = {"torch": "2.13.0+cpu", "open-clip-torch": "3.3.0", "pip": "24.0", "ipdb": "1.0"}
    monkeypatch.setattr(environment, "installed", lambda paths: dict(versions))
    monkeypatch.setenv(job.LOCKS_VARIABLE, "envs")
    monkeypatch.delenv(environment.PLATFORM_VARIABLE, raising=False)
    (prefix / ".lock").touch()  # uv leaves it
    return root


def run_job(output: str) -> write.Planned:
    """Make one output as its rule would: announce who makes it into the log, write it, leave a timing."""
    rule, maker, text = MADE[output]
    path, log = RESULTS / output, RESULTS / "logs" / rule / "job.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix:
        path.write_text(text)
    else:
        path.mkdir(exist_ok=True)
        (path / "model.safetensors").write_text(text)
        (path / write.STAMP).touch()
    with log.open("w") as stream:
        if maker in COMMANDS:
            job.announce(maker, COMMANDS[maker].partition(":")[0], stream=stream)
        elif maker:
            job.announce(Path(maker).stem, script=Path(maker), stream=stream)
        stream.write("step 1 of 2\n")
    if maker:
        timing = RESULTS / "timings" / rule / "job.tsv"
        timing.parent.mkdir(parents=True, exist_ok=True)
        timing.write_text("s\th:m:s\tmax_rss\n60.5\t0:01:00\t812.25\n")
    return write.Planned(path, rule, (log,), ("sources/clip.safetensors", str(RESULTS / "settings")))


def write_now() -> dict[str, Any]:
    """Write the manifest of what is there."""
    output = RESULTS / "manifest.json"
    study = RESULTS / "settings/study.json"
    write.write_manifest(results=RESULTS, study=study, workflow=(Path("Snakefile"),), output=output)
    return json.loads(output.read_text())


@pytest.fixture
def study(pinned: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A finished study with its manifest; the working directory is its repository."""
    config = yaml.safe_load((ROOT / "config.yaml").read_text()) | {"study": "tiny"}
    Path("config.yaml").write_text(yaml.safe_dump(config))
    Path("Snakefile").write_text("rule paper:\n")
    Path("sources").mkdir()
    Path("sources/clip.safetensors").write_text("pretrained")
    (pinned / "workflow/scripts").mkdir(parents=True)
    shutil.copy(ROOT / "workflow/scripts/draw_chains.py", "workflow/scripts")
    write_json(RESULTS / "settings/study.json", load_study(Path("config.yaml")).model_dump(mode="json"))
    plan = [run_job(output) for output in MADE]
    plan.append(write.Planned(RESULTS / "settings/study.json", "write_settings", (), ()))
    monkeypatch.setattr(write, "planned_outputs", lambda study, targets: plan)
    return write_now()


def faults(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that `verify` says, none if all is well."""
    capsys.readouterr()
    try:
        main(["verify", "--configs", "config.yaml"])
    except SystemExit as end:
        lines = capsys.readouterr().err.splitlines()
        number = "1 fault," if len(lines) == 1 else f"{len(lines)} faults,"
        assert number in str(end.code), "the exit code is that of an error"
        return lines
    assert "verified" in capsys.readouterr().out
    return []


def test_the_manifest_has_what_other_targets_of_the_study_have_made(study: dict[str, Any]) -> None:
    settings = load_study(Path("config.yaml"))
    with_variants = settings.model_copy(update={"variants": {"base": settings}})
    assert write.targets_of(with_variants, RESULTS) == ("paper",)
    (RESULTS / "variant_claims.json").write_text("[]")
    assert write.targets_of(with_variants, RESULTS) == ("paper", "variants")
    assert write.targets_of(settings, RESULTS) == ("paper",), "a study without variants has no such rule"


def test_an_untouched_study_verifies(study: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert faults(capsys) == []


@pytest.fixture
def large(pinned: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A large file that a job of the workflow wrote, with the log that is returned."""
    file, log = RESULTS / "models/clip/seed0/tune/model.safetensors", RESULTS / "logs/train_tune/job.log"
    monkeypatch.setattr(provenance, "WRITTEN", [])
    monkeypatch.setattr(job, "WRITTEN", provenance.WRITTEN)
    with provenance.atomic_folder(file.parent) as folder:
        provenance.write_text(folder / file.name, "w" * job.HASHED_FROM)
        provenance.write_text(folder / "log.jsonl", "small")
    log.parent.mkdir(parents=True)
    with log.open("w") as stream:
        stream.write("step 1 of 1\n")
        job.announce_files(stream)
    return log


def test_a_file_is_hashed_by_the_job_that_wrote_it_and_by_nobody_again(
    large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = write.files_of(RESULTS / "models")
    truth = {file: provenance.sha256_of(file) for file in files}
    read: list[Path] = []
    monkeypatch.setattr(provenance, "sha256_of", lambda file: read.append(file) or truth[file])
    assert write.hashes_of(files, [large, large]) == truth
    assert [file.name for file in read] == ["log.jsonl"]


@pytest.mark.parametrize("change", ["size", "time", "log"])
def test_a_file_that_is_not_as_its_job_left_it_is_hashed_again(large: Path, change: str) -> None:
    (weights,) = (RESULTS / "models").rglob("*.safetensors")
    before = weights.stat().st_mtime_ns
    weights.write_text("v" * (job.HASHED_FROM + (change == "size")))
    if change != "time":
        os.utime(weights, ns=(before, before))
    if change == "log":
        large.write_text(large.read_text()[:-20])  # cut off by a full disk
    assert write.hashes_of([weights], [large]) == {weights: provenance.sha256_of(weights)}


def test_a_quick_check_reads_no_large_file_and_sees_its_size_and_time(
    study: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = RESULTS / "models/clip/seed0/tune/model.safetensors"
    monkeypatch.setattr(verify, "HASHED_FROM", weights.stat().st_size)
    before = weights.stat()
    weights.write_text("weightz")  # as a disk may do it
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    main(["verify", "--configs", "config.yaml", "--quick"])
    assert "verified by size and time" in capsys.readouterr().out
    os.utime(weights, (time.time() + 60, time.time() + 60))
    with pytest.raises(SystemExit):
        main(["verify", "--configs", "config.yaml", "--quick"])
    assert "its SHA-256 is not what train_tune wrote" in capsys.readouterr().err
    assert any("SHA-256" in fault for fault in faults(capsys)), "the default reads every byte"


def test_the_memory_of_staged_pictures_is_no_orphan(pinned: Path) -> None:
    kept, remembered = RESULTS / "records/tune.faults.csv", RESULTS / "records/.tune.decoded"
    kept.parent.mkdir(parents=True)
    kept.touch()
    remembered.touch()
    assert write.kept_files(RESULTS) == [kept]


def test_the_manifest_says_what_made_every_file_on_what_and_when(study: dict[str, Any]) -> None:
    assert set(study["files"]) == {
        "settings/study.json",
        "models/clip/seed0/tune/model.safetensors",
        *(output for output in MADE if not output.endswith("tune")),
    }
    (tune,) = (made for made in study["jobs"] if made["rule"] == "train_tune")
    made_by = tune["made_by"]
    assert (tune["seconds"], tune["peak_memory_mb"]) == (60.5, 812.25)
    assert tune["end"] > made_by["start"]
    assert study["code"][made_by["code"]] == code_of("encoder_roles.training.tune")
    assert made_by["environment"] == "laptop.lock" and made_by["unlisted"] == ["ipdb"]
    assert study["environments"]["laptop.lock"]["packages"] == environment.read_pins(LOCK)
    assert made_by["cores"] >= 1 and made_by["cpu"] and isinstance(made_by["gpus"], list)
    assert study["seeds"] == {"models": [0], "world": 0, "statistics": 0} and study["threads"] == 1
    assert set(study["inputs"]) == {"Snakefile", "sources/clip.safetensors"}
    assert not study["orphans"] and not study["missing"]


def lose_weights() -> None:
    shutil.rmtree(RESULTS / "models/clip/seed0/tune")


def flip_a_byte() -> None:
    (RESULTS / "scores.parquet").write_text("scorez")


def cut_a_file() -> None:
    (RESULTS / "scores.parquet").write_text("score")


def leave_an_orphan() -> None:
    orphan = RESULTS / "models/clip+sam/seed0/tune/model.safetensors"
    orphan.parent.mkdir(parents=True)
    orphan.write_text("of an encoder that left the pool")


def edit_the_config() -> None:
    text = Path("config.yaml").read_text()
    assert "    epochs: 6" in text
    Path("config.yaml").write_text(text.replace("    epochs: 6", "    epochs: 7"))


def edit_an_input() -> None:
    Path("sources/clip.safetensors").write_text("another checkpoint")


def relock() -> None:
    Path("envs/laptop.lock").write_text(LOCK.replace("3.3.0", "3.3.1"))


def edit_a_script() -> None:
    with Path("workflow/scripts/draw_chains.py").open("a") as script:
        script.write("# another colour\n")


@pytest.mark.parametrize(
    ("plant", "line"),
    [
        (
            lose_weights,
            "tune/model.safetensors: missing; train_tune makes it; `make paper` or `encoder-roles repair`",
        ),
        (flip_a_byte, "scores.parquet: changed: its SHA-256 is not what score_predictions wrote"),
        (cut_a_file, "scores.parquet: changed: 5 bytes, 6 when it was made"),
        (
            leave_an_orphan,
            r"clip\+sam/seed0/tune/model.safetensors: newer than the manifest; `make paper`",
        ),
        (edit_the_config, r"another config than config\.yaml: training\.tune\.epochs was 6, is 7"),
        (edit_an_input, "sources/clip.safetensors: an input has changed since the results were made"),
        (
            edit_a_script,
            r"chains.pdf \(draw_chains\): made by other code .*workflow/scripts/draw_chains.py differ",
        ),
    ],
)
def test_a_fault_is_found_and_told_in_one_line(
    plant: Callable[[], None], line: str, study: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    plant()
    (printed,) = faults(capsys)
    assert re.search(line, printed), printed


def test_a_file_that_no_rule_makes_is_an_orphan_once_the_manifest_is_written_again(
    study: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    leave_an_orphan()
    write_now()
    (line,) = faults(capsys)
    assert line.endswith("orphaned: no rule of this study makes it; remove it")


def test_results_of_another_lock_are_named_by_rule(
    study: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    relock()
    lines = faults(capsys)
    assert len(lines) == 4 and all(
        "made in another environment than the current envs/laptop.lock" in s for s in lines
    )


def test_an_intermediate_deleted_before_the_manifest_is_written_is_missing_all_the_same(
    study: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (RESULTS / "features/clip/train.safetensors").unlink()
    assert write_now()["missing"] == [
        {"output": "features/clip/train.safetensors", "rule": "extract_features"}
    ]
    (printed,) = faults(capsys)
    assert "features/clip/train.safetensors: missing when the manifest was written" in printed


def test_a_result_made_by_other_code_is_found_although_the_manifest_is_newer(
    study: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = code_of("encoder_roles.training.tune") | {"encoder_roles/training/step.py": "0" * 64}
    with monkeypatch.context() as patch:
        patch.setattr(job, "code_of", lambda module, script: other)
        run_job("models/clip/seed0/tune")  # an earlier version of the package made it
    write_now()
    (printed,) = faults(capsys)
    assert printed.startswith("models/clip/seed0/tune (train_tune): made by other code than the current")


def test_a_result_whose_log_is_gone_has_nothing_that_says_what_made_it(
    study: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (RESULTS / "logs/train_tune/job.log").unlink()
    write_now()
    (printed,) = faults(capsys)
    assert "no record of its code and environment" in printed


def test_a_study_without_a_manifest_or_with_a_damaged_one_is_told_so(study: dict[str, Any]) -> None:
    path = RESULTS / "manifest.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(StudyError, match=r"manifest\.json: not JSON"):
        verify.verify(configs=(Path("config.yaml"),))
    path.unlink()
    with pytest.raises(StudyError, match="not written yet; `make paper`"):
        verify.verify(configs=(Path("config.yaml"),))


def test_a_job_stops_when_its_environment_is_not_what_the_lock_pins(
    pinned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "installed", lambda paths: {"torch": "2.14.0"})
    with pytest.raises(
        StudyError, match=r"not what .*: torch 2\.14\.0 \(pinned 2\.13\.0\+cpu\), open-clip-torch"
    ):
        job.announce("train-tune", "encoder_roles.training.tune")
    monkeypatch.delenv(job.LOCKS_VARIABLE)
    job.announce("train-tune", "encoder_roles.training.tune")  # outside of the workflow anything may be used


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda: relock(), "made from another envs/laptop.lock than this one"),
        (lambda: Path("envs/laptop.lock").unlink(), "laptop.lock, which is not in envs"),
        (lambda: Path(sys.prefix, "laptop.lock").unlink(), "has no copies of a lock"),
    ],
)
def test_an_environment_that_no_present_lock_made_is_an_error(
    change: Callable[[], None], line: str, pinned: Path
) -> None:
    environment.check_environment()
    change()
    with pytest.raises(StudyError, match=line):
        environment.check_environment()


def test_an_environment_for_another_platform_than_asked_for_stops_a_job(
    pinned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(environment.PLATFORM_VARIABLE, "cuda")
    with pytest.raises(StudyError, match=r"made from laptop\.lock, for cpu, .* requests cuda"):
        job.announce("train-tune", "encoder_roles.training.tune")
    assert environment.platform_of("model.cuda.lock") == "cuda"


def test_what_is_installed_is_what_an_import_would_find(tmp_path: Path) -> None:
    for folder, version in (("first", "1.0"), ("second", "2.0")):
        (tmp_path / folder / f"open_clip_torch-{version}.dist-info").mkdir(parents=True)
    result = environment.installed([str(tmp_path / name) for name in ("absent", "first", "second")])
    assert result == {"open-clip-torch": "1.0"}


LOADED = """
import importlib, sys
importlib.import_module(sys.argv[1])
package = "encoder_roles"
print(*(n for n in sys.modules if n.partition(".")[0] == package))
"""


# that of train-tune: test_training_stages.py
@pytest.mark.parametrize("command", ["make-world", "score-predictions", "assign-roles"])
def test_the_code_of_a_command_holds_every_module_that_it_imports(command: str) -> None:
    module = COMMANDS[command].partition(":")[0]
    loaded = subprocess.run(
        [sys.executable, "-c", LOADED, module], capture_output=True, text=True, check=True
    )
    files = {str(Path(sys.modules["encoder_roles"].__path__[0]).parent / file) for file in code_of(module)}
    for name in loaded.stdout.split():
        place = PACKAGE.joinpath(*name.split(".")[1:])
        assert {str(place.with_suffix(".py")), str(place / "__init__.py")} & files, name


def test_the_code_of_a_command_is_not_that_of_others() -> None:
    tune, pretrain = (code_of(COMMANDS[c].partition(":")[0]) for c in ("train-tune", "pretrain-encoder"))
    assert not [file for file in tune if "/paper/" in file or "/analysis/" in file]
    assert "encoder_roles/world/pretraining/sam.py" in pretrain, "imported by a computed name"
    assert code_key(tune) != code_key(pretrain)


def write_run(folder: Path, seconds: float, loss: float = 0.5, scores: str = "scores") -> Path:
    """The results of a run with two files that hold seconds."""
    tune = folder / "models/clip/seed0/tune"
    write_json(tune / "training.json", {"final_loss": loss, "seconds": seconds, "peak_memory_mb": 100})
    write_jsonl(tune / "log.jsonl", [{"step": 0, "loss": loss, "seconds": seconds}])
    (folder / "costs.csv").write_text(f"subset,parameters,tune_seconds\nclip,100,{seconds}\n")
    (folder / "scores.parquet").write_text(scores)
    files = {str(path.relative_to(folder)): {} for path in folder.rglob("*.*")}
    write_json(
        folder / "manifest.json", {"files": files, "jobs": [], "inputs": {}, "config": {}, "missing": []}
    )
    return folder


def test_runs_that_differ_in_measured_time_alone_are_equal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compare_runs(write_run(tmp_path / "a", 1.0), write_run(tmp_path / "b", 2.0))
    assert "1 files have the same bytes, 3 differ only in measured time" in capsys.readouterr().out


def test_runs_that_differ_in_a_result_are_told_with_the_file_and_the_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = write_run(tmp_path / "a", 1.0)
    second = write_run(tmp_path / "b", 2.0, loss=0.25, scores="others")
    (second / "costs.csv").unlink()
    with pytest.raises(StudyError, match="4 files differ"):
        compare_runs(first, second)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"{second / 'costs.csv'}: missing; run `encoder-roles verify`",
        "models/clip/seed0/tune/log.jsonl: loss is 0.5 against 0.25",
        "models/clip/seed0/tune/training.json: final_loss is 0.5 against 0.25",
        "scores.parquet: the bytes differ",
    ]


def test_the_figures_that_runs_may_draw_otherwise_are_those_of_measured_time() -> None:
    shown = {name.split("/")[1].split(".")[0] for name in MEASURED if name.startswith("figures/")}
    assert shown == set(MEASURED_FIGURES)


# --- repairs ---


def repaired(monkeypatch: pytest.MonkeyPatch, *, text: str) -> list[list[str]]:
    """Run `repair` with a Snakemake that writes this text into each target; the targets of each run."""
    runs: list[list[str]] = []

    def run(command: list[str]) -> SimpleNamespace:
        runs.append(command[command.index("--") + 1 :])
        for target in map(Path, runs[-1]):
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.suffix:
                target.write_text(text)
            else:
                target.mkdir(exist_ok=True)
                (target / "model.safetensors").write_text(text)
                (target / write.STAMP).touch()
        assert "--force" in command and "--forcerun" not in command
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(repair.subprocess, "run", run)
    main(["repair", "--configs", "config.yaml"])
    return runs


def test_a_lost_model_is_the_only_target_and_nothing_is_newer_because_of_it(
    study: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tune = RESULTS / "models/clip/seed0/tune"
    for lose in (lose_weights, (tune / "model.safetensors").unlink):
        lose()
        assert repaired(monkeypatch, text="weights") == [[str(tune)]]
        (job_,) = (made for made in study["jobs"] if made["rule"] == "train_tune")
        expected = datetime.fromisoformat(job_["end"]).timestamp()
        assert {path.stat().st_mtime for path in (tune, *tune.iterdir())} == {expected}
    assert repaired(monkeypatch, text="weights") == []
    assert faults(capsys) == []


def test_what_reads_a_file_that_came_out_otherwise_is_made_again(
    study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_weights()
    before = time.time()
    repaired(monkeypatch, text="other weights")
    assert (RESULTS / "models/clip/seed0/tune/model.safetensors").stat().st_mtime >= before - 1


def test_results_of_another_config_are_left_to_snakemake(
    study: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_weights()
    edit_the_config()
    assert repaired(monkeypatch, text="weights") == []


def test_results_of_other_code_are_named_one_by_one_unless_they_are_all_of_their_rule(
    study: dict[str, Any],
) -> None:
    jobs = [job_ for job_ in study["jobs"] if job_["rule"] == "train_tune"]
    other = {**jobs[0], "outputs": ["models/sam/seed0/tune"], "made_by": None}
    (line,) = verify.job_faults(study | {"jobs": [*jobs, other]}, RESULTS)
    assert f"--forcerun {RESULTS}/models/sam/seed0/tune -- paper" in line
    (line,) = verify.job_faults(study | {"jobs": [other]}, RESULTS)
    assert "--forcerun train_tune -- paper" in line
