"""The settings that each stage of the DAG reads, one file results/<study>/settings/<stage>.json per stage.

An edit of the config therefore reruns only the stages that read the edited section.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError

from encoder_roles.provenance import key_of
from encoder_roles.study.config import Study
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import (
    AdvisorSettings,
    AlignSettings,
    Checkpoint,
    ConnectorSettings,
    ConvergenceGate,
    EngineSettings,
    EvaluatedSplit,
    Fraction,
    HubSource,
    MaskedCheckpoint,
    OnFault,
    Positive,
    Precision,
    Rate,
    RecordFile,
    Settings,
    StatisticsSettings,
    TuneSettings,
)


class TrainingStage(Settings):
    """What both align and tune read; `group_by_picture`: all records of a picture form one sample."""

    connector: ConnectorSettings
    group_by_picture: bool = True
    threads: Positive
    checkpoint_every: Positive | None = None
    checkpoint_minutes: float | None = None
    max_tokens: Positive | None = None
    engine: EngineSettings = EngineSettings()


MADE_HERE = "sources/laptop/"  # the sources that this project pretrained


class AlignStage(TrainingStage):
    align: AlignSettings


class TuneStage(TrainingStage):
    tune: TuneSettings


class PredictStage(Settings):
    batch_tokens: Positive
    threads: Positive
    precision: Precision = "fp32"


class MaskStage(PredictStage):
    calibration_pictures: Positive


class CheckpointStage(Settings):
    checkpoint: MaskedCheckpoint
    threads: Positive


class FeatureStage(Settings):
    grid: Positive
    threads: Positive


class EffectiveRankStage(Settings):
    study: str
    grid: Positive
    pictures: Positive
    resamples: Positive
    level: Rate
    seed: int
    threads: Positive


class LanguageModelStage(Settings):
    chat_template: str | None


class LockStage(Settings):
    study: str
    sources: dict[str, HubSource]
    benchmarks: tuple[str, ...]
    records: dict[str, RecordFile] = Field(default_factory=dict)


class TextLimit(Settings):
    """How long a conversation may be in one training: its visual tokens per picture, and where it is cut."""

    visual_tokens: int
    max_tokens: Positive | None


class RecordStage(LockStage):
    """`limits`: of the trainings that read the records, each once."""

    on_fault: OnFault = "stop"
    limits: tuple[TextLimit, ...] = ()


class GateStage(Settings):
    gates: Literal["stop", "report"]


class RequestStage(Settings):
    benchmarks: tuple[str, ...]
    split: EvaluatedSplit = "test"


class ScoreStage(Settings):
    study: str
    overlays: tuple[str, ...]
    statistics: StatisticsSettings


class RoleStage(Settings):
    study: str
    pool: tuple[str, ...]
    statistics: StatisticsSettings
    tau: Fraction
    split: EvaluatedSplit = "test"
    recipe: str = ""  # hash of what the noise between training seeds depends on; empty if not known


class ConvergenceStage(Settings):
    """`further_epochs`: variant -> epochs of tune beyond the study's, for variants with no other change."""

    study: str
    pool: tuple[str, ...]
    level: Rate
    gate: ConvergenceGate
    further_epochs: dict[str, int] = Field(default_factory=dict)


class PaperStage(Settings):
    """What the text says of sources and data.

    Attributes:
        encoders: where each encoder comes from: its repository, or the name of its folder.
        language_model: where the language model comes from.
        made_here: whether this project pretrained all of them.
        on_hub: whether any is a repository.
        training, benchmarks: the procedural world, or the user's records and the public data sets.
        world_pictures: how many pictures of the world there are to train on.
    """

    encoders: dict[str, str]
    language_model: str
    made_here: bool
    on_hub: bool
    training: Literal["world", "records"]
    benchmarks: Literal["world", "hub"]
    world_pictures: Positive

    @property
    def of_world(self) -> bool:
        """Whether training and benchmarks are of the procedural world."""
        return (self.training, self.benchmarks) == ("world", "world")


class AdvisorStage(Settings):
    pool: tuple[str, ...]
    level: Rate
    seed: int
    advisor: AdvisorSettings


class ExternalScoresStage(Settings):
    study: str
    pool: tuple[str, ...]
    leave_out: tuple[Positive, ...]
    scales: dict[str, float] = Field(default_factory=dict)
    statistics: StatisticsSettings
    tau: Fraction


def stage_table(study: Study) -> dict[str, Settings]:
    """Stage -> the settings that it reads; each encoder of the pool has a stage `encoder_<name>`."""
    return {
        **_given_scores(study),
        "study": study,
        **_data_stages(study),
        **_model_stages(study),
        **_analysis_stages(study),
    }


def _given_scores(study: Study) -> dict[str, Settings]:
    """Of scores or a checkpoint from elsewhere, where the study names some."""
    stages: dict[str, Settings] = {}
    if study.scores is not None:
        stages["external_scores"] = ExternalScoresStage(
            study=study.scores.study,
            pool=study.scores.pool,
            leave_out=study.scores.leave_out,
            scales=study.scores.scales,
            statistics=study.statistics,
            tau=study.effective_rank.tau,
        )
    if study.checkpoint is not None:
        threads = study.training.threads
        stages["checkpoint"] = CheckpointStage(checkpoint=study.checkpoint, threads=threads)
        stages["checkpoint_scores"] = ExternalScoresStage(
            study=study.study,
            pool=study.checkpoint.pool,
            leave_out=(),
            statistics=study.statistics,
            tau=study.effective_rank.tau,
        )
    return stages


def _data_stages(study: Study) -> dict[str, Settings]:
    """Of sources, pictures, records and questions."""
    lock = LockStage(
        study=study.study,
        sources=study.hub_sources,
        benchmarks=study.benchmarks if study.evaluation.data == "hub" else (),
        records=study.user_records,
    )
    data = study.training.data
    return {
        **{f"encoder_{name}": study.encoders[name] for name in study.pool},
        "language_model": LanguageModelStage(chat_template=study.language_model.chat_template),
        "world": study.world,
        "gates": GateStage(gates=study.gates),
        "lock": lock,
        "records": RecordStage(
            **lock.model_dump(),
            on_fault="stop" if data == "world" else data.on_fault,
            limits=text_limits(study),
        ),
        "requests": RequestStage(benchmarks=study.benchmarks, split=study.evaluation.split),
    }


def _model_stages(study: Study) -> dict[str, Settings]:
    """Of what runs models: features, trainings, answers, effective ranks."""
    training, threads = study.training, study.training.threads
    shared = {name: getattr(training, name) for name in TrainingStage.model_fields if name != "connector"}
    predict = PredictStage(
        batch_tokens=study.evaluation.batch_tokens, threads=threads, precision=study.evaluation.precision
    )
    return {
        "features": FeatureStage(grid=study.connector.grid, threads=threads),
        "align": AlignStage(connector=study.connector, align=training.align, **shared),
        "tune": TuneStage(connector=study.connector, tune=training.tune, **shared),
        "predict": predict,
        "masks": MaskStage(**predict.model_dump(), calibration_pictures=study.masks.calibration_pictures),
        "effective_rank": EffectiveRankStage(
            study=study.study,
            grid=study.connector.grid,
            pictures=study.effective_rank.pictures,
            resamples=study.effective_rank.resamples,
            level=study.statistics.level,
            seed=study.statistics.seed,
            threads=threads,
        ),
    }


def _analysis_stages(study: Study) -> dict[str, Settings]:
    """Of what reads answers, ranks and logs."""
    statistics = study.statistics
    return {
        "score": ScoreStage(study=study.study, overlays=study.overlays, statistics=statistics),
        "roles": RoleStage(
            study=study.study,
            pool=study.pool,
            statistics=statistics,
            tau=study.effective_rank.tau,
            split=study.evaluation.split,
            recipe=recipe_of(study),
        ),
        "convergence": ConvergenceStage(
            study=study.study,
            pool=study.pool,
            level=statistics.level,
            gate=study.training.convergence,
            further_epochs=further_epochs(study),
        ),
        "advisor": AdvisorStage(
            pool=study.pool, level=statistics.level, seed=statistics.seed, advisor=study.advisor
        ),
        "paper": _paper_stage(study),
    }


def _paper_stage(study: Study) -> PaperStage:
    encoders = {name: study.encoders[name] for name in study.pool}
    sources = [*encoders.values(), study.language_model]
    return PaperStage(
        encoders={name: _named(source) for name, source in encoders.items()},
        language_model=_named(study.language_model),
        made_here=all(source.source.startswith(MADE_HERE) for source in sources),
        on_hub=any(source.hub for source in sources),
        training="world" if study.training.data == "world" else "records",
        benchmarks=study.evaluation.data,
        world_pictures=study.world.train_pictures,
    )


def _named(source: Checkpoint) -> str:
    """A repository's name, or the last part of a folder's."""
    return source.source if source.hub else Path(source.source).name


def text_limits(study: Study) -> tuple[TextLimit, ...]:
    """The limits of the study's and its variants' conversations; the full pool has most visual tokens."""
    trainings = (study, *study.variants.values())
    limits = {
        (each.connector.visual_tokens(len(each.pool)), each.training.max_tokens): None for each in trainings
    }
    return tuple(TextLimit(visual_tokens=tokens, max_tokens=longest) for tokens, longest in limits)


def recipe_of(study: Study) -> str:
    """Hash of the settings that the noise between training seeds depends on: models, data, training.

    Seeds, statistics and what only speed depends on are not in it.
    """
    parts = {
        "encoders": {name: study.encoders[name].model_dump(mode="json") for name in study.pool},
        "language_model": study.language_model.model_dump(mode="json"),
        "connector": study.connector.model_dump(mode="json"),
        "world": study.world.model_dump(mode="json"),
        "align": study.training.align.model_dump(mode="json"),
        "tune": study.training.tune.model_dump(mode="json"),
        "benchmarks": study.benchmarks,
    }
    return key_of(parts)


def further_epochs(study: Study) -> dict[str, int]:
    """Variant -> epochs of tune beyond the study's, for variants that change nothing else."""
    further = {}
    for name, variant in study.variants.items():
        epochs = variant.training.tune.epochs - study.training.tune.epochs
        tune = variant.training.tune.model_copy(update={"epochs": study.training.tune.epochs})
        same = (
            variant.encoders == study.encoders
            and variant.connector == study.connector
            and variant.training.model_copy(update={"tune": tune}) == study.training
        )
        if same and epochs > 0:
            further[name] = epochs
    return further


Stage = TypeVar("Stage", bound=Settings)


def read_settings(path: Path, kind: type[Stage]) -> Stage:
    """Read results/<study>/settings/<stage>.json as its type. Raises StudyError if that fails."""
    try:
        return kind.model_validate(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"{path}: not valid settings for {kind.__name__}: {reason:.300}") from error
