"""The study: the config as typed, validated settings; subsets, masks, seeds. Only this reads the config."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

BLIND = "blind"  # the subset without any encoder
NO_MASK = "unmasked"  # the operator of a model that is evaluated as trained
NONE_KEPT = "none"  # the mask that keeps no encoder

ENCODER_TABLE = Path(__file__).with_name("encoders") / "table.yaml"  # the full-scale encoders, a row each

Operator = Literal["zero", "drop", "mean", "shuffle", "noise"]
GROUPS: dict[str, tuple[str, ...]] = {
    "General": ("mme", "mmbench", "seed", "gqa"),
    "Knowledge": ("scienceqa", "mmmu", "mathvista", "ai2d"),
    "OCR & Chart": ("chartqa", "ocrbench", "textvqa", "docvqa"),
    "Vision-Centric": ("mmvp", "realworldqa", "cvbench2d", "cvbench3d"),
}
BENCHMARKS: tuple[str, ...] = tuple(itertools.chain(*GROUPS.values()))

# The benchmarks whose score can be switched back to lmms-eval's own figure (docs/benchmarks.md).
OVERLAYS: tuple[str, ...] = ("mmmu", "mathvista", "ocrbench", "cvbench2d")
REPOSITORY = r"^[\w.-]+/[\w.-]+$"  # a hub's owner/name

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Channels = Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]


class StudyError(ValueError):
    """Bad input from the user: the message is one line that says what is wrong, where, and what to do."""


class Settings(BaseModel):
    """Base of every section: unknown keys are errors, values cannot be changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class HubSource(Settings):
    """Something of a model or data hub: a repository at a revision; of data, one split of one config."""

    kind: Literal["model", "dataset"]
    repository: Annotated[str, Field(pattern=REPOSITORY)]
    revision: str
    config: str = ""
    split: str = ""


class Checkpoint(Settings):
    """Where pretrained weights are: a folder, or with `revision` a repository of a hub."""

    source: str
    revision: str | None = None

    @model_validator(mode="after")
    def _repository(self) -> Self:
        if self.revision is not None and not re.fullmatch(REPOSITORY, self.source):
            raise ValueError(
                f"source: with a revision it must be a hub's repository (owner/name), not {self.source!r}"
            )
        return self

    @property
    def hub(self) -> HubSource | None:
        """The hub's repository that it is taken from; None for a folder."""
        if self.revision is None:
            return None
        return HubSource(kind="model", repository=self.source, revision=self.revision)


class Published(Settings):
    """What an encoder's publication says of its network: what is staged is held against it.

    Attributes:
        parameters: of the whole vision network, before anything is cut off; within 1%.
        width: channels of the row's layer, summed if there are several.
        grid: tokens a side at the row's pixels (of the finest layer). Where a config changes pixels or layer
            of a row of the table, that row's width and grid are no longer held.
    """

    parameters: Positive
    width: Positive | None = None
    grid: Positive | None = None


class EncoderSpec(Checkpoint):
    """One row of the encoder table: where its weights are, and how pixels become what the connector reads.

    Attributes:
        library: whose format the folder is in.
        pixels: the square side that the network is fed with (aspect `keep`: of a square of the same area).
        aspect: how a picture that is not square gets there, see `encoders.framing`.
        normalisation: of pixel values in 0..1: by `mean` and `std` of each channel, or by the picture's own
            (Pix2Struct), which are not given.
        layer: the hidden state that the connector reads, or several (levels), see `encoders.encoder`.
        positions: whether the position table must be made for `pixels` (as_is), or is resampled to them.
        library_config: what the network is, in the library's words: enough to build it without a file.
        published: its published size.
    """

    library: Literal["transformers", "open_clip", "timm"]
    pixels: Positive
    aspect: Literal["squash", "pad", "longest", "crop", "keep"] = "squash"
    normalisation: Literal["channels", "picture"] = "channels"
    mean: Channels | None = None
    std: Channels | None = None
    layer: int | tuple[int, ...] = -1
    positions: Literal["as_is", "resample"] = "as_is"
    library_config: dict[str, Any] | None = None
    published: Published | None = None

    @field_validator("layer", mode="before")
    @classmethod
    def _layers(cls, value: object) -> object:
        layers = list(value) if isinstance(value, (list, tuple)) else [value]
        if not layers or any(not isinstance(layer, int) or isinstance(layer, bool) for layer in layers):
            raise ValueError("must be a whole number or a list of some")
        if len(set(layers)) != len(layers):
            raise ValueError("names a layer twice")
        return tuple(layers) if len(layers) > 1 else layers[0]

    @model_validator(mode="after")
    def _normalised(self) -> Self:
        for key in ("mean", "std"):
            if (getattr(self, key) is None) == (self.normalisation == "channels"):
                need = "missing" if self.normalisation == "channels" else "not read, remove it"
                raise ValueError(f"{key}: {need} (normalisation is {self.normalisation!r})")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std: must be positive, not {list(self.std)}")
        if self.normalisation == "picture" and self.aspect in ("pad", "longest"):
            raise ValueError(f"aspect: {self.aspect!r} would put the padding into the picture's own mean")
        return self

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that are read, one or several."""
        return self.layer if isinstance(self.layer, tuple) else (self.layer,)


class LanguageModelSpec(Checkpoint):
    """The language model.

    Attributes:
        chat_template: Jinja, in place of the tokenizer's own or where it has none.
        library_config: what the network is, in transformers' words with its `model_type`, for `plan`.
    """

    chat_template: str | None = None
    library_config: dict[str, Any] | None = None


# connector kind -> the keys beside kind, layers, grid and width that it reads; all of them must be given
CONNECTORS: dict[str, tuple[str, ...]] = {
    "linear": (),
    "mlp": (),
    "token_concat": (),
    "token_interleave": (),
    "multi_level": (),
    "resampler": ("queries", "depth", "heads"),
    "sva": ("query_grid", "depth", "heads", "groups"),
    "vit": ("depth", "heads"),
}
ConnectorKind = Literal[
    "linear", "mlp", "token_concat", "token_interleave", "multi_level", "resampler", "sva", "vit"
]
_WIDE = ("multi_level", "resampler", "sva", "vit")  # the kinds that read `width`


class ConnectorSettings(Settings):
    """How features become visual tokens; docs/models.md has the kinds with their shapes and papers.

    Attributes:
        kind: see CONNECTORS.
        layers: linear layers of the projector to the language model's width, GELU between them (`linear` has
            one whatever is written).
        grid: every encoder is resampled to grid x grid tokens before the connector.
        width: inner width; the language model's if not given.
        depth: blocks.
        heads: of attention; they divide the width.
        queries: learned queries, which become the visual tokens (resampler).
        query_grid: query_grid x query_grid queries, each with its window of the grid (sva).
        groups: groups of queries, side by side in the channels (sva).
    """

    kind: ConnectorKind = "mlp"
    layers: Positive = 2
    grid: Positive = 4
    width: Positive | None = None
    depth: Positive | None = None
    heads: Positive | None = None
    queries: Positive | None = None
    query_grid: Positive | None = None
    groups: Positive | None = None

    @model_validator(mode="after")
    def _keys_of_the_kind(self) -> Self:
        needed = CONNECTORS[self.kind]
        for key in ("depth", "heads", "queries", "query_grid", "groups"):
            if key in needed and getattr(self, key) is None:
                raise ValueError(f"{key}: missing, the kind {self.kind!r} needs it")
            if key not in needed and getattr(self, key) is not None:
                raise ValueError(f"{key}: the kind {self.kind!r} does not read it; remove it")
        if self.width is not None and self.kind not in _WIDE:
            raise ValueError(f"width: the kind {self.kind!r} does not read it; remove it")
        if self.width is not None and self.heads is not None and self.width % self.heads:
            raise ValueError(f"heads: {self.heads} do not divide the width of {self.width}")
        if self.query_grid is not None and self.grid % self.query_grid:
            raise ValueError(f"query_grid: {self.query_grid} does not divide the grid of {self.grid}")
        return self


class WorldSettings(Settings):
    seed: int = 0
    train_pictures: Positive
    questions_per_picture: Positive
    probe_pictures: Positive
    questions_per_benchmark: Positive


class EngineSettings(Settings):
    """What carries out a training step, and how the work is divided. Only `precision` changes its weights."""

    kind: Literal["torch", "deepspeed"] = "torch"
    ranks: Positive = 1
    zero_stage: Literal[2, 3] = 2
    offload: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    attention: Literal["sdpa", "flash"] = "sdpa"
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _one_process(self) -> Self:
        if self.kind == "torch" and self.ranks > 1:
            raise ValueError(f"ranks: the torch engine is one process, not {self.ranks}; set kind: deepspeed")
        if self.attention == "flash" and self.precision != "bf16":
            raise ValueError(f"attention: flash computes in bf16 only, precision is {self.precision}")
        return self


class AlignSettings(Settings):
    steps: Positive
    batch_pictures: Positive
    micro_batch: Positive | None = None
    length_grouped: bool = False
    features: Literal["stored", "computed"] = "stored"
    questions_per_picture: Positive
    learning_rate: Rate
    warmup_fraction: Fraction
    weight_decay: float = Field(ge=0)
    clip_norm: float = Field(gt=0)


class LearningRates(Settings):
    connector: Rate
    language_model: Rate
    encoders: Rate
    by_encoder: dict[str, Rate] = Field(default_factory=dict)


class TuneSettings(Settings):
    epochs: Positive
    batch_pictures: Positive
    micro_batch: Positive | None = None
    length_grouped: bool = False
    train_encoders: bool
    questions_per_picture: Positive
    learning_rates: LearningRates
    warmup_fraction: Fraction
    weight_decay: float = Field(ge=0)
    clip_norm: float = Field(gt=0)


def accumulation(batch: int, micro: int | None, ranks: int) -> int:
    """Micro batches that each rank adds up for one step: batch / (micro x ranks). Raises StudyError."""
    share = micro * ranks if micro else ranks
    if batch % share:
        raise StudyError(
            f"batch_pictures: {batch} is no multiple of {share}, what {ranks} ranks with micro_batch {micro} "
            "take at a time"
        )
    return batch // share if micro else 1


class TrainingSettings(Settings):
    threads: Positive
    checkpoint_every: Positive
    checkpoint_minutes: Annotated[float, Field(gt=0)] | None = None
    max_tokens: Positive | None = None
    engine: EngineSettings = EngineSettings()
    align: AlignSettings
    tune: TuneSettings

    @model_validator(mode="after")
    def _divides(self) -> Self:
        for name, stage in (("align", self.align), ("tune", self.tune)):
            try:
                accumulation(stage.batch_pictures, stage.micro_batch, self.engine.ranks)
            except StudyError as error:
                raise ValueError(f"{name}.{error}") from None
        return self


class EvaluationSettings(Settings):
    batch_questions: Positive
    data: Literal["world", "hub"] = "world"
    benchmarks: Literal["all"] | tuple[str, ...] = "all"
    overlays: Literal["all"] | tuple[str, ...] = "all"


class MaskSettings(Settings):
    operators: tuple[Operator, ...] = Field(min_length=1)
    calibration_pictures: Positive


class RankSettings(Settings):
    pictures: Positive
    resamples: Positive
    tau: Fraction


class StatisticsSettings(Settings):
    resamples: Positive
    level: Rate
    seed: int
    overall: Literal["benchmarks", "groups"]
    margin: float = Field(default=1.0, gt=0)
    seed_deviation: float | None = Field(default=None, ge=0)


class Utilisation(Settings):
    """The share of a device's peak that is reached."""

    training: Rate
    prediction: Rate


class PlanSettings(Settings):
    """What `plan` assumes, and no run reads.

    Attributes:
        device: its name, for the reader.
        peak_teraflops: its peak at the precision of training, dense.
        memory_gb: what one device has.
        utilisation: of the peak.
        text_tokens: of a training sample or an asked question, on average.
        answer_tokens: generated an answer, on average.
        training_samples: in the training data; the world's pictures if not given.
    """

    device: str
    peak_teraflops: float = Field(gt=0)
    memory_gb: float = Field(gt=0)
    utilisation: Utilisation
    text_tokens: Positive
    answer_tokens: Positive
    training_samples: Positive | None = None


class Study(Settings):
    """A whole study, as config.yaml and its overrides describe it."""

    study: Name
    pool: tuple[Name, ...] = Field(min_length=1)
    subsets: Literal["all"] | tuple[str, ...] = "all"
    seeds: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = Field(min_length=1)
    sources: Literal["pinned", "train"]
    gates: Literal["stop", "report"] = "stop"
    encoders: dict[str, EncoderSpec]
    language_model: LanguageModelSpec
    connector: ConnectorSettings
    world: WorldSettings
    training: TrainingSettings
    evaluation: EvaluationSettings
    masks: MaskSettings
    rank: RankSettings
    statistics: StatisticsSettings
    plan: PlanSettings
    variants: dict[Name, Study] = Field(default_factory=dict)  # each whole, as what it changes makes it

    @model_validator(mode="before")
    @classmethod
    def _rows_of_the_table(cls, config: object) -> object:
        """An encoder of the pool that the encoder table has is taken from it, less what its row changes."""
        if not isinstance(config, dict) or not isinstance(config.get("pool"), (list, tuple)):
            return config
        rows = config.get("encoders")
        if not isinstance(rows, dict):
            return config
        known = encoder_table()
        taken = {name: copy.deepcopy(known[name]) for name in config["pool"] if name in known}
        for name, row in taken.items():
            if {"pixels", "layer"} & (rows.get(name) or {}).keys():
                row["published"] = {"parameters": row["published"]["parameters"]}
        _merge(taken, {name: row for name, row in rows.items() if isinstance(row, dict)})
        return config | {"encoders": taken | {k: v for k, v in rows.items() if not isinstance(v, dict)}}

    @model_validator(mode="before")
    @classmethod
    def _variants_in_full(cls, config: object) -> object:
        """A variant is written as what it changes, and validated as the study that it then is."""
        # runs before _rows_of_the_table (pydantic takes the last one first), so that a variant's change of a
        # row of the encoder table is treated as a config's
        if not isinstance(config, dict) or not isinstance(config.get("variants"), dict):
            return config
        base = {key: value for key, value in config.items() if key != "variants"}
        changes = config["variants"].items()
        whole = {name: _vary(base, name, change) for name, change in changes if isinstance(change, dict)}
        return config | {"variants": config["variants"] | whole}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.pool)) != len(self.pool):
            raise ValueError(f"pool: an encoder is named twice in {list(self.pool)}")
        if reserved := {BLIND, NONE_KEPT} & set(self.pool):
            raise ValueError(f"pool: {sorted(reserved)} is a reserved word, name the encoder otherwise")
        if missing := [e for e in self.pool if e not in self.encoders]:
            rows = sorted({*self.encoders, *encoder_table()})
            raise ValueError(f"pool: {missing} has no row under encoders (known: {rows})")
        if self.connector.kind == "multi_level" and all(len(self.encoders[e].layers) == 1 for e in self.pool):
            raise ValueError(
                "connector.kind: 'multi_level' with one layer of every encoder; give an encoder of the pool "
                "several, as `layer: [12, 24]`"
            )
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: a seed is named twice in {list(self.seeds)}")
        for stage, asked in (("align", self.training.align), ("tune", self.training.tune)):
            if asked.questions_per_picture > self.world.questions_per_picture:
                raise ValueError(
                    f"training.{stage}.questions_per_picture: {asked.questions_per_picture} is more than the "
                    f"{self.world.questions_per_picture} that world.questions_per_picture makes"
                )
        if unknown := [e for e in self.training.tune.learning_rates.by_encoder if e not in self.pool]:
            raise ValueError(f"training.tune.learning_rates.by_encoder: {unknown[0]!r} is not in the pool")
        if self.subsets != "all":
            for subset in self.subsets:
                parse_subset(subset, self.pool)
        if self.evaluation.benchmarks != "all":
            for benchmark in self.evaluation.benchmarks:
                if benchmark not in BENCHMARKS:
                    known = ", ".join(BENCHMARKS)
                    raise ValueError(
                        f"evaluation.benchmarks: {benchmark!r} belongs to no group (known: {known})"
                    )
        if wrong := [name for name in self.overlays if name not in OVERLAYS]:
            known = ", ".join(OVERLAYS)
            raise ValueError(f"evaluation.overlays: {wrong[0]!r} has none to switch (known: {known})")
        if self.sources == "train" and (fetched := self.hub_sources):
            raise ValueError(
                f"{next(iter(fetched)).replace('/', '.')}.revision: with `sources: train` every source is "
                "pretrained here; remove the revision, or set `sources: pinned`"
            )
        return self

    @model_validator(mode="after")
    def _one_baseline(self) -> Self:
        dumps = {name: variant.model_dump(exclude={"variants"}) for name, variant in self.variants.items()}
        if self.variants and list(dumps.values()).count(self.model_dump(exclude={"variants"})) != 1:
            raise ValueError(
                "variants: exactly one must change nothing, as `mlp: {}`: it names the study as it stands, "
                f"which the others are compared with (found: {list(dumps)})"
            )
        for one, other in itertools.combinations(dumps, 2):
            if dumps[one] == dumps[other]:
                raise ValueError(f"variants.{other}: the same study as variants.{one}; remove one of them")
        return self

    @property
    def baseline(self) -> str:
        """The variant that the others are compared with: the study as it stands; '' without variants."""
        own = self.model_dump(exclude={"variants"})
        return next((n for n, v in self.variants.items() if v.model_dump(exclude={"variants"}) == own), "")

    @property
    def hub_sources(self) -> dict[str, HubSource]:
        """The pretrained sources that a hub has, by the names of their folders."""
        sources: dict[str, Checkpoint] = {f"encoders/{name}": self.encoders[name] for name in self.pool}
        sources["language_model"] = self.language_model
        return {name: source.hub for name, source in sources.items() if source.hub}

    @property
    def overlays(self) -> tuple[str, ...]:
        """The benchmarks whose score is ours and not lmms-eval's figure, in the order of OVERLAYS."""
        chosen = self.evaluation.overlays
        return OVERLAYS if chosen == "all" else tuple(dict.fromkeys(chosen))

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """The benchmarks evaluated, in the order of GROUPS."""
        chosen = self.evaluation.benchmarks
        return BENCHMARKS if chosen == "all" else tuple(b for b in BENCHMARKS if b in chosen)

    @property
    def full(self) -> str:
        """The subset of all encoders: the full pool."""
        return name_subset(self.pool, self.pool)

    @property
    def trained_subsets(self) -> tuple[str, ...]:
        """The subsets to train, smallest first, without `blind`. The full pool is always among them."""
        if self.subsets == "all":
            return all_subsets(self.pool)
        chosen = {name_subset(parse_subset(s, self.pool), self.pool) for s in self.subsets} | {self.full}
        return tuple(s for s in all_subsets(self.pool) if s in chosen)

    @property
    def masks_of_full(self) -> tuple[str, ...]:
        """Every proper mask of the full checkpoint (kept encoders), smallest first; `none` keeps none."""
        return (NONE_KEPT, *all_subsets(self.pool)[:-1])


VARIED = ("connector", "encoders", "training")  # what a variant may change
SAME_ENCODER = ("library", "source", "revision", "library_config")  # but not of an encoder


def _vary(base: Mapping[str, Any], name: str, change: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a variant. Raises ValueError where it changes what all variants of a study share."""
    # a variant that is written in full, as settings files write it, has an empty `variants`
    change = {key: value for key, value in change.items() if key != "variants" or value}
    merged = copy.deepcopy(dict(base))
    _merge(merged, copy.deepcopy(change))
    for key in change:
        if key not in VARIED and merged[key] != base.get(key):  # equal: as settings files write it, in full
            raise ValueError(f"variants.{name}.{key}: a variant can change {', '.join(VARIED)}, not this key")
    rows, change_of = base.get("encoders"), change.get("encoders")
    if isinstance(rows, dict) and isinstance(change_of, dict):
        for encoder, row in change_of.items():
            had = encoder_table().get(encoder, {}) | (rows.get(encoder) or {})
            for key in SAME_ENCODER:
                if isinstance(row, dict) and key in row and row[key] != had.get(key):
                    raise ValueError(
                        f"variants.{name}.encoders.{encoder}.{key}: a variant reads the study's checkpoints; "
                        "make another one an encoder of its own in the pool"
                    )
    return merged


@functools.cache
def encoder_table() -> dict[str, dict[str, Any]]:
    """The full-scale encoder table, as the config writes rows: name -> row. Do not change it."""
    table: dict[str, dict[str, Any]] = yaml.safe_load(ENCODER_TABLE.read_text(encoding="utf-8"))
    return table


def name_subset(encoders: tuple[str, ...] | frozenset[str], pool: tuple[str, ...]) -> str:
    """The one name of a set of encoders: pool order, joined with `+`; `blind` for the empty set."""
    return "+".join(e for e in pool if e in encoders) or BLIND


def parse_subset(name: str, pool: tuple[str, ...]) -> tuple[str, ...]:
    """The encoders of a subset's name, in pool order; () for `blind`. Raises StudyError if one is unknown."""
    if name == BLIND:
        return ()
    parts = name.split("+")
    for part in parts:
        if part not in pool:
            raise StudyError(f"subset {name!r}: encoder {part!r} is not in the pool {list(pool)}")
    if len(set(parts)) != len(parts):
        raise StudyError(f"subset {name!r}: an encoder is named twice")
    return tuple(e for e in pool if e in parts)


def all_subsets(pool: tuple[str, ...]) -> tuple[str, ...]:
    """All 2^n - 1 non-empty subsets of the pool, smallest first, in pool order."""
    sets = (c for k in range(1, len(pool) + 1) for c in itertools.combinations(pool, k))
    return tuple("+".join(c) for c in sets)


# What each stage of the DAG reads: a file results/<study>/settings/<stage>.json per stage, so that an edit of
# the config reruns the stages that read the edited section and no other.


class TrainingStage(Settings):
    """What align and tune both read."""

    connector: ConnectorSettings
    threads: Positive
    checkpoint_every: Positive
    checkpoint_minutes: float | None = None
    max_tokens: Positive | None = None
    engine: EngineSettings = EngineSettings()


class AlignStage(TrainingStage):
    align: AlignSettings


class TuneStage(TrainingStage):
    tune: TuneSettings


class PredictStage(Settings):
    batch_questions: Positive
    threads: Positive


class MaskStage(Settings):
    batch_questions: Positive
    threads: Positive
    calibration_pictures: Positive


class FeatureStage(Settings):
    grid: Positive
    threads: Positive


class RankStage(Settings):
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


class GateStage(Settings):
    gates: Literal["stop", "report"]


class RequestStage(Settings):
    benchmarks: tuple[str, ...]


class ScoreStage(Settings):
    study: str
    overlays: tuple[str, ...]
    statistics: StatisticsSettings


class RoleStage(Settings):
    study: str
    pool: tuple[str, ...]
    statistics: StatisticsSettings
    tau: Fraction


def stage_table(study: Study) -> dict[str, Settings]:
    """The settings that each stage reads, by stage: those below and `encoder_<name>` for the pool."""
    training, threads = study.training, study.training.threads
    trained = {name: getattr(training, name) for name in TrainingStage.model_fields if name != "connector"}
    return {
        **{f"encoder_{name}": study.encoders[name] for name in study.pool},
        "language_model": LanguageModelStage(chat_template=study.language_model.chat_template),
        "plan": study,
        "world": study.world,
        "gates": GateStage(gates=study.gates),
        "features": FeatureStage(grid=study.connector.grid, threads=threads),
        "align": AlignStage(connector=study.connector, align=training.align, **trained),
        "tune": TuneStage(connector=study.connector, tune=training.tune, **trained),
        "predict": PredictStage(batch_questions=study.evaluation.batch_questions, threads=threads),
        "masks": MaskStage(
            batch_questions=study.evaluation.batch_questions,
            threads=threads,
            calibration_pictures=study.masks.calibration_pictures,
        ),
        "rank": RankStage(
            study=study.study,
            grid=study.connector.grid,
            pictures=study.rank.pictures,
            resamples=study.rank.resamples,
            level=study.statistics.level,
            seed=study.statistics.seed,
            threads=threads,
        ),
        "lock": LockStage(
            study=study.study,
            sources=study.hub_sources,
            benchmarks=study.benchmarks if study.evaluation.data == "hub" else (),
        ),
        "requests": RequestStage(benchmarks=study.benchmarks),
        "score": ScoreStage(study=study.study, overlays=study.overlays, statistics=study.statistics),
        "roles": RoleStage(
            study=study.study, pool=study.pool, statistics=study.statistics, tau=study.rank.tau
        ),
    }


def validate_study(config: Mapping[str, Any], where: str = "config.yaml") -> Study:
    """A validated Study from a parsed config. Raises StudyError: one line that names every faulty key."""
    try:
        return Study.model_validate(dict(config))
    except ValidationError as error:
        # a list with a wrong entry is also reported as too short: only the entry is at fault
        faults = [f for f in error.errors() if f["type"] != "too_short" or not f["input"]]
        faults = faults or error.errors()
        # what is wrong with the study is wrong with each of its variants too: told once
        faults = [f for f in faults if f["loc"][:1] != ("variants",)] or faults
        raise StudyError(f"{where}: {'; '.join(_fault(fault) for fault in faults)}") from None


def _fault(fault: Mapping[str, Any]) -> str:
    """One fault of a config in words: its key, what is wrong and, where it is short, the value found."""
    key = ".".join(str(part) for part in fault["loc"] if "[" not in str(part))  # less the types of a union
    said = str(fault["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key (correct its spelling or remove it)"
    if fault["type"] == "missing":
        return f"{key}: missing"
    if fault["type"] == "too_short":
        return f"{key}: has {len(fault['input'])} entries, {fault['ctx']['min_length']} or more are needed"
    if fault["type"] == "too_long":
        return f"{key}: has {len(fault['input'])} entries, at most {fault['ctx']['max_length']} are allowed"
    if not key:
        return said  # a rule about several keys: its message names them
    if fault["type"] == "value_error" and isinstance(fault["input"], dict):
        return f"{key}.{said}"  # the same of a section: its message names the key within
    return f"{key}: {said.replace('tuple', 'list')}, not {fault['input']!r:.60}"


def load_study(*configs: Path) -> Study:
    """A study from config.yaml and its overrides in order, merged key by key, as --configfile merges.

    Raises StudyError when a file cannot be read or the merged config does not validate.
    """
    merged: dict[str, Any] = {}
    for path in configs:
        try:
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise StudyError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(config, dict):
            raise StudyError(f"{path}: must be a YAML mapping of keys, not {type(config).__name__}")
        _merge(merged, config)
    return validate_study(merged, ", ".join(str(path) for path in configs))


def _merge(base: dict[str, Any], override: Mapping[str, Any]) -> None:
    """Put `override` into `base`: mappings are merged key by key, anything else (lists too) is replaced."""
    for key, value in override.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value)
        else:
            base[key] = value


Stage = TypeVar("Stage", bound=Settings)


def read_settings(path: Path, kind: type[Stage]) -> Stage:
    """Read one results/<study>/settings/*.json back as its type."""
    try:
        return kind.model_validate(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError, ValidationError) as error:
        raise StudyError(f"{path}: not the settings of {kind.__name__}: {error}") from error
