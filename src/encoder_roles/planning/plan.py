"""`encoder-roles plan-study`: jobs, FLOPs, device hours, memory and disk of a study before it is run.

It fetches nothing and allocates no weights: sizes come from the architectures (`planning.sizes`), counts from
the config. The config's `plan` section states the rest: the device, the share of its peak, and
the length of texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from encoder_roles.planning.costs import GIGA, MASTER, Model, Planner, Row, frame_jobs
from encoder_roles.planning.progress import show_progress
from encoder_roles.planning.sizes import KnownSizes
from encoder_roles.provenance import write_table
from encoder_roles.study.config import Study
from encoder_roles.study.names import BLIND, KEPT_CHECKPOINTS
from encoder_roles.study.stages import read_settings
from encoder_roles.study.variants import Made, owner

OF_A_VARIANT = {  # a study's rules, and a variant's rules for the same files
    "extract_features": "extract_variant_features",
    "train_align": "align_variant",
    "train_tune": "tune_variant",
    "predict_subset": "predict_variant",
}

TUNE_RULES = ("train_tune", "tune_variant")
ALIGN_RULES = ("train_align", "align_variant")
Rows = Sequence[Mapping[Any, Any]]


@dataclass(frozen=True)
class Needs:
    """What the plan of a study needs.

    Attributes:
        hours: hours of a device, over all jobs.
        kept_gb: the results on disk at the end.
        checkpoint_gb: one restart checkpoint of the largest model.
        trainings: jobs that tune a model.
        host_gb: training job of the config -> the most memory of a node's host.
    """

    hours: float
    kept_gb: float
    checkpoint_gb: float
    trainings: int
    host_gb: Mapping[str, float] = field(default_factory=dict)

    @property
    def running_gb(self) -> float:
        """The most checkpoints of one training that are on disk at once."""
        return (KEPT_CHECKPOINTS + 1) * self.checkpoint_gb  # the oldest goes when the newest is whole


def needs_of(rules: Rows, models: Rows) -> Needs:
    """What the rows of plan.csv and plan_models.csv need."""
    return Needs(
        hours=sum(float(row["device_hours"]) for row in rules),
        kept_gb=sum(float(row["disk_gb"]) for row in rules),
        checkpoint_gb=MASTER * max((int(row["trained"]) for row in models), default=0) / GIGA,
        trainings=sum(int(row["jobs"]) for row in rules if row["rule"] in TUNE_RULES),
        host_gb={
            job: max((float(row.get("host_gb", 0)) for row in rules if row["rule"] in names), default=0.0)
            for job, names in {"train_align": ALIGN_RULES, "train_tune": TUNE_RULES}.items()
        },
    )


def plan_study(*, settings: Path, output: Path, models: Path) -> None:
    """Write and print the cost of a study per rule and per model.

    Args:
        settings: settings/study.json.
        output: plan.csv.
        models: plan_models.csv.

    Raises:
        StudyError: neither the config nor a folder has the architecture of a network.
    """
    study = read_settings(settings, Study)
    rows, costs = plan_rows(study)
    for path, table in ((output, rows), (models, costs)):
        write_table(path, pd.DataFrame(table), "%.6g")
    print(describe_plan(study, pd.DataFrame(rows), pd.DataFrame(costs)))


def plan_rows(study: Study) -> tuple[list[Row], list[Row]]:
    """The rows of plan.csv and of plan_models.csv; a variant has rows for its own jobs only."""
    rules, models = list[Row](), list[Row]()
    known: KnownSizes = {}
    for variant, varied in (study.variants or {"": study}).items():
        planner = Planner(varied, known)
        made = made_models(study, variant, planner)
        rules += [{"variant": variant, **row} for row in rule_rows(study, variant, planner, made)]
        models += [{"variant": variant, **asdict(model)} for model in made.values()]
    if study.pictures == "stored":
        jobs, gigabytes = frame_jobs(study)
        nothing: Row = {"devices": 1, "flops": 0, "device_hours": 0.0, "memory_gb": 0.0, "host_gb": 0.0}
        row: Row = {"rule": "frame_pictures", "jobs": jobs, **nothing, "disk_gb": gigabytes}
        rules.insert(0, {"variant": study.baseline, **row})
    return rules, models


def makes(study: Study, variant: str, made: Made, of: str) -> bool:
    """Whether a variant makes a file itself; always true for a study without variants."""
    return not study.variants or owner(study, variant, made, of) == variant


def made_models(study: Study, variant: str, planner: Planner) -> dict[str, Model]:
    """The costs, by subset, of the models that a variant tunes or answers with itself."""
    subsets = [s for s in (*study.trained_subsets, BLIND) if makes(study, variant, "answers", s)]
    shown = show_progress(subsets, f"models {variant}".rstrip(), "subset")
    return {subset: planner.model(subset) for subset in shown}


def rule_rows(study: Study, variant: str, planner: Planner, models: dict[str, Model]) -> list[Row]:
    """The rows of a variant's rules, or of all rules of a study without variants."""
    encoders = [name for name in study.pool if makes(study, variant, "features", name)]
    costs = list(models.values())
    aligned = [
        model for model in costs if model.subset != BLIND and makes(study, variant, "align", model.subset)
    ]
    rows = [
        *([planner.feature_row(encoders)] if encoders and planner.features_stored else []),
        *([planner.align_row(aligned)] if aligned else []),
        *([planner.tune_row(costs), planner.answer_row(costs)] if costs else []),
        *(() if study.variants else planner.paper_rows(costs)),
    ]
    if variant == study.baseline:
        return rows
    return [row | {"rule": OF_A_VARIANT[str(row["rule"])]} for row in rows]


def describe_plan(study: Study, rules: pd.DataFrame, models: pd.DataFrame) -> str:
    """The plan as text for the terminal."""
    plan, engine = study.plan, study.training.engine
    shown = rules.assign(
        flops=rules["flops"].map("{:.2e}".format),
        device_hours=rules["device_hours"].map("{:,.2f}".format),
        memory_gb=rules["memory_gb"].map(lambda gb: f"{gb:,.1f}" if gb else ""),
        host_gb=rules["host_gb"].map(lambda gb: f"{gb:,.1f}" if gb else ""),
        disk_gb=rules["disk_gb"].map(lambda gb: f"{gb:,.1f}" if gb else ""),
    )
    largest = models.sort_values("parameters").to_dict("records")[-1]
    name = f"{largest['variant']} {largest['subset']}".strip()
    states = f"ZeRO-{engine.zero_stage}" if engine.kind == "deepspeed" else "one process"
    need, have = rules["memory_gb"].max(), plan.memory_gb
    lines = [
        f"study {study.study}: {len(models)} models, {len(study.seeds)} seed(s); largest {name}, "
        f"{largest['parameters'] / 1e6:,.2f} million parameters",
        "",
        shown.drop(columns=[] if study.variants else "variant").to_string(index=False),
        "",
        f"in all {rules['jobs'].sum():,} jobs, {rules['flops'].sum():.2e} FLOPs, "
        f"{rules['device_hours'].sum():,.1f} hours of {plan.device}, {rules['disk_gb'].sum():,.1f} GB kept",
        f"at {plan.peak_teraflops:g} TFLOP/s, of which training reaches {plan.utilisation.training:.0%} and "
        f"prediction {plan.utilisation.prediction:.0%}; {plan.text_tokens} text tokens a sample",
        f"memory: {need:,.1f} GB on each of {engine.processes} device(s) ({states}); "
        f"{plan.device} has {have:g}"
        + (
            ""
            if need <= have
            else ": TOO LITTLE, take more processes, a smaller micro_batch, ZeRO-3 or offload"
        ),
    ]
    needs = needs_of(rules.to_dict("records"), models.to_dict("records"))
    lines.append(
        f"restart checkpoints: up to {needs.checkpoint_gb:,.1f} GB each; {needs.running_gb:,.1f} GB for each "
        f"training that runs at once ({KEPT_CHECKPOINTS} kept, one being written), "
        f"{needs.trainings * needs.running_gb:,.1f} GB if all {needs.trainings} do, removed at its end"
    )
    lines.append(
        f"host memory: up to {max(needs.host_gb.values()):,.1f} GB on each node of a training, while its "
        "processes read the weights or a checkpoint is written"
    )
    if study.pictures == "read":
        lines.append(
            f"pictures are decoded by every job; framed once (`pictures: stored`) they would take up to "
            f"{frame_jobs(study)[1]:,.1f} GB"
        )
    if study.variants:
        lines.append(
            "this compares the variants; masks and ranks of the baseline, for `-- paper`, are not counted"
        )
    return "\n".join(lines)
