"""Variants of a study: its models again with another connector, other layers or another recipe.

What a variant has in common with the study, or with a variant before it, is made once: `owner` says by whom.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, PositiveInt

from encoder_roles.study.config import Study
from encoder_roles.study.names import BLIND, parse_subset
from encoder_roles.study.sections import ConnectorKind, Settings, StatisticsSettings
from encoder_roles.study.stages import TuneStage, stage_table

MEAN = "mean"  # in variants.csv in place of a subset: the mean over the trained subsets, without blind

Made = Literal["encoder", "features", "align", "tune", "answers"]
Reads = dict[str, Any]


class VariantRow(Settings):
    """What the comparison knows of a variant.

    Attributes:
        name: its name.
        connector: its connector's kind.
        levels: the most layers that it reads of an encoder of the pool.
        train_encoders: whether tune trains the encoders.
        shared: the subsets whose model is the baseline's own.
    """

    name: str
    connector: ConnectorKind
    levels: PositiveInt
    train_encoders: bool
    shared: tuple[str, ...]


class VariantStage(Settings):
    """settings/variants.json: what `compare-variants` reads."""

    study: str
    pool: tuple[str, ...]
    baseline: str
    variants: tuple[VariantRow, ...] = Field(min_length=1)
    statistics: StatisticsSettings


def owner(study: Study, variant: str, made: Made, of: str) -> str:
    """Who makes something for a variant: the baseline, or the first variant that reads the same settings.

    Args:
        study: the study.
        variant: who needs it.
        made: what: an encoder as staged, its features; of a subset what align and tune train, its answers.
        of: the encoder's or the subset's name.
    """
    needed = _READS[made](study.variants[variant], of)
    others = (study.baseline, *study.variants)
    return next(name for name in others if _READS[made](study.variants[name], of) == needed)


def variant_stage(study: Study) -> VariantStage:
    """The settings of the comparison."""
    rows = [
        VariantRow(
            name=name,
            connector=variant.connector.kind,
            levels=max(len(variant.encoders[encoder].layers) for encoder in study.pool),
            train_encoders=variant.training.tune.train_encoders,
            shared=tuple(
                subset
                for subset in (BLIND, *study.trained_subsets)
                if owner(study, name, "answers", subset) == study.baseline
            ),
        )
        for name, variant in study.variants.items()
    ]
    return VariantStage(
        study=study.study,
        pool=study.pool,
        baseline=study.baseline,
        variants=tuple(rows),
        statistics=study.statistics,
    )


def _encoder(study: Study, encoder: str) -> Reads:
    return {"encoder": study.encoders[encoder].model_dump()}


def _features(study: Study, encoder: str) -> Reads:
    return _encoder(study, encoder) | _stage(study, "features")


def _align(study: Study, subset: str) -> Reads:
    read = {encoder: _features(study, encoder) for encoder in parse_subset(subset, study.pool)}
    return read | _stage(study, "align")


def _tune(study: Study, subset: str) -> Reads:
    stage = stage_table(study)["tune"]
    assert isinstance(stage, TuneStage)
    if subset == BLIND:  # it has no connector, and no encoder that could be trained or frozen
        return stage.model_dump(exclude={"connector": True, "tune": {"train_encoders"}})
    return _align(study, subset) | {"tune": stage.model_dump()}


def _answers(study: Study, subset: str) -> Reads:
    return _tune(study, subset) | _stage(study, "predict")


def _stage(study: Study, name: str) -> Reads:
    return {f"stage {name}": stage_table(study)[name].model_dump()}


_READS: dict[Made, Callable[[Study, str], Reads]] = {
    "encoder": _encoder,
    "features": _features,
    "align": _align,
    "tune": _tune,
    "answers": _answers,
}
