"""`encoder-roles rehearse`: a few steps of a study's largest jobs, in one allocation, before the campaign.

It computes with the study's own commands and settings, in results/<study>/rehearsal, and touches nothing
else. Each command runs in processes of its own, as its job would, so that start-up and peaks are those of
the job.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from encoder_roles.cluster.rehearsed import FOLDER, PASSED, rehearsed_state
from encoder_roles.cluster.site import SITE_FILE, Site, read_site
from encoder_roles.data.llava import distinct_pictures
from encoder_roles.manifest.job import LOCKS_VARIABLE
from encoder_roles.planning.costs import GIGA, count_questions, count_training_samples
from encoder_roles.planning.plan import needs_of, plan_rows
from encoder_roles.provenance import write_json, write_rows, write_table
from encoder_roles.rehearsal.report import (
    COLUMNS,
    PEAK_COLUMNS,
    Line,
    Plan,
    Run,
    lines_of,
    peak_rows,
    plan_again,
    total_lines,
)
from encoder_roles.rehearsal.samples import write_probe, write_rehearsed_requests, write_samples
from encoder_roles.rehearsal.sources import prepare_encoder, prepare_language_model
from encoder_roles.rehearsal.step import Step
from encoder_roles.study.config import Study, load_study
from encoder_roles.study.names import BLIND, NO_MASK, NONE_KEPT, StudyError, parse_subset
from encoder_roles.study.stages import stage_table
from encoder_roles.training.loop import TERMINATED
from encoder_roles.warm_start import WARM_VARIABLE

ALIGN_STEPS = 2
TUNE_STEPS = 3  # two, then the signal to stop; the third after the restart
NO_CHECKPOINT = 10**9  # steps between two checkpoints: only the signal and the end ask for one
DEVICES = (8, 32, 128)  # numbers of devices that the days of a study are printed for
Runner = Callable[[Step, Path, bool], int]


@dataclass
class Processes:
    """Starts the commands of a rehearsal.

    Attributes:
        launcher: the words before a training's command: srun on a cluster; [] where a command starts its own
            processes.
    """

    launcher: list[str] = field(default_factory=list)

    def __call__(self, step: Step, folder: Path, training: bool) -> int:
        """Run a step in processes of its own; stdout and stderr go to `folder`/log. Returns the exit code."""
        job = step.write(folder / "step.json")
        words = [*(self.launcher if training else []), sys.executable, "-m", "encoder_roles.cli"]
        left_out = (
            WARM_VARIABLE,
            LOCKS_VARIABLE,
        )  # a job of its own: no warm parent, and nothing to be hashed
        environment = {key: value for key, value in os.environ.items() if key not in left_out}
        with (folder / "log").open("wb") as log:
            command = [*words, "rehearse-step", "--job", str(job)]
            return subprocess.run(command, stdout=log, stderr=log, env=environment, check=False).returncode


def rehearse(*, configs: tuple[Path, ...], launcher: str = "", site: Path = SITE_FILE) -> None:
    """Rehearse a study: a few steps of its smallest, largest and blind model, measured against its plan.

    Weights are the study's staged ones, or random at the real sizes. Writes rehearsal.csv, peaks.csv and the
    logs to results/<study>/rehearsal, and passed.json if nothing passes 90% of a limit.

    Args:
        configs: config.yaml and the study that overrides it.
        launcher: the words that start a training's processes, such as srun with its options.
        site: the file with the site's settings.

    Raises:
        StudyError: a command failed, or a measured value passes 90% of the device's memory, the job's
            request, the warning or the disk: one line per fault.
    """
    run_rehearsal(load_study(*configs), read_site(site), Processes(shlex.split(launcher)))


def run_rehearsal(study: Study, site: Site, runner: Runner) -> None:
    """As `rehearse`, for a study and a site that are loaded, with any way to run a step."""
    folder = Path("results") / study.study / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    work = folder / "work"
    work.mkdir(parents=True)
    plan = plan_of(study)
    rehearsal = Rehearsal(study, folder, plan, runner)
    faults: list[str] = []
    try:
        for _ in rehearsal.steps():
            pass
    except StudyError as error:
        faults.append(str(error))
    finally:
        shutil.rmtree(work)
    faults += report(rehearsal, site, complete=not faults)
    if faults:
        raise StudyError("\n".join(faults))
    write_json(folder / PASSED, rehearsed_state(study))


def plan_of(study: Study) -> Plan:
    """The plan of a study; of one with variants, the models of the baseline."""
    rules, models = plan_rows(study)
    own = {str(row["subset"]): row for row in models if row["variant"] == study.baseline}
    return Plan(study, rules, own, needs_of(rules, models))


class Rehearsal:
    """The commands of a rehearsal, and what they measured.

    Attributes:
        runs: the commands that have run.
        random: the networks with random weights.
    """

    def __init__(self, study: Study, folder: Path, plan: Plan, runner: Runner) -> None:
        self.study, self.folder, self.plan, self.runner = study, folder, plan, runner
        self.work, self.results = folder / "work", folder.parent
        self.runs: list[Run] = []
        self.random: list[str] = []
        self.samples = {"align": 0, "tune": 0}
        trained = {name: row for name, row in plan.models.items() if name != BLIND}
        smallest = min(trained, key=lambda name: int(trained[name]["parameters"]))
        self.subsets = tuple(dict.fromkeys((smallest, study.full, BLIND)))

    def steps(self) -> Iterator[None]:
        """Run everything, one command after the other."""
        self._write_settings(1)
        self._prepare()
        yield
        for subset in self.subsets:
            if subset != BLIND:
                self._align(subset)
            self._tune(subset)
            self._predict(subset)
            yield
        self._ranks()
        yield
        self._score()

    def _prepare(self) -> None:
        """Networks, samples, probe pictures and questions."""
        study, work, settings = self.study, self.work, self.work / "settings"
        wanted = dict.fromkeys(name for subset in self.subsets for name in parse_subset(subset, study.pool))
        self.encoders = {}
        for name in wanted:
            output = work / "encoders" / name
            staged = prepare_encoder(study, self.results, name, settings / f"encoder_{name}.json", output)
            self.encoders[name] = self._noted(name, *staged)
        output = work / "language_model"
        staged = prepare_language_model(study, self.results, settings / "language_model.json", output)
        self.language_model = self._noted("language_model", *staged)
        self.data = {name: work / "data" / name / f"{name}.jsonl" for name in ("align", "tune")}
        sizes = {
            "align": ALIGN_STEPS * study.training.align.batch_pictures,
            "tune": TUNE_STEPS * study.training.tune.batch_pictures,
        }
        for name, path in self.data.items():
            count = write_samples(study, self.results, name, sizes[name], self.language_model, path)
            self.samples[name] = count
        self.probe = work / "data/probe/probe.jsonl"
        probes = write_probe(study, self.results, self.probe)
        self.requests = work / "requests"
        self.scored = write_rehearsed_requests(
            study, self.results, self.data["tune"], self.language_model, self.requests
        )
        pictures = sum(1 for _ in distinct_pictures(self.data["tune"]))
        self._write_settings(math.ceil(sizes["tune"] / self.samples["tune"]), probes, pictures)

    def _noted(self, name: str, folder: Path, random: bool) -> Path:
        self.random += [name] if random else []
        return folder

    def _write_settings(self, epochs: int, probes: int = 1, calibration: int = 1) -> None:
        """The study's settings, with few steps and pictures."""
        study = self.study
        training = study.training.model_copy(
            update={
                "align": study.training.align.model_copy(update={"steps": ALIGN_STEPS}),
                "tune": study.training.tune.model_copy(update={"epochs": epochs}),
                "checkpoint_every": NO_CHECKPOINT,
                "checkpoint_minutes": None,
            }
        )
        masks = min(calibration, study.masks.calibration_pictures)
        small = study.model_copy(
            update={
                "training": training,
                "masks": study.masks.model_copy(update={"calibration_pictures": masks}),
                "effective_rank": study.effective_rank.model_copy(update={"pictures": probes}),
            }
        )
        for stage, settings in stage_table(small).items():
            path = self.work / "settings" / f"{stage}.json"
            if not (
                stage == "language_model" and path.is_file()
            ):  # random weights have a template of their own
                write_json(path, settings.model_dump(mode="json"))

    def _settings(self, stage: str) -> tuple[str, str]:
        return "--settings", str(self.work / "settings" / f"{stage}.json")

    def _run(
        self, model: str, rule: str, what: str, options: list[str], stop_after: int | None = None
    ) -> tuple[Run, int]:
        """Run a command. Raises StudyError if it fails, and was not to be stopped."""
        folder = self.folder / "logs" / f"{what} {model}".replace(" ", "-")
        folder.mkdir(parents=True)
        step = Step(rule.replace("_", "-"), tuple(options), folder, stop_after)
        print(f"rehearsal: {what} {model}", file=sys.stderr, flush=True)
        spawned = time.time()
        code = self.runner(step, folder, rule.startswith("train_"))
        files = sorted(folder.glob("[0-9]*.json"))
        records = tuple(json.loads(file.read_text(encoding="utf-8")) for file in files)
        run = Run(model, rule, what, records, spawned, time.time() - spawned, {})
        self.runs.append(run)
        if code and stop_after is None:
            log = folder / "log"
            raise StudyError(f"{what} {model}: failed with exit code {code}, see {log}{last_words(log)}")
        return run, code

    def _add(self, run: Run, facts: Mapping[str, float]) -> None:
        """Add facts to a run."""
        self.runs[self.runs.index(run)] = Run(**(vars(run) | {"facts": {**run.facts, **facts}}))

    def _networks(self, subset: str) -> list[str]:
        names = parse_subset(subset, self.study.pool)
        encoders = ["--encoders", *(str(self.encoders[name]) for name in names)] if names else []
        return [*encoders, "--language-model", str(self.language_model)]

    def _model(self, subset: str, stage: str) -> Path:
        return self.work / "models" / subset / "seed0" / stage

    def _training(self, subset: str, stage: str) -> list[str]:
        """The options that align and tune share."""
        return [
            *(*self._settings(stage), "--subset", subset, "--seed", str(self.study.seeds[0])),
            *(*self._networks(subset), "--data", str(self.data[stage])),
            *("--restart", str(self._restart(subset, stage)), "--output", str(self._model(subset, stage))),
        ]

    def _restart(self, subset: str, stage: str) -> Path:
        return self.work / ".restart" / stage / subset

    def _align(self, subset: str) -> None:
        options = self._training(subset, "align")
        if self.study.training.align.features == "stored":
            names = parse_subset(subset, self.study.pool)
            options += ["--features", *(str(self._features(name)) for name in names)]
        run, _ = self._run(subset, "train_align", "align", options)
        self._add(run, training_facts(self._model(subset, "align"), len(run.records)))

    def _features(self, encoder: str) -> Path:
        """The stored features of an encoder, computed when they are first needed."""
        output = self.work / "features" / encoder / "train.safetensors"
        if not output.is_file():
            options = ["--encoder", str(self.encoders[encoder]), "--data", str(self.data["align"])]
            options = [*self._settings("features"), *options, "--output", str(output)]
            self._run(encoder, "extract_features", "features", options)
        return output

    def _tune(self, subset: str) -> None:
        """Tune a subset; the full pool's training is stopped by a signal after two steps, and continued."""
        output, options = self._model(subset, "tune"), self._training(subset, "tune")
        options += [] if subset == BLIND else ["--align", str(self._model(subset, "align"))]
        stopped: Run | None = None
        if subset == self.study.full:
            stopped, code = self._run(subset, "train_tune", "tune", options, stop_after=1)
            checkpoints = sorted(self._restart(subset, "tune").glob("*/step*"))
            if not code or not checkpoints:
                raise StudyError(
                    f"tune {subset}: it got SIGUSR1 after its first step and did not stop with a checkpoint "
                    f"(exit code {code}, {TERMINATED} expected of its processes): see {self.folder / 'logs'}"
                )
            self._add(stopped, {"checkpoint_bytes": bytes_below(checkpoints[-1])})
        what = "tune" if stopped is None else "tune resumed"
        run, _ = self._run(subset, "train_tune", what, options)
        facts = training_facts(output, len(run.records))
        self._add(run, facts)
        if stopped is not None:
            first = next(each for each in self.runs if each.spawned == stopped.spawned)
            self._add(first, {"step_flops": facts["step_flops"]})

    def _predict(self, subset: str) -> None:
        kept = NONE_KEPT if subset == BLIND else subset
        root = self.work / "predictions" / subset / "seed0"
        model = ["--requests", str(self.requests), "--model", str(self._model(subset, "tune"))]
        output = root / f"{kept}.{NO_MASK}"
        options = [*self._settings("predict"), *model, "--subset", subset, "--output", str(output)]
        run, _ = self._run(subset, "predict_subset", "predict", options)
        record = json.loads((output / "prediction.json").read_text(encoding="utf-8"))
        share = record["questions"] / max(1, count_questions(self.study))
        flops = float(self.plan.models[subset]["predict_flops"]) * share
        self._add(run, {"answer_flops": flops, "answer_seconds": max(float(record["seconds"]), 1e-3)})
        if subset != self.study.full:
            return
        mask = self.study.masks_of_full[-1]  # the most encoders
        for operator in self.study.masks.operators:
            options = [*self._settings("masks"), "--operator", operator, *model, "--masks", mask]
            options += ["--data", str(self.data["tune"]), "--output-root", str(root)]
            self._run(subset, "predict_masks", f"masks {operator}", options)

    def _ranks(self) -> None:
        """Effective ranks of the full pool, as pretrained and after tune."""
        study, folder, full = self.study, self.work / "ranks", self.study.full
        names = parse_subset(full, study.pool)
        before = {name: str(folder / f"pretrained_{name}.csv") for name in ("ranks", "curve", "spectra")}
        draws = str(folder / "draws.csv")
        shared = [*self._settings("effective_rank"), "--data", str(self.probe)]
        options = [*shared, "--encoders", *(str(self.encoders[name]) for name in names), "--draws", draws]
        options += ["--output", before["ranks"], "--curve", before["curve"], "--spectra", before["spectra"]]
        self._run(full, "measure_pretrained_ranks", "ranks pretrained", options)
        options = [*shared, "--subset", full, "--seed", "0", "--model", str(self._model(full, "tune"))]
        options += ["--pretrained", before["ranks"], "--draws", draws]
        options += ["--output", str(folder / "ranks.csv"), "--spectra", str(folder / "spectra.csv")]
        self._run(full, "measure_ranks", "ranks", options)

    def _score(self) -> None:
        """Score the answers, if the study has their requests and this environment lmms-eval."""
        if not self.scored or importlib.util.find_spec("lmms_eval") is None:
            return
        options = [
            *self._settings("score"),
            "--requests",
            str(self.requests),
            "--data",
            str(self.results / "data"),
        ]
        options += ["--predictions", str(self.work / "predictions")]
        tables = (self.work / "scores.parquet", self.work / "scores.csv")
        options += ["--output-scores", str(tables[0]), "--output-table", str(tables[1])]
        self._run(self.study.full, "score_predictions", "score", options)


def last_words(log: Path) -> str:
    """The last line of a log, which mostly says why a command failed; nothing without a log."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    return next((f": {line.strip():.200}" for line in reversed(lines) if line.strip()), "")


def training_facts(output: Path, processes: int) -> dict[str, float]:
    """FLOPs of a step over all processes, and the bytes written, of a finished training."""
    record = json.loads((output / "training.json").read_text(encoding="utf-8"))
    flops = float(record["flops"]) / float(record["steps"])
    return {"step_flops": flops, "written_bytes": float(bytes_below(output)), "processes": float(processes)}


def bytes_below(folder: Path) -> int:
    """The bytes of all files of a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def report(rehearsal: Rehearsal, site: Site, complete: bool) -> list[str]:
    """Write rehearsal.csv and peaks.csv, print the table; returns a line per fault.

    Args:
        rehearsal: what has run.
        site: the site's settings.
        complete: whether all commands ran, so that the plan can be made again.
    """
    study, folder, plan = rehearsal.study, rehearsal.folder, rehearsal.plan
    samples = count_training_samples(study)
    lines = [line for run in rehearsal.runs for line in lines_of(run, plan, site, samples)]
    if complete:
        free = shutil.disk_usage(folder).free / GIGA
        again = plan_again(rehearsal.runs, plan, site)
        lines += total_lines(again, plan, free, site)
    rows = [{name: getattr(line, name) for name in COLUMNS} for line in lines]
    write_table(folder / "rehearsal.csv", pd.DataFrame(rows, columns=list(COLUMNS)), "%.6g")
    write_rows(folder / "peaks.csv", PEAK_COLUMNS, peak_rows(rehearsal.runs))
    print(describe(lines))
    if rehearsal.random:
        print(f"random weights: {', '.join(rehearsal.random)}")
    if complete:
        days = ", ".join(f"{again.days(count):,.1f} days on {count}" for count in DEVICES)
        print(
            f"the plan with these numbers: {again.hours:,.1f} hours of a device (planned "
            f"{plan.needs.hours:,.1f}): {days}; {again.kept_gb / 1000:,.2f} TB "
            f"kept, {again.at_once_gb / 1000:,.2f} TB at once"
        )
    return [line.fault for line in lines if not line.passes]


def describe(lines: list[Line]) -> str:
    """The table for the terminal; what passes a limit is marked."""

    def number(value: Any) -> str:
        return "" if value is None else f"{value:,.4g}"

    rows = [
        {
            "model": line.model,
            "what": line.what,
            "quantity": line.quantity,
            "planned": number(line.planned),
            "measured": number(line.measured),
            "unit": line.unit,
            "limit": number(line.limit),
            "": "" if line.passes else "TOO MUCH",
        }
        for line in lines
    ]
    return pd.DataFrame(rows).to_string(index=False)
