"""Variants of a study: the same models with another connector, other layers or another recipe.

An output that several variants share is made once; `owner` names the variant that makes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, PositiveInt

from encoder_roles.study.config import Study
from encoder_roles.study.names import BLIND, parse_subset
from encoder_roles.study.sections import ConnectorKind, Settings, StatisticsSettings
from encoder_roles.study.stages import TuneStage, stage_table

MEAN = "mean"  # replaces the subset in variants.csv: the mean over the trained subsets, without blind

Made = Literal["encoder", "features", "align", "tune", "answers"]
Reads = dict[str, Any]


class VariantRow(Settings):
    """One variant, as the comparison reads it.

    Attributes:
        name: the variant's name.
        connector: the kind of its connector.
        levels: the largest number of layers that it reads from one encoder.
        train_encoders: whether tune trains the encoders.
        shared: the subsets whose model is the baseline's model.
    """

    name: str
    connector: ConnectorKind
    levels: PositiveInt
    train_encoders: bool
    shared: tuple[str, ...]


class VariantStage(Settings):
    """The settings of `compare-variants` (settings/variants.json)."""

    study: str
    pool: tuple[str, ...]
    baseline: str
    variants: tuple[VariantRow, ...] = Field(min_length=1)
    statistics: StatisticsSettings


def owner(study: Study, variant: str, made: Made, of: str) -> str:
    """The variant that makes an output for `variant`: the baseline, or the first with the same settings.

    Args:
        study: the study.
        variant: the variant that needs the output.
        made: the kind of output: a staged encoder, its features, or the align, tune or answers of a subset.
        of: the name of the encoder or subset.
    """
    needed = _READS[made](study.variants[variant], of)
    others = (study.baseline, *study.variants)
    return next(name for name in others if _READS[made](study.variants[name], of) == needed)


def variant_stage(study: Study) -> VariantStage:
    """The settings of `compare-variants` for a study with variants."""
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
    if subset == BLIND:  # it has no connector and no encoders
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
