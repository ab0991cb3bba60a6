"""What a rehearsal measured, beside what was planned; and the plan again with the measured numbers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from encoder_roles.cluster.site import Site
from encoder_roles.planning.costs import FP32, GIGA, HOUR, MASTER
from encoder_roles.planning.plan import Needs
from encoder_roles.study.config import Study
from encoder_roles.study.names import KEPT_CHECKPOINTS
from encoder_roles.study.sections import JobRequest

SHARE = 0.9  # of a limit; more is a fault
ATTEMPTS = 1 + 2 + 3  # the time of a job's three attempts, in that of its first
TRAINING = {"train_align": "align", "train_tune": "tune"}  # rule -> stage
Record = Mapping[str, Any]  # what a `Recorder` writes


@dataclass(frozen=True)
class Run:
    """One command of a rehearsal, as it ran.

    Attributes:
        model: the subset.
        rule: the rule whose job it stands for.
        what: what is measured, such as `tune` or `masks zero`.
        records: of each process.
        spawned: when it was started, in seconds since 1970.
        seconds: from its start to its end.
        facts: what only this command has: flops, samples, checkpoint_bytes, written_bytes, questions.
    """

    model: str
    rule: str
    what: str
    records: tuple[Record, ...]
    spawned: float
    seconds: float
    facts: Mapping[str, float]

    def phases(self, name: str) -> list[float]:
        """Seconds of the phases of this name in the first process."""
        first = self.records[0]["phases"] if self.records else []
        return [phase["seconds"] for phase in first if phase["phase"] == name]

    @property
    def start_up(self) -> float | None:
        """Seconds from the start of the command to the first step of its training."""
        first = self.records[0]["phases"] if self.records else []
        return next((phase["ended"] - self.spawned for phase in first if phase["phase"] == "start"), None)

    @property
    def host_gb(self) -> float:
        """The most memory of a node: the sum of its processes' peaks."""
        nodes: dict[str, float] = defaultdict(float)
        for record in self.records:
            nodes[record["node"]] += max((phase["host_bytes"] for phase in record["phases"]), default=0)
        return max(nodes.values(), default=0.0) / GIGA

    @property
    def device_gb(self) -> float | None:
        """The most memory of a device; None on the CPU."""
        peaks = [phase["device_bytes"] for record in self.records for phase in record["phases"]]
        return max(peaks, default=0) / GIGA or None

    @property
    def device_total_gb(self) -> float | None:
        """The memory of the smallest device; None on the CPU."""
        return min((record["device_total_bytes"] for record in self.records), default=0) / GIGA or None


@dataclass(frozen=True)
class Line:
    """A row of rehearsal.csv.

    Attributes:
        model, what: as of its `Run`; `all` and `study` for the whole study.
        quantity, unit: what is measured.
        planned: by the plan; None if the plan does not have it.
        measured: in the rehearsal.
        limit, of: the measured value may take SHARE of it, and whose limit it is; None: there is none.
    """

    model: str
    what: str
    quantity: str
    unit: str
    planned: float | None
    measured: float
    limit: float | None = None
    of: str = ""

    @property
    def passes(self) -> bool:
        """Whether the measured value stays within its limit."""
        return self.limit is None or self.measured <= SHARE * self.limit

    @property
    def fault(self) -> str:
        """One line about a limit that is passed."""
        return (
            f"{self.what} {self.model}: {self.quantity} is {self.measured:,.4g} {self.unit}, above "
            f"{SHARE:.0%} of {self.of} ({self.limit:,.4g} {self.unit})"
        )


COLUMNS = ("model", "what", "quantity", "unit", "planned", "measured", "limit", "of")


@dataclass(frozen=True)
class Plan:
    """The rows of plan.csv and plan_models.csv of the study itself, and what they need in all."""

    study: Study
    rules: Sequence[Mapping[str, Any]]
    models: Mapping[str, Mapping[str, Any]]
    needs: Needs

    @property
    def full(self) -> Mapping[str, Any]:
        """The costs of the largest model."""
        return self.models[self.study.full]

    def step_flops(self, model: str, stage: str, samples: int) -> float:
        """FLOPs of one step of a stage, by the plan.

        Args:
            model: the subset.
            stage: align or tune.
            samples: of tune's whole data.
        """
        training = self.study.training
        recipe = training.align if stage == "align" else training.tune
        steps = (
            training.align.steps
            if stage == "align"
            else training.tune.epochs * samples / recipe.batch_pictures
        )
        return float(self.models[model][f"{stage}_flops"]) / steps

    @property
    def peak(self) -> float:
        """FLOPs a second that a device is planned to reach at most."""
        return self.study.plan.peak_teraflops * 1e12


def utilisation(run: Run, plan: Plan) -> float | None:
    """The share of the devices' peak that a run reached: a training in its second step, or answers in all."""
    steps = run.phases("step")
    if run.rule in TRAINING and len(steps) > 1 and "step_flops" in run.facts:
        return run.facts["step_flops"] / (steps[1] * len(run.records) * plan.peak)
    if run.what == "predict" and run.facts.get("answer_flops"):
        return run.facts["answer_flops"] / (run.facts["answer_seconds"] * plan.peak)
    return None


def lines_of(run: Run, plan: Plan, site: Site, samples: int) -> Iterator[Line]:
    """The rows of one command."""
    study = plan.study
    stage = TRAINING.get(run.rule)

    def line(
        quantity: str, unit: str, planned: float | None, measured: float | None, *limit: Any
    ) -> Iterator[Line]:
        if measured is not None:
            yield Line(run.model, run.what, quantity, unit, planned, measured, *limit)

    share = study.plan.utilisation
    if stage:
        steps = run.phases("step")
        flops = plan.step_flops(run.model, stage, samples)
        planned = flops / (plan.peak * share.training * study.training.engine.processes)
        yield from line("step", "s", planned, steps[1] if len(steps) > 1 else None)
        yield from line("utilisation", "", share.training, utilisation(run, plan))
        yield from line("start-up", "s", None, run.start_up)
        yield from checkpoint_lines(run, plan, site)
        yield from line("write", "s", None, next(iter(run.phases("written")), None))
    elif run.what == "predict":
        yield from line("utilisation", "", share.prediction, utilisation(run, plan))
        yield from line("answers", "s", None, run.facts["answer_seconds"])
    memory = planned_memory(run, plan)
    yield from line("device memory", "GB", memory, run.device_gb, run.device_total_gb, "the device")
    host = max((float(row["host_gb"]) for row in plan.rules if row["rule"] == run.rule), default=0.0)
    shown = host if stage and run.model == study.full else None
    request = request_of(study, run.rule)
    yield from line(
        "host memory", "GB", shown, run.host_gb, request.memory_mb / 1000, f"jobs.{run.rule}.memory_mb"
    )


def planned_memory(run: Run, plan: Plan) -> float | None:
    """GB of a device that a command is planned to take; None for what computes with encoders alone."""
    keys = {"train_align": "align_memory", "train_tune": "tune_memory"}
    keys |= {"predict_subset": "predict_memory", "predict_masks": "predict_memory"}
    return float(plan.models[run.model][keys[run.rule]]) / GIGA if run.rule in keys else None


def request_of(study: Study, rule: str) -> JobRequest:
    """What the study requests for a rule's job."""
    return study.jobs[rule]


def checkpoint_lines(run: Run, plan: Plan, site: Site) -> Iterator[Line]:
    """The size and time of a run's checkpoints, and what a run needs between its warning and its end."""
    seconds, size = run.phases("checkpoint"), run.facts.get("checkpoint_bytes", 0) / GIGA
    trained = "trained" if run.rule == "train_tune" else "connector"
    planned = MASTER * float(plan.models[run.model][trained]) / GIGA
    if size:
        yield Line(run.model, run.what, "checkpoint", "GB", planned, size)
    if seconds:
        planned_seconds = planned / site.write_gb_per_second
        yield Line(run.model, run.what, "checkpoint", "s", planned_seconds, max(seconds))
        needed = max(seconds) + max(run.phases("step"), default=0.0)
        limit = site.warning_seconds
        yield Line(run.model, run.what, "warning to end", "s", None, needed, limit, "warning_seconds")


@dataclass(frozen=True)
class Again:
    """The plan with the measured numbers.

    Attributes:
        hours: hours of a device over all jobs.
        kept_gb: results on disk at the end.
        at_once_gb: results and the checkpoints of the trainings that may run at once.
        training_hours: the longest training, from start to end.
    """

    hours: float
    kept_gb: float
    at_once_gb: float
    training_hours: float

    def days(self, devices: int) -> float:
        """Days on so many devices that are always busy."""
        return self.hours / 24 / devices


def plan_again(runs: Sequence[Run], plan: Plan, site: Site) -> Again:
    """The plan's hours and bytes, scaled by what the largest model measured.

    Utilisation is that of the full pool's tune and answers. Each training also takes its start-up, its
    last checkpoint and its last write.
    """
    study, largest = plan.study, plan.study.full
    of = {(run.model, run.what): run for run in runs}
    tune, predict = of[largest, "tune"], of[largest, "predict"]
    planned = study.plan.utilisation
    reached = {
        "training": utilisation(tune, plan) or planned.training,
        "prediction": utilisation(predict, plan) or planned.prediction,
    }
    hours = longest = 0.0
    resumed = of.get((largest, "tune resumed"), tune)
    for row in plan.rules:
        training = str(row["rule"]) in ("train_align", "train_tune", "align_variant", "tune_variant")
        kind = "training" if training else "prediction"
        part = float(row["device_hours"]) * getattr(planned, kind) / reached[kind]
        if training and row["jobs"]:
            wall = part / float(row["jobs"]) / float(row["devices"])
            extra = overhead(tune, resumed) / HOUR
            part += extra * float(row["jobs"]) * float(row["devices"])
            longest = max(longest, wall + extra)
        hours += part
    written = resumed.facts.get("written_bytes", 0.0)
    kept = plan.needs.kept_gb * (written / (FP32 * float(plan.full["parameters"])) if written else 1)
    checkpoint = tune.facts.get("checkpoint_bytes", 0.0) / GIGA
    at_once = min(plan.needs.trainings, site.jobs) * (KEPT_CHECKPOINTS + 1) * checkpoint
    return Again(hours, kept, kept + at_once, longest)


def overhead(tune: Run, resumed: Run) -> float:
    """Seconds of a training in which no step is computed: start, last checkpoint, outputs.

    Earlier checkpoints are written while training goes on.
    """
    checkpoint = max(tune.phases("checkpoint"), default=0.0)
    return float((tune.start_up or 0.0) + checkpoint + max(resumed.phases("written"), default=0.0))


def total_lines(again: Again, plan: Plan, free_gb: float, site: Site) -> list[Line]:
    """The rows of the whole study."""
    study, needs = plan.study, plan.needs
    at_once = needs.kept_gb + min(needs.trainings, site.jobs) * needs.running_gb
    request = request_of(study, "train_tune")
    limit, name = ATTEMPTS * request.minutes / 60, "three attempts of jobs.train_tune.minutes"
    return [
        Line(study.full, "tune", "whole training", "h", None, again.training_hours, limit, name),
        Line("all", "study", "hours of a device", "h", needs.hours, again.hours),
        Line("all", "study", "results kept", "GB", needs.kept_gb, again.kept_gb),
        Line(
            "all", "study", "disk at once", "GB", at_once, again.at_once_gb, free_gb, "the disk's free space"
        ),
    ]


def peak_rows(runs: Sequence[Run]) -> Iterator[dict[str, Any]]:
    """The rows of peaks.csv: each phase of each process."""
    for run in runs:
        for record in run.records:
            for number, phase in enumerate(record["phases"]):
                yield {
                    "model": run.model,
                    "what": run.what,
                    "process": record["process"],
                    "node": record["node"],
                    "number": number,
                    "phase": phase["phase"],
                    "seconds": round(phase["seconds"], 3),
                    "host_gb": phase["host_bytes"] / GIGA,
                    "device_gb": phase["device_bytes"] / GIGA,
                }


PEAK_COLUMNS = (*("model", "what", "process", "node", "number", "phase", "seconds", "host_gb", "device_gb"),)
