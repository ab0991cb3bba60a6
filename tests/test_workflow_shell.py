"""A user's text in a shell command is one word, whatever it contains; a path resolves where it is read."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from PIL import Image
from snakemake_call import copy_workflow, snakemake

from encoder_roles.sources.lock import lock_sources
from encoder_roles.sources.records import stage_records

ROOT = Path(__file__).resolve().parent.parent
AWKWARD = "my (old) 'wéights'; touch oops $HOME \"x\" & # *"


@pytest.mark.parametrize("rules", sorted((ROOT / "workflow/rules").glob("*.smk")), ids=lambda path: path.stem)
def test_every_placeholder_of_a_shell_command_is_quoted(rules: Path) -> None:
    commands = re.findall(r'^ +shell:\n((?: +".*"\n)+)', rules.read_text(), re.MULTILINE)
    assert len(commands) == len(re.findall(r"^ +shell:", rules.read_text(), re.MULTILINE)), (
        "another form of shell:"
    )
    unquoted = [
        p for command in commands for p in re.findall(r"\{[^{}]*\}", command) if not p.endswith(":q}")
    ]
    assert unquoted == []


@pytest.mark.parametrize("rules", sorted((ROOT / "workflow/rules").glob("*.smk")), ids=lambda path: path.stem)
def test_no_param_joins_a_path_and_an_option_into_one_text(rules: Path) -> None:
    assert re.findall(r'f"--[a-z-]+ \{.*', rules.read_text()) == []


def test_an_awkward_folder_is_one_word_of_the_commands_that_take_it(tmp_path: Path) -> None:
    workflow = copy_workflow(tmp_path)
    for source in ("encoders/sam", "language_model"):
        shutil.move(workflow / "sources/laptop" / source, workflow / AWKWARD / source)
    study = {
        "study": "own",
        "pool": ["clip", "sam"],
        "encoders": {"sam": {"source": f"{AWKWARD}/encoders/sam"}},
        "language_model": {"source": f"{AWKWARD}/language_model"},
    }
    (workflow / "my study.yaml").write_text(yaml.safe_dump(study, allow_unicode=True))
    done = snakemake(workflow, "-n", "-p", "--configfile", "my study.yaml", "--", "paper", "verify")
    assert done.returncode == 0, done.stdout + done.stderr
    commands = re.findall(r"Shell command: (encoder-roles .*)", done.stdout)
    words = {shlex.split(line)[1]: shlex.split(line) for line in commands}
    assert len(words) > 15
    staged = [shlex.split(line) for line in commands if " stage-encoder " in line]
    assert f"{AWKWARD}/encoders/sam" in {line[line.index("--source") + 1] for line in staged}
    model = words["stage-language-model"]
    assert model[model.index("--source") + 1] == f"{AWKWARD}/language_model"
    gates = words["check-gates"]
    assert gates[gates.index("--gates") + 1 : gates.index("--output")] == [
        "sources/laptop/encoders/clip/gates.csv",
        f"{AWKWARD}/encoders/sam/gates.csv",
        f"{AWKWARD}/language_model/gates.csv",
    ]
    assert str(workflow / "my study.yaml") in words["verify"]
    assert not (workflow / "oops").exists()


def test_the_gates_of_an_awkward_folder_are_checked_for_real(tmp_path: Path) -> None:
    workflow = copy_workflow(tmp_path)
    for name in ("encoders/clip", "language_model"):
        shutil.copytree(ROOT / "sources/laptop" / name, workflow / AWKWARD / name)
    study = {
        "study": "own",
        "pool": ["clip"],
        "encoders": {"clip": {"source": f"{AWKWARD}/encoders/clip"}},
        "language_model": {"source": f"{AWKWARD}/language_model"},
    }
    (workflow / "mine.yaml").write_text(yaml.safe_dump(study, allow_unicode=True))
    made = snakemake(workflow, "--configfile", "mine.yaml", "--", "results/own/gates.csv")
    assert made.returncode == 0, made.stdout + made.stderr
    assert (workflow / "results/own/gates.csv").is_file() and not (workflow / "oops").exists()


BRACES = {  # what snakemake is told -> what its one line names
    "encoders: {clip: {source: 'my {enc}/clip'}}": "error: encoders/clip: my {enc}/clip: ",
    "encoders: {clip: {source: inner}}": "error: encoders/clip: inner/{x}.bin: ",
    "scores: 't{a}.csv'": "error: scores: t{a}.csv: ",
    "training: {data: {align: &r {records: 'd{x}/r.json', pictures: d}, tune: *r, probe: *r}}": (
        "error: training.data.align.records: d{x}/r.json: "
    ),
}


def test_braces_in_a_path_are_one_line_because_snakemake_cannot_escape_them(tmp_path: Path) -> None:
    workflow = copy_workflow(tmp_path)
    for folder, file in (("my {enc}/clip", "m"), ("inner", "{x}.bin"), ("d{x}", "r.json")):
        (workflow / folder).mkdir(parents=True)
        (workflow / folder / file).touch()
    for text, line in BRACES.items():
        (workflow / "own{x}.yaml").write_text(f"study: own\n{text}\n")
        done = snakemake(workflow, "-n", "--configfile", "own{x}.yaml", "--", "paper")
        assert done.returncode and done.stderr.splitlines()[-1].startswith(line), done.stderr
        assert done.stderr.endswith("rename it, or set a link to it\n")
    (workflow / "own{x}.yaml").write_text("study: own\n")  # the name of a config file may have them
    done = snakemake(workflow, "-n", "-p", "--configfile", "own{x}.yaml", "--", "verify")
    assert done.returncode == 0 and f"--configs config.yaml '{workflow}/own{{x}}.yaml'" in done.stdout


def test_a_study_file_must_name_its_study(tmp_path: Path) -> None:
    workflow = copy_workflow(tmp_path)
    (workflow / "mine.yaml").write_text("pool: [clip]\n")
    target = ("--configfile", "mine.yaml", "--", "results/own/settings/study.json")
    done = snakemake(workflow, *target)
    assert done.returncode and "mine.yaml: names no study, so it would write to" in done.stderr
    assert not (workflow / "results").exists()
    done = snakemake(workflow, "--config", "study=own", *target)
    assert done.returncode == 0 and (workflow / "results/own/settings/study.json").is_file()


def test_a_study_is_planned_from_another_folder_if_its_own_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkout").mkdir()
    workflow, elsewhere = copy_workflow(tmp_path / "checkout"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.yaml").write_text("study: own\npool: [clip]\n")
    call = ("-n", "--snakefile", "../checkout/Snakefile", "--configfile", "mine.yaml")
    target = "results/own/settings/study.json"
    for place in ((), ("--directory", ".")):
        done = snakemake(elsewhere, *call, *place, "--", target)
        assert done.returncode == 1
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert f"--directory {workflow}" in line
    done = snakemake(elsewhere, *call[1:], "--directory", str(workflow), "--", target)
    assert done.returncode == 0, done.stderr
    assert (workflow / target).is_file() and not (elsewhere / "results").exists()


@pytest.mark.parametrize("start", [".", "..", "../../elsewhere"])
@pytest.mark.parametrize("link", [None, "results", "results/own", "data", "data/pictures"])
def test_a_staged_picture_is_found_from_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str | None, start: str
) -> None:
    place, scratch = tmp_path / "a/checkout", tmp_path / "scratch/deep/down"
    (place / "data/pictures/x").mkdir(parents=True)
    (place / "results/own").mkdir(parents=True)
    Image.new("RGB", (4, 4), "red").save(place / "data/pictures/x/1.jpg")
    picture = (place / "data/pictures/x/1.jpg").read_bytes()
    (place / "data/probe.json").write_text(json.dumps([{"id": "1", "image": "x/1.jpg"}]))
    if link:
        scratch.mkdir(parents=True)
        shutil.move(place / link, scratch / "moved")
        (place / link).symlink_to(scratch / "moved")
    stage_probe(place, start, monkeypatch)
    staged = place / "results/own/records/probe/probe.jsonl"
    image = json.loads(staged.read_text())["image"]
    assert (staged.parent / image).read_bytes() == picture
    assert (staged.resolve().parent / image).read_bytes() == picture


def stage_probe(checkout: Path, start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lock and stage the probe records of a small checkout, from a folder relative to it."""
    folder = checkout / start
    folder.mkdir(exist_ok=True)
    monkeypatch.chdir(folder)
    way = Path(os.path.relpath(checkout, folder))
    record = {"records": str(way / "data/probe.json"), "pictures": str(way / "data/pictures")}
    settings = {"study": "own", "sources": {}, "benchmarks": [], "records": {"probe": record}}
    (way / "lock.json").write_text(json.dumps(settings))
    lock = way / "own.lock.yaml"
    lock_sources(settings=way / "lock.json", output=lock)
    output = way / "results/own/records/probe"
    stage_records(settings=way / "lock.json", lock=lock, name="probe", output=output)
