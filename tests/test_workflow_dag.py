"""The DAG as Snakemake plans it: which jobs there are, and which an edit brings back."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import yaml
from snakemake_call import POOL, ROOT, copy_workflow, planned, snakemake

from encoder_roles.manifest.repair import snakemake_command

SUFFIXES = {".json", ".jsonl", ".csv", ".parquet", ".safetensors", ".pdf", ".svg", ".png", ".tex"}
PAST = 1_700_000_000  # when everything that is there was made


def make_everything(folder: Path) -> None:
    """Stand-ins for all outputs of the laptop study, made in order, by hand but for the settings."""
    for path in sorted(folder.rglob("*")):
        os.utime(path, (PAST, PAST))
    made = snakemake(folder, "--quiet", "all", "--until", "write_settings", "--", "paper")
    assert made.returncode == 0, made.stderr
    rows = snakemake(folder, "--summary", "--", "paper").stdout.splitlines()[1:]
    for output in sorted(row.split("\t")[0] for row in rows if row.startswith("results/")):
        path = folder / output
        if path.suffix in SUFFIXES:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        else:
            path.mkdir(parents=True, exist_ok=True)
            (path / ".snakemake_timestamp").touch()
    for path in (folder / "results").rglob("*"):
        os.utime(path, (PAST + 10, PAST + 10))


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    """A copy of the workflow in which nothing has been made."""
    return copy_workflow(tmp_path)


@pytest.fixture(scope="module")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, dict[str, str]]]:
    """The jobs of the laptop study."""
    return planned(copy_workflow(tmp_path_factory.mktemp("laptop")))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the workflow in which everything has been made."""
    folder = copy_workflow(tmp_path_factory.mktemp("finished"))
    make_everything(folder)
    return folder


def test_the_laptop_study_trains_every_subset(laptop: list[tuple[str, dict[str, str]]]) -> None:
    jobs = Counter(rule for rule, _ in laptop)
    assert jobs["train_align"] == jobs["measure_ranks"] == 31
    assert jobs["train_tune"] == jobs["predict_subset"] == 32, "31 subsets and the blind model"
    assert jobs["extract_features"] == jobs["stage_encoder"] == 5
    assert jobs["predict_masks"] == 2, "an operator's masks are one job"
    assert jobs["frame_pictures"] == 3 * 2, "pictures trained on, probed, asked about; of two sizes"


def test_pictures_that_are_read_are_not_framed(workflow: Path) -> None:
    (workflow / "read.yaml").write_text("study: read\npictures: read\n")
    jobs = planned(workflow, "--configfile", "read.yaml")
    counted = Counter(rule for rule, _ in jobs)
    assert counted["frame_pictures"] == 0 and counted["train_tune"] == 32


def test_a_small_study_runs_every_rule_of_the_laptop_study(
    workflow: Path, laptop: list[tuple[str, dict[str, str]]]
) -> None:
    jobs = planned(workflow, "--configfile", "studies/ci.yaml")
    assert Counter(rule for rule, _ in jobs)["train_tune"] == 2**3
    assert {rule for rule, _ in jobs} == {rule for rule, _ in laptop}


def test_sources_to_train_are_pretrained_in_the_dag_before_they_are_staged(workflow: Path) -> None:
    shutil.rmtree(workflow / "sources")
    jobs = Counter(rule for rule, _ in planned(workflow, "--config", "sources=train"))
    assert (jobs["pretrain_encoder"], jobs["pretrain_language_model"], jobs["train_tune"]) == (5, 1, 32)


def test_records_and_checkpoints_of_ones_own_need_no_place_in_the_world_and_no_gates(workflow: Path) -> None:
    pictures = {"records": "mine.jsonl", "pictures": "pictures"}
    study = {"study": "mine", "training": {"data": dict.fromkeys(("align", "tune", "probe"), pictures)}}
    (workflow / "mine.yaml").write_text(yaml.safe_dump(study))
    (workflow / "sources/laptop/encoders/sam/gates.csv").unlink()  # as a checkpoint of one's own
    done = snakemake(workflow, "--dry-run", "--configfile", "mine.yaml", "--", "paper")
    assert done.returncode == 0, done.stderr
    jobs = [
        {
            key: text.split(", ")
            for key, text in re.findall(r"^    (input|output): (.*)$", block, re.MULTILINE)
        }
        for block in re.split(r"\n\[", done.stdout)
    ]
    inputs = {output: set(job.get("input", [])) for job in jobs for output in job.get("output", [])}
    world = {output for output in inputs if output.startswith("results/mine/data/")}
    assert any("/data/benchmarks/" in output for output in world), "the benchmarks are the world's"
    staged = {f"results/mine/records/{name}/{name}.jsonl" for name in ("align", "tune", "probe")}
    assert staged <= inputs.keys() and not any("/own/" in output for output in world)
    trained = [output for output in inputs if output.endswith(("/align", "/tune"))]
    assert trained and all(staged <= inputs[output] for output in trained), "checked before any training"
    rendered = {file for file in staged if "results/mine/language_model" in inputs[file]}
    assert staged - rendered == {"results/mine/records/probe/probe.jsonl"}
    gated = {file for file in inputs["results/mine/gates.csv"] if file.endswith("gates.csv")}
    assert len(gated) == len(POOL) and not any("/sam/" in file for file in gated)


def test_a_study_on_a_hub_is_planned_without_its_lock_and_fetches_what_it_names(workflow: Path) -> None:
    study = {
        "study": "public",
        "encoders": {name: {"source": f"owner/{name}", "revision": "main"} for name in POOL},
        "language_model": {"source": "owner/words", "revision": "main"},
        "evaluation": {"data": "hub"},
    }
    (workflow / "studies/public.yaml").write_text(yaml.safe_dump(study))
    shutil.rmtree(workflow / "sources")
    jobs = planned(workflow, "--configfile", "studies/public.yaml")
    fetched = Counter(rule for rule, _ in jobs)
    assert (fetched["fetch_source"], fetched["fetch_benchmark"], fetched["train_tune"]) == (6, 16, 32)
    assert fetched["lock_sources"] == 0, "a lock is written only when asked for"
    named = planned(workflow, "--configfile", "studies/public.yaml", "--", "lock_sources")
    assert {rule for rule, _ in named} == {"lock_sources", "write_settings"}
    rehearsal = ("--configfile", "studies/public.yaml", "--", "rehearse")
    assert {rule for rule, _ in planned(workflow, *rehearsal)} == {"rehearse", "write_settings"}, "no network"
    (workflow / "studies/public.lock.yaml").write_text("sources: {}\n")
    locked = Counter(rule for rule, _ in planned(workflow, *rehearsal))
    assert (locked["fetch_source"], locked["stage_encoder"], locked["train_tune"]) == (6, 5, 0)


def test_missing_sources_are_told_in_one_line(workflow: Path) -> None:
    shutil.rmtree(workflow / "sources/laptop/encoders/sam")
    failed = snakemake(workflow, "--dry-run")
    assert failed.returncode != 0
    assert "encoders/sam: no files in sources/laptop/encoders/sam" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_run_in_an_environment_of_another_lock_stops_before_any_job(workflow: Path) -> None:
    for lock in (workflow / "envs").glob("laptop*.lock"):  # of either build of torch
        lock.write_text(lock.read_text() + "# another\n")
    failed = snakemake(workflow, "--until", "write_settings")
    assert failed.returncode != 0
    line = r"was made from another envs/laptop(\.cuda)?\.lock than this one; remove that folder"
    assert re.search(line, failed.stderr), failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (workflow / "results").exists() or not list((workflow / "results").rglob("*.json"))


@pytest.mark.parametrize(
    ("study", "message"),
    [
        ({"polo": 1}, "polo: unknown key (correct its spelling or remove it)"),
        ({"pool": []}, "pool: has 0 entries, 1 or more are needed"),
        ({"rank": {"tau": 0.2}}, "rank: is now called effective_rank (rename the key)"),
        (
            {"training": {"engine": {"ranks": 2}}},
            "training.engine.ranks: is now called engine.processes (rename the key)",
        ),
    ],
    ids=str,
)
def test_a_faulty_config_ends_in_one_line_and_not_in_a_traceback(
    workflow: Path, study: dict[str, object], message: str
) -> None:
    (workflow / "studies/faulty.yaml").write_text(yaml.safe_dump(study))
    failed = snakemake(workflow, "--dry-run", "--configfile", "studies/faulty.yaml")
    errors = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert failed.returncode != 0
    file = workflow / "studies/faulty.yaml"
    assert len(errors) == 1 and errors[0].startswith(f"error: config.yaml, {file}: {message} ({file}, line ")
    assert "Traceback" not in failed.stderr
    assert not (workflow / "results").exists()


def test_trainings_of_more_gpu_hours_than_agreed_to_do_not_start(tmp_path: Path) -> None:
    """`plan` and `lock_sources` start whatever the study needs: they are how its user finds out."""
    workflow = copy_workflow(tmp_path)
    shutil.rmtree(workflow / "sources")
    (workflow / "sources").symlink_to(ROOT / "sources")  # the plan counts their parameters
    (workflow / "slurm").mkdir(exist_ok=True)
    (workflow / "slurm/site.yaml").write_text("gpu_hours: 0.001\n")
    jobs = "jobs={train_tune: {memory_mb: 3000, minutes: 60, gpus: 1}}"
    started = snakemake(workflow, "--config", jobs, "study=costly", "pool=[clip]", "--", "paper")
    assert started.returncode != 0 and "raise gpu_hours there to start it" in started.stdout + started.stderr
    assert not (workflow / "results/costly/settings").exists(), "no job has run"


def test_a_finished_study_has_nothing_to_do_and_says_so(finished: Path) -> None:
    done = snakemake(finished, "--dry-run")
    assert "Nothing to be done" in done.stdout + done.stderr


def test_every_seed_is_trained_and_every_operator_masks_each_of_them(workflow: Path) -> None:
    study = {
        "study": "large",
        "seeds": [0, 1, 2],
        "masks": {"operators": ["zero", "mean", "shuffle", "noise"]},
    }
    (workflow / "studies/large.yaml").write_text(yaml.safe_dump(study))
    jobs = planned(workflow, "--configfile", "studies/large.yaml")
    counted = Counter(rule for rule, _ in jobs)
    assert (counted["train_tune"], counted["predict_masks"], len(jobs) > 400) == (3 * 32, 3 * 4, True)


def test_a_new_encoder_source_brings_back_the_sixteen_subsets_with_it(finished: Path) -> None:
    weights = finished / "sources/laptop/encoders/sam/model.safetensors"
    os.utime(weights, (PAST + 20, PAST + 20))
    try:
        jobs = planned(finished)
    finally:
        os.utime(weights, (PAST, PAST))
    subsets = {rule: {w["subset"] for r, w in jobs if r == rule} for rule in ("train_tune", "measure_ranks")}
    assert subsets["train_tune"] == subsets["measure_ranks"]
    assert len(subsets["train_tune"]) == 16
    assert all("sam" in subset.split("+") for subset in subsets["train_tune"])
    assert [w["encoder"] for rule, w in jobs if rule == "extract_features"] == ["sam"]
    assert not {"make_world", "write_requests", "frame_pictures"} & {rule for rule, _ in jobs}


def test_an_edit_of_the_tune_recipe_brings_back_tune_and_what_follows(finished: Path) -> None:
    jobs = planned(finished, "--config", "training={tune: {epochs: 2}}")
    rules = {rule for rule, _ in jobs}
    stages = {w["stage"] for rule, w in jobs if rule == "write_settings"}
    assert stages == {"tune", "study", "roles"}, (
        "the roles note the recipe that noise between seeds belongs to"
    )
    assert Counter(rule for rule, _ in jobs)["train_tune"] == 32
    assert {"predict_subset", "predict_masks", "score_predictions", "assign_roles", "build_paper"} <= rules
    assert not {"make_world", "write_requests", "frame_pictures", "train_align", "stage_encoder"} & rules


def test_a_lost_model_is_repaired_by_one_training(finished: Path) -> None:
    tune = "results/laptop/models/clip+sam/seed0/tune"
    kept = finished / "kept"
    (finished / tune).rename(kept)
    command = snakemake_command((Path("config.yaml"),), "2", [tune])
    options = command[command.index("--rerun-incomplete") :]
    try:
        jobs = planned(finished, *(word for word in options if word not in ("--logger", "study")))
    finally:
        kept.rename(finished / tune)
    assert jobs == [("train_tune", {"subset": "clip+sam", "seed": "0"})]


def test_a_touched_figure_script_brings_back_that_figure_and_the_paper(finished: Path) -> None:
    script = finished / "workflow/scripts/draw_subset_bars.py"
    os.utime(script, (PAST + 20, PAST + 20))
    try:
        jobs = planned(finished)
    finally:
        os.utime(script, (PAST, PAST))
    assert sorted(rule for rule, _ in jobs) == ["build_paper", "draw_subset_bars", "paper", "write_manifest"]


def test_the_manifest_lists_what_the_dag_makes_and_verify_finds_what_it_does_not_miss(finished: Path) -> None:
    """Planted in a study of stand-ins that no job made: the lines about their makers are left aside."""
    results = finished / "results/laptop"
    lost, orphan = results / "features/sam/train.safetensors", results / "models/clip+vit/seed0/ranks.csv"
    orphan.parent.mkdir(parents=True)
    orphan.touch()
    made = snakemake(finished, "--quiet", "all", "--forcerun", "write_manifest", "--", "paper")
    assert made.returncode == 0, made.stderr
    manifest = json.loads((results / "manifest.json").read_text())
    assert manifest["missing"] == [] and manifest["orphans"] == ["models/clip+vit/seed0/ranks.csv"]
    assert {job["rule"] for job in manifest["jobs"]} >= {"make_world", "train_tune", "build_paper"}
    ranks = {f"models/{subset}/seed0/ranks.csv" for subset in ("clip", "+".join(POOL))}
    assert ranks <= set(manifest["files"])
    assert {"Snakefile", "workflow/rules/roles.smk"} <= set(manifest["inputs"])
    lost.unlink()
    try:
        done = snakemake(finished, "--dry-run")
        assert "Nothing to be done" in done.stdout + done.stderr, "Snakemake does not miss an intermediate"
        failed = snakemake(finished, "--", "verify")
    finally:
        lost.touch()
        os.utime(lost, (PAST + 10, PAST + 10))
        orphan.unlink()
    output = [line for line in failed.stderr.splitlines() + failed.stdout.splitlines() if "laptop/" in line]
    assert failed.returncode != 0
    assert [line for line in output if str(lost.relative_to(finished)) in line and ": missing; " in line]
    assert [line for line in output if str(orphan.relative_to(finished)) in line and ": orphaned: " in line]
    assert not [line for line in output if "another config" in line or "an input" in line]


def test_every_mask_of_a_checkpoint_from_elsewhere_is_one_job(workflow: Path) -> None:
    encoders = {"clip": "model.towers.0", "sam": "model.towers.1"}
    section = {"model": "llava", "encoders": encoders, "operators": ["zero", "mean"]}
    config = {"study": "masked", "checkpoint": section}
    (workflow / "masked.yaml").write_text(yaml.safe_dump(config))
    jobs = planned(workflow, "--configfile", "masked.yaml", "--", "mask_checkpoint")
    masks = {(w["kept"], w["replacement"]) for rule, w in jobs if rule == "predict_checkpoint"}
    every = {(kept, by) for kept in ("none", "clip", "sam") for by in ("zero", "mean")}
    assert masks == every | {("clip+sam", "unmasked")}
    counted = Counter(rule for rule, _ in jobs)
    assert counted["predict_checkpoint"] == len(masks)
    assert counted["score_checkpoint"] == counted["analyse_checkpoint"] == 1
    assert not {"train_tune", "stage_encoder", "predict_masks"} & set(counted), "nothing is trained"
