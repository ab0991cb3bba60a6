# Shared by all rules: the validated study, and the names of its files and wildcards.

import re
import signal
import sys
from pathlib import Path

from encoder_roles.cluster.preflight import check_run, no_files
from encoder_roles.cluster.site import active_site, job_resources, launcher
from encoder_roles.manifest.environment import check_environment
from encoder_roles.paper.catalogue import (
    FIGURES,
    FILES,
    MEASURED_FIGURES,
    TABLES,
    VALUES,
    VARIANT_FIGURES,
    VARIANT_TABLES,
)
from encoder_roles.planning.limits import check_limits
from encoder_roles.study.names import BENCHMARKS, BLIND, NO_MASK, NONE_KEPT, StudyError, parse_subset
from encoder_roles.study.stages import stage_table
from encoder_roles.study.config import load_study
from encoder_roles.study.ownership import refuse_changed_results, refuse_foreign_name, refuse_study_folder
from encoder_roles.study.variants import owner, variant_stage
from encoder_roles.warm_start.start import start_waiting
from encoder_roles.world.scenes import SPLITS

# Slurm warns every process of a job before its time limit; only the training reacts
signal.signal(signal.SIGUSR1, signal.SIG_IGN)

OVERRIDES = list(workflow.overwrite_configfiles)
CONFIGS = [Path(file) for file in workflow.configfiles if file not in OVERRIDES] + OVERRIDES

try:
    # not Snakemake's `config`: its reader takes 1e-3 for text and lets a second section replace the first
    STUDY = load_study(*CONFIGS, changes=workflow.config_settings.config)
    SITE = active_site()  # None, except under `--profile slurm`
    PROCESSES = STUDY.training.engine.processes  # processes of one training
    RESOURCES = {job: job_resources(job, request, SITE, PROCESSES) for job, request in STUDY.jobs.items()}
    refuse_foreign_name(STUDY.study, CONFIGS, workflow.config_settings.config)
    if STUDY.scores:
        refuse_study_folder(Path(f"results/{STUDY.scores.study}"))
except StudyError as error:
    sys.exit(f"error: {error}")

RESULTS = f"results/{STUDY.study}"
MODEL = f"{RESULTS}/models/{{subset}}/seed{{seed}}"
PRETRAINED = (
    f"{RESULTS}/pretrained"  # exists with `sources: train`; `make sources` copies it to sources/laptop
)
FETCHED = f"{RESULTS}/fetched"  # downloads from a hub, at the commits of the lock
LOCK = f"studies/{STUDY.study}.lock.yaml"
LOCKED = [LOCK] if Path(LOCK).is_file() else []  # a dry run needs no lock; fetching without one is an error
SOURCES = [*(f"encoders/{encoder}" for encoder in STUDY.pool), "language_model"]
MADE = {  # source -> the folder that a rule makes; all other sources are folders that exist
    **{source: f"{FETCHED}/{source}" for source in STUDY.hub_sources},
    **({source: f"{PRETRAINED}/{source}" for source in SOURCES} if STUDY.sources == "train" else {}),
}
TRAIN = f"{RESULTS}/data/train/train.jsonl"  # the procedural world's records
PROBE = f"{RESULTS}/data/probe/probe.jsonl"
PICTURES_STORED = STUDY.pictures == "stored"  # else every job decodes the files that it reads
FEATURES_STORED = STUDY.training.align.features == "stored"  # else align computes features from pictures
STAGES = stage_table(STUDY)  # stage of the DAG -> its settings
if STUDY.variants:
    STAGES["variants"] = variant_stage(STUDY)
DRAWN = FIGURES | (VARIANT_FIGURES if STUDY.variants else {})
TABULATED = TABLES | (VARIANT_TABLES if STUDY.variants else {})
SUBSETS = (*STUDY.trained_subsets, BLIND)  # all models to tune and evaluate


def resources_of(job):
    """The resources of a rule: its row of `jobs` in the config and, on a cluster, its partition and account."""
    return RESOURCES[job]


TRAININGS = {"train_align", "train_tune", "align_variant", "tune_variant"}  # rules


def check_start(workflow):
    """Stop before the first job, with one line per fault: an environment that differs from its lock or, under
    `--profile slurm`, anything that would make jobs wait forever or write the same file twice."""
    try:
        changes = workflow.config_settings.config
        refuse_changed_results(Path(RESULTS), STUDY.model_dump(mode="json"), changes)
        trains = bool(TRAININGS & {job.rule.name for job in workflow.dag.needrun_jobs()})
        if trains:  # `plan` and `rehearse` themselves are never refused
            check_limits(STUDY, SITE)
        if SITE is None:
            check_environment()
            if workflow.local_exec:
                start_waiting()
        else:
            check_run(STUDY, SITE, workflow.executor_settings.status_command, trains)
    except StudyError as error:
        sys.exit(f"error: {error}")


def one_of(values):
    """A regular expression that restricts a wildcard to these values."""
    return "|".join(re.escape(str(value)) for value in values)


def source_folder(source):
    """The folder from which `encoders/<name>` or `language_model` is staged."""
    if made := MADE.get(source):
        return made
    name = source.removeprefix("encoders/")
    return STUDY.language_model.source if source == name else STUDY.encoders[name].source


def source_files(source):
    """The inputs of staging a source: its pinned files, or the folder that the DAG makes or fetches."""
    folder = source_folder(source)
    if source in MADE:
        return [folder]
    files = sorted(str(file) for file in Path(folder).rglob("*") if file.is_file())
    return [file for file in files if not file.endswith(("README.md", "gates.csv"))]


def gates_of(source):
    """The input of checking a source's gates: the pinned table, or the folder in which the DAG writes it."""
    folder = source_folder(source)
    return folder if STUDY.sources == "train" else f"{folder}/gates.csv"


def framing_encoders(wildcards):
    """The staged encoders that pictures of one framing are for."""
    folders = [
        f"{RESULTS}/encoders/{name}"
        for name in STUDY.pool
        if STUDY.encoders[name].framing == wildcards.framing
    ]
    for variant, study in STUDY.variants.items():
        names = [name for name in STUDY.pool if study.encoders[name].framing == wildcards.framing]
        folders += [f"{home(variant, 'encoder', name)}/encoders/{name}" for name in names]
    return ancient(sorted(set(folders)))  # their weights don't matter, and a framing has a name of its own


FRAMINGS = {row.framing for study in (STUDY, *STUDY.variants.values()) for row in study.encoders.values()}


def encoders_of(subset):
    """The staged folders of a subset's encoders, in pool order."""
    return [f"{RESULTS}/encoders/{encoder}" for encoder in parse_subset(subset, STUDY.pool)]


def records_of(name):
    """The records for `align` or `tune`, or those of the `probe` pictures for effective rank."""
    if name in STUDY.user_records:
        return f"{RESULTS}/records/{name}/{name}.jsonl"
    return PROBE if name == "probe" else TRAIN


# Nothing is trained before all records have been checked; their content matters to each stage alone
CHECKED_RECORDS = ancient([records_of(name) for name in STUDY.user_records])
RECORD_COUNTS = [f"{RESULTS}/records/{name}/{name}.counts.csv" for name in STUDY.user_records]


def pictures_of(name):
    """The folder of pictures, if a rule makes it; the pictures of user records stay where they are."""
    return [] if name in STUDY.user_records else f"{Path(records_of(name)).parent}/pictures"


def pixels_of(name):
    """What a job reads the pictures of `align`, `tune`, `probe` or the `requests` from: framed ones, those of its
    encoders alone, or the files."""

    def pixels(wildcards):
        if not PICTURES_STORED:
            return f"{RESULTS}/requests/images" if name == "requests" else pictures_of(name)
        shared = name in ("align", "tune") and name not in STUDY.user_records
        rows = STUDY.variants[wildcards.variant].encoders if hasattr(wildcards, "variant") else STUDY.encoders
        names = getattr(wildcards, "encoder", None) or getattr(wildcards, "subset", STUDY.full)
        framings = dict.fromkeys(rows[encoder].framing for encoder in parse_subset(names, STUDY.pool))
        return [f"{RESULTS}/framed/{'train' if shared else name}/{framing}" for framing in framings]

    return pixels


def option(name, values):
    """The words of a command's option, for `:q` to quote one by one; none without values."""
    words = [values] if isinstance(values, str) else list(values)
    return [name, *words] if words else []


def framed(wildcards, input):
    """The option that names a job's framed pictures; none where it reads the files."""
    return option("--pictures", input.pictures if PICTURES_STORED else [])


def features_of(wildcards):
    """The stored features of a subset's encoders, in pool order; empty if align computes them from pixels."""
    encoders = parse_subset(wildcards.subset, STUDY.pool) if FEATURES_STORED else []
    return [f"{RESULTS}/features/{encoder}/train.safetensors" for encoder in encoders]


def unmasked_answers(subset, seed):
    """The folder with the answers of a model without masks."""
    kept = NONE_KEPT if subset == BLIND else subset
    return f"{RESULTS}/predictions/{subset}/seed{seed}/{kept}.{NO_MASK}"


def named(inputs):
    """Catalogue name -> file of this study, for the inputs of a figure, a table or the values."""
    return {name: f"{RESULTS}/{FILES[name]}" for name in inputs}


def check_braces(key, *paths):
    """Stop with one line if Snakemake would read a part of a user's path as a wildcard; it has no escape for it."""
    for path in paths:
        if set("{}") & set(path):
            sys.exit(
                f"error: {key}: {path}: Snakemake reads braces as a wildcard; rename it, or set a link to it"
            )


for name, file in STUDY.user_records.items():
    check_braces(f"training.data.{name}.records", file.records)
if STUDY.scores:
    check_braces("scores", *filter(None, (STUDY.scores.file, STUDY.scores.ranks, STUDY.scores.costs)))
if STUDY.scores and not Path(STUDY.scores.file).is_file():
    sys.exit(f"error: scores: no file {STUDY.scores.file}; correct the path")
for source in SOURCES:
    if source in MADE:
        continue
    check_braces(source, source_folder(source), *source_files(source))
    if not source_files(source):
        sys.exit(f"error: {no_files(source, source_folder(source))}")
