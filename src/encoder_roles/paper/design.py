"""What the text says of a study's design: sources, data, recipe and statistics. Nothing here is a result.

A study of other checkpoints, records or benchmarks than the laptop's has other sentences: a number may be
right in a text that is false.
"""

from __future__ import annotations

import pandas as pd

from encoder_roles.paper.inputs import PaperInputs
from encoder_roles.paper.names import benchmark_name, encoder_name
from encoder_roles.paper.readings import benchmarks_of, groups_of, mask_operators, retrained_scores
from encoder_roles.paper.wording import count_word, counted, fixed, grouped, listed
from encoder_roles.study.names import BENCHMARKS, BLIND, all_subsets
from encoder_roles.study.stages import PaperStage

SMALL_SOURCES = "small encoders and a small language model of this project"
MADE_HERE = (
    "The encoders have the architectures of their namesakes at a tiny size; each was pretrained with the "
    "objective that defines its kind, on pictures of a procedural world: scenes of coloured shapes, "
    "textures, words, handwritten digits and bar charts, drawn from a seed. Captions and questions follow "
    "from the scene, so every label is exact. The language model is a small Qwen2, pretrained on text alone."
)
BENCHMARK_SENTENCES = {
    "world": "Each is generated, in its namesake's form of question, answer and metric; its scores cannot be "
    "compared with scores on that.",
    "hub": "Their questions are the public ones, at the commits of the study's lock.",
}
PROBE_PHRASES = {
    "world": "probe pictures that are in no training or test split",
    "records": "pictures of the study's probe records",
}
SPLIT_SENTENCES = {
    "test": "All choices were made on the development split before the lattice was trained.",
    "development": "The questions are those of the development split, on which recipes are chosen: "
    "these scores are no evidence about the test split.",
}


def design_texts(inputs: PaperInputs) -> dict[str, str]:
    """What was decided before any result: sources, data, sizes, recipe, statistics."""
    settings, tune, design = inputs.settings, inputs.tune.tune, inputs.design
    trained = len(retrained_scores(inputs.lattice).index.drop(BLIND))
    possible = len(all_subsets(inputs.pool))
    all_of = "every one of the" if trained == possible else f"{trained} of the"
    benchmarks = benchmarks_of(inputs.lattice)
    questions = inputs.lattice.loc[inputs.lattice["level"] == "overall", "n"].max()
    groups = groups_of(inputs.lattice)
    means = {"benchmarks": "the plain mean of the benchmarks", "groups": "the mean of the group means"}
    return {
        "StudyName": settings.study.replace("_", " "),
        "EncoderCount": count_word(len(inputs.pool)),
        "EncoderList": listed([encoder_name(encoder) for encoder in inputs.pool]),
        "SubsetPhrase": f"{all_of} {possible} subsets",
        "BenchmarkCount": count_word(len(benchmarks)),
        "GroupCount": count_word(len(groups)),
        "GroupList": listed(groups),
        "QuestionCount": grouped(questions),
        "OperatorList": listed([_operator(operator) for operator in mask_operators(inputs.lattice)]),
        "CalibrationPictures": grouped(inputs.masks.calibration_pictures),
        "GridSide": f"{inputs.align.connector.grid}",
        "AlignSteps": grouped(inputs.align.align.steps),
        "AlignBatch": grouped(inputs.align.align.batch_pictures),
        "TuneEpochs": counted(tune.epochs, "epoch"),
        "TuneBatch": grouped(tune.batch_pictures),
        "RankPictures": grouped(inputs.rank.pictures),
        "RatioSurvives": fixed(1 - settings.tau, 2),
        "RatioExpands": fixed(1 + settings.tau, 2),
        "OverallDefinition": means[settings.statistics.overall],
        "Level": f"{100 * settings.statistics.level:g}%",
        "Resamples": grouped(settings.statistics.resamples),
        "Margin": f"{settings.statistics.margin:g}",
        "SeedCount": counted(inputs.seeds, "seed"),
        "StudyPhrase": _study_phrase(design),
        "SourceSentence": _source_sentence(design),
        "GateSentence": _gate_sentence(inputs.gates),
        "BenchmarkPhrase": _benchmark_phrase(design, len(benchmarks)),
        "BenchmarkSentence": BENCHMARK_SENTENCES[design.benchmarks],
        "TrainingPhrase": _training_phrase(design),
        "RecordSentence": _record_sentence(inputs.records),
        "ProbePhrase": PROBE_PHRASES[design.training],
        "SplitSentence": _split_sentence(design, settings.split),
        "ScopeSentence": _scope_sentence(design),
    }


def _study_phrase(design: PaperStage) -> str:
    """What kind of study it is, for the abstract."""
    if design.made_here and design.of_world:
        return (
            "small encoders, a small language model and a procedural world of questions in the format of "
            "real benchmarks, the same pipeline as at full scale from one command"
        )
    sources = SMALL_SOURCES if design.made_here else "checkpoints from elsewhere"
    data = {"world": "pictures of a procedural world", "records": "conversations about pictures"}
    benchmarks = {"world": "small benchmarks of a procedural world", "hub": "public benchmarks"}
    return f"{sources}, trained on {data[design.training]} and evaluated on {benchmarks[design.benchmarks]}"


def _source_sentence(design: PaperStage) -> str:
    """Where the pretrained encoders and the language model come from."""
    if design.made_here:
        return MADE_HERE
    named = [f"{encoder_name(name)} from {source}" for name, source in design.encoders.items()]
    pinned = " Repositories are read at the commits of the study's lock." if design.on_hub else ""
    return (
        f"The pretrained weights are {listed(named)}; the language model is {design.language_model}.{pinned}"
    )


def _benchmark_phrase(design: PaperStage, count: int) -> str:
    """How the benchmarks stand to the sixteen of Cambrian-1, whose citation follows."""
    if design.benchmarks == "world":
        return "are small counterparts of those of"
    return "are those of" if count == len(BENCHMARKS) else "are among those of"


def _training_phrase(design: PaperStage) -> str:
    """What align and tune learn from."""
    if design.training == "world":
        return f"{grouped(design.world_pictures)} pictures of the procedural world"
    return "conversations in LLaVA's format"


def _split_sentence(design: PaperStage, split: str) -> str:
    """Which splits there are, and on which one the choices were made; nothing is known of public data."""
    if not design.of_world:
        return ""
    return f"Training, development, test and probe scenes are disjoint. {SPLIT_SENTENCES[split]}"


def _scope_sentence(design: PaperStage) -> str:
    """What the study's sources and data limit."""
    if not (design.made_here and design.of_world):
        return (
            "One recipe, one language model and one body of training data were used; with others the "
            "encoders may have other roles."
        )
    return (
        "The encoders, the language model and the benchmarks of this study are small and made for it; the "
        "names of encoders and benchmarks say what was imitated, not what was measured. Complementarity was "
        "partly designed: each encoder was pretrained for one skill."
    )


def _operator(operator: str) -> str:
    """What an operator puts in place of an encoder's features, in words."""
    return {
        "zero": "zero (a tensor of zeros)",
        "mean": "mean (the mean of each channel over calibration pictures)",
        "shuffle": "shuffle (the features of another picture)",
        "noise": "noise (Gaussian noise of the same mean and spread)",
        "drop": "drop (nothing: the connector works without the encoder)",
    }[operator]


def _gate_sentence(gates: pd.DataFrame) -> str:
    """How many gates the sources passed, and which they missed."""
    gates = gates[gates["threshold"].notna()]
    if gates.empty:
        return "No source has a gate."
    missed = gates[gates["passed"].astype(str).str.lower() != "true"]
    if missed.empty:
        return f"All {len(gates)} gates were passed."
    named = [f"{_source(row['source'])}: {benchmark_name(row['gate'])}" for _, row in missed.iterrows()]
    return f"{len(gates) - len(missed)} of {len(gates)} gates were passed; missed: {listed(named)}."


def _record_sentence(records: pd.DataFrame) -> str:
    """How many of the user's own records were left out of each stage, and why; empty if there are none."""
    texts = []
    for name, rows in records.groupby("data", sort=False):
        counts = dict(zip(rows["reason"], rows["records"].astype(int), strict=True))
        total = sum(counts.values())
        kept = counts.pop("kept")
        if not counts:
            texts.append(f"All {grouped(total)} records of {name} were used.")
            continue
        reasons = listed([f"{grouped(count)} {reason}" for reason, count in counts.items()])
        texts.append(
            f"Of the {grouped(total)} records of {name}, {grouped(total - kept)} were left out ({reasons})."
        )
    return " ".join(texts)


def _source(source: str) -> str:
    return "language model" if source == "language_model" else encoder_name(source)
