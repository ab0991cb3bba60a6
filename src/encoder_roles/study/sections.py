"""The sections of a config, each with the keys that it may have."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from encoder_roles.study.names import StudyError, study_of

Operator = Literal["zero", "mean", "shuffle", "noise", "drop"]
Precision = Literal["fp32", "bf16"]
REPOSITORY = r"^[\w.-]+/[\w.-]+$"  # a hub's owner/name

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Channels = Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]


class Settings(BaseModel):
    """Base of every section: unknown keys are errors, values cannot be changed after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class HubSource(Settings):
    """Something of a model or data hub: a repository at a revision; of a model, the pattern of the files that
    its weights are read from; of data, one split of one config."""

    kind: Literal["model", "dataset"]
    repository: Annotated[str, Field(pattern=REPOSITORY)]
    revision: str
    weights: str = ""
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
        return HubSource(
            kind="model", repository=self.source, revision=self.revision, weights=self.weight_files
        )

    @property
    def weight_files(self) -> str:
        """The pattern of the names of its files of weights: transformers' and timm's."""
        return "model*.safetensors"


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
        library_config: what the network is, in the library's words: enough to build it without a file. Of
            timm's format it is what is built, in place of the folder's own config.json.
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

    @property
    def framing(self) -> str:
        """A name for how pictures are framed; encoders of equal names share framed pictures."""
        parts = [f"{self.aspect}{self.pixels}"]
        if self.aspect == "pad":
            parts += [f"{channel:g}" for channel in self.mean or ()]
        if self.normalisation == "picture":
            parts.append("standardised")
        return "_".join(parts)

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
    def weight_files(self) -> str:
        """As `Checkpoint.weight_files`; open_clip has a name of its own."""
        return "open_clip_model.safetensors" if self.library == "open_clip" else super().weight_files

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
                raise ValueError(f"{key}: must be removed, the kind {self.kind!r} does not read it")
        if self.width is not None and self.kind not in _WIDE:
            raise ValueError(f"width: must be removed, the kind {self.kind!r} does not read it")
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
    processes: Positive = 1
    zero_stage: Literal[2, 3] = 2
    offload: bool = False
    precision: Precision = "fp32"
    attention: Literal["sdpa", "flash"] = "sdpa"
    gradient_checkpointing: bool = False

    @model_validator(mode="after")
    def _one_process(self) -> Self:
        if self.kind == "torch" and self.processes > 1:
            raise ValueError(
                f"processes: the torch engine is one process, not {self.processes}; set kind: deepspeed"
            )
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


class RecordFile(Settings):
    """A user's own records (LLaVA format: a JSON list, or one a line) and the folder of their pictures."""

    records: str
    pictures: str


class OwnData(Settings):
    """What a study on real data is trained on, and the pictures of which effective ranks are measured.

    Attributes:
        align, tune: conversations about a picture each, or about none.
        probe: records with an `image`; no picture of training or of a benchmark.
    """

    align: RecordFile
    tune: RecordFile
    probe: RecordFile


def accumulation(batch: int, micro: int | None, processes: int) -> int:
    """Micro batches per process and step: batch / (micro x processes). Raises StudyError."""
    share = micro * processes if micro else processes
    if batch % share:
        raise StudyError(
            f"batch_pictures: {batch} is not a multiple of {share}, which {processes} processes with "
            f"micro_batch {micro} take at a time"
        )
    return batch // share if micro else 1


class TrainingSettings(Settings):
    """The recipe.

    The procedural world writes a record per question, and those of a picture are one sample; a record of your
    own is a whole conversation, and a sample by itself, as in the recipes of the public data sets.
    """

    data: Literal["world"] | OwnData = "world"
    threads: Positive
    checkpoint_every: Positive
    checkpoint_minutes: Annotated[float, Field(gt=0)] | None = None
    max_tokens: Positive | None = None
    engine: EngineSettings = EngineSettings()
    align: AlignSettings
    tune: TuneSettings

    @property
    def group_by_picture(self) -> bool:
        """Whether all records of a picture are one sample."""
        return self.data == "world"

    @model_validator(mode="after")
    def _divides(self) -> Self:
        for name, stage in (("align", self.align), ("tune", self.tune)):
            try:
                accumulation(stage.batch_pictures, stage.micro_batch, self.engine.processes)
            except StudyError as error:
                raise ValueError(f"{name}.{error}") from None
        return self


class EvaluationSettings(Settings):
    batch_questions: Positive
    precision: Precision = "fp32"
    data: Literal["world", "hub"] = "world"
    benchmarks: Literal["all"] | tuple[str, ...] = "all"
    overlays: Literal["all"] | tuple[str, ...] = "all"


class MaskSettings(Settings):
    operators: tuple[Operator, ...] = Field(min_length=1)
    calibration_pictures: Positive


class EffectiveRankSettings(Settings):
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


class AdvisorSettings(Settings):
    at_most: Positive = 2
    margin: float = Field(default=0.5, ge=0)
    replays: Positive = 100


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


class JobRequest(Settings):
    """What one job of a rule asks of a cluster, at its first attempt; memory is that of each of its nodes."""

    memory_mb: Positive
    minutes: Positive
    gpus: int = Field(default=0, ge=0)
    cpus: Positive = 1
    nodes: Positive = 1


class ExternalScoresSettings(Settings):
    """Anybody's table of scores, analysed by `snakemake roles`; a file's name alone stands for it too."""

    file: str
    ranks: str | None = None
    costs: str | None = None
    pool: tuple[str, ...] = ()
    leave_out: tuple[Positive, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value

    @property
    def study(self) -> str:
        """The name of the study that the table is: its results go to results/<study>/."""
        return study_of(Path(self.file))
