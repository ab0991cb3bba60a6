# What all rules share: the validated study, and the names of its files and wildcards.

import re
import sys
from pathlib import Path

from encoder_roles.paper.catalogue import FIGURES, FILES, TABLES, VALUES
from encoder_roles.study import (
    BENCHMARKS,
    BLIND,
    NO_MASK,
    NONE_KEPT,
    StudyError,
    parse_subset,
    stage_table,
    validate_study,
)
from encoder_roles.world.scenes import SPLITS

try:
    STUDY = validate_study(config, ", ".join(str(file) for file in reversed(workflow.configfiles)))
except StudyError as error:
    sys.exit(f"error: {error}")

RESULTS = f"results/{STUDY.study}"
MODEL = f"{RESULTS}/models/{{subset}}/seed{{seed}}"
PRETRAINED = (
    f"{RESULTS}/pretrained"  # written if `sources: train`; `make sources` copies it to sources/laptop
)
FETCHED = f"{RESULTS}/fetched"  # what a hub has, at the commits of the lock
LOCK = f"studies/{STUDY.study}.lock.yaml"
LOCKED = (
    [LOCK] if Path(LOCK).is_file() else []
)  # a dry run needs none; fetching without one is an error that says so
SOURCES = [*(f"encoders/{encoder}" for encoder in STUDY.pool), "language_model"]
MADE = {  # source -> the folder that a rule makes of it; the others are folders that are there
    **{source: f"{FETCHED}/{source}" for source in STUDY.hub_sources},
    **({source: f"{PRETRAINED}/{source}" for source in SOURCES} if STUDY.sources == "train" else {}),
}
STAGES = stage_table(STUDY)  # the settings that each stage of the DAG reads
SUBSETS = (*STUDY.trained_subsets, BLIND)  # every model that is tuned and evaluated
FEATURES_STORED = STUDY.training.align.features == "stored"  # else align runs the encoders on the pictures


def one_of(values):
    """The regular expression of a wildcard that can only be one of these values."""
    return "|".join(re.escape(str(value)) for value in values)


def source_folder(source):
    """The folder that a pretrained source, `encoders/<name>` or `language_model`, is staged from."""
    if made := MADE.get(source):
        return made
    name = source.removeprefix("encoders/")
    return STUDY.language_model.source if source == name else STUDY.encoders[name].source


def source_files(source):
    """What staging a source depends on: each of its pinned files, or the folder that the DAG makes or fetches."""
    folder = source_folder(source)
    if source in MADE:
        return [folder]
    files = sorted(str(file) for file in Path(folder).rglob("*") if file.is_file())
    return [file for file in files if not file.endswith(("README.md", "gates.csv"))]


def gates_of(source):
    """What checking a source's gates depends on: the pinned table, or the folder that the DAG makes with it."""
    folder = source_folder(source)
    return folder if STUDY.sources == "train" else f"{folder}/gates.csv"


def encoders_of(subset):
    """The staged folders of a subset's encoders, in pool order."""
    return [f"{RESULTS}/encoders/{encoder}" for encoder in parse_subset(subset, STUDY.pool)]


def stored_features(subset):
    """The files of the subset's features that align reads; none if it computes them."""
    encoders = parse_subset(subset, STUDY.pool) if FEATURES_STORED else ()
    return [f"{RESULTS}/features/{encoder}/train.safetensors" for encoder in encoders]


def unmasked_answers(subset, seed):
    """The folder of the answers of a model as trained."""
    kept = NONE_KEPT if subset == BLIND else subset
    return f"{RESULTS}/predictions/{subset}/seed{seed}/{kept}.{NO_MASK}"


def named(inputs):
    """The named inputs of a figure, a table or the values: the catalogue's names to files of this study."""
    return {name: f"{RESULTS}/{FILES[name]}" for name in inputs}


for source in SOURCES:
    if source not in MADE and not source_files(source):
        sys.exit(f"error: {source}: no files in {source_folder(source)}: `make sources`, or set its source")
