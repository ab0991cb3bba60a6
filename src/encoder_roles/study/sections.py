"""The sections of a config. Every key is described here, and config.schema.json is generated from it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from encoder_roles.study.names import (
    BLIND,
    NO_MASK,
    NONE_KEPT,
    StudyError,
    all_subsets,
    name_subset,
    study_of,
)

Operator = Literal["zero", "mean", "shuffle", "noise", "drop"]
HookOperator = Literal["zero", "mean", "shuffle"]  # of masks on the modules of any model
Precision = Literal["fp32", "bf16"]
OnFault = Literal["stop", "leave_out"]
REPOSITORY = r"^[\w.-]+/[\w.-]+$"  # owner/name on a hub

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)]
Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Channels = Annotated[tuple[float, ...], Field(min_length=3, max_length=3)]


class Settings(BaseModel):
    """Base of every section: an unknown key, NaN or infinity is an error; a validated value cannot change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_number(cls, value: object, info: ValidationInfo) -> object:
        """Refuse `yes` or `true` for a number, which pydantic would take for 1."""
        types = _types_in(cls.model_fields[str(info.field_name)].annotation)
        if bool in types or not {int, float} & types:
            return value
        if isinstance(value, dict):
            for key, entry in value.items():
                if isinstance(entry, bool):
                    raise ValueError(f"{key}: must be a number, not {entry}")
        elif any(
            isinstance(entry, bool) for entry in (value if isinstance(value, (list, tuple)) else [value])
        ):
            raise ValueError("must be a number")
        return value


def _types_in(annotation: object) -> set[object]:
    """The types that an annotation names at any depth."""
    return {annotation}.union(*map(_types_in, get_args(annotation))) if get_args(annotation) else {annotation}


class HubSource(Settings):
    """A repository of a model hub or data hub, at one revision."""

    kind: Literal["model", "dataset"] = Field(
        description="Whether the repository holds a model or a data set."
    )
    repository: str = Field(pattern=REPOSITORY, description="The repository as owner/name.")
    revision: str = Field(description="The branch, tag or commit to fetch.")
    weights: str = Field(default="", description="For a model: the file-name pattern of its weights.")
    config: str = Field(default="", description="For a data set: the configuration that holds the split.")
    split: str = Field(default="", description="For a data set: the split to fetch.")


class Checkpoint(Settings):
    """Pretrained weights: a folder, or a repository of a model hub if `revision` is given."""

    source: str = Field(
        description="A folder of pretrained weights; with `revision`, a repository of a model hub "
        "(owner/name)."
    )
    revision: str | None = Field(
        default=None, description="The branch, tag or commit of the repository; null if `source` is a folder."
    )

    @model_validator(mode="after")
    def _repository(self) -> Self:
        if self.revision is not None and not re.fullmatch(REPOSITORY, self.source):
            raise ValueError(
                f"source: with a revision it must be a repository of a hub (owner/name), not {self.source!r}"
            )
        return self

    @property
    def hub(self) -> HubSource | None:
        """The repository to fetch the weights from; None for a folder."""
        if self.revision is None:
            return None
        return HubSource(
            kind="model", repository=self.source, revision=self.revision, weights=self.weight_files
        )

    @property
    def weight_files(self) -> str:
        """The file-name pattern of the weights, as transformers and timm save them."""
        return "model*.safetensors"


class Published(Settings):
    """The published size of an encoder's network, which staging checks.

    If a config changes `pixels` or `layer` of a row of the encoder table, only `parameters` is still checked.
    """

    parameters: Positive = Field(
        description="Published number of parameters of the uncut vision network; staging allows 1% of "
        "difference."
    )
    width: Positive | None = Field(
        default=None,
        description="Published channels of `layer`, summed over several layers; null: not checked.",
    )
    grid: Positive | None = Field(
        default=None,
        description="Published tokens per side at `pixels`, for the finest layer; null: not checked.",
    )


class EncoderSpec(Checkpoint):
    """One vision encoder: where its weights are, and how it turns pixels into features."""

    library: Literal["transformers", "open_clip", "timm"] = Field(
        description="The library whose format the folder has, and which loads it."
    )
    pixels: Positive = Field(
        description="Side of the square input, in pixels; with aspect `keep`, of a square of the same area."
    )
    aspect: Literal["squash", "pad", "longest", "crop", "keep"] = Field(
        default="squash",
        description="How a picture becomes square: squash; pad (centred on the mean colour); longest (top "
        "left, then zeros: SAM); crop (the centre: CLIP); keep (stays rectangular: Pix2Struct).",
    )
    normalisation: Literal["channels", "picture"] = Field(
        default="channels",
        description="How pixels are normalised: by `mean` and `std`, or by the picture's own mean and "
        "deviation (picture: Pix2Struct).",
    )
    mean: Channels | None = Field(
        default=None,
        description="Mean per colour channel, subtracted from pixel values in 0..1; absent for `picture`.",
    )
    std: Channels | None = Field(
        default=None,
        description="Standard deviation per colour channel, which divides pixel values; absent for "
        "`picture`.",
    )
    layer: int | tuple[int, ...] = Field(
        default=-1,
        description="The hidden layer that the connector reads (-1: the last, after its norm), or a list of "
        "layers, put side by side in the channels.",
    )
    positions: Literal["as_is", "resample"] = Field(
        default="as_is",
        description="Whether the position table must fit `pixels` (as_is) or is resampled to them "
        "(resample).",
    )
    library_config: dict[str, Any] | None = Field(
        default=None,
        description="The network's configuration in its library's terms, enough for `plan` to build it "
        "without files; for timm it replaces the folder's config.json.",
    )
    published: Published | None = Field(
        default=None, description="The published size, which staging checks; null: no check."
    )

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
            raise ValueError("must be a whole number or a list of whole numbers")
        if len(set(layers)) != len(layers):
            raise ValueError("names a layer twice")
        return tuple(layers) if len(layers) > 1 else layers[0]

    @model_validator(mode="after")
    def _normalised(self) -> Self:
        for key in ("mean", "std"):
            if (getattr(self, key) is None) == (self.normalisation == "channels"):
                fault = "missing" if self.normalisation == "channels" else "not read, remove it"
                raise ValueError(f"{key}: {fault} (normalisation is {self.normalisation!r})")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std: must be positive, not {list(self.std)}")
        if self.normalisation == "picture" and self.aspect in ("pad", "longest"):
            raise ValueError(
                f"aspect: {self.aspect!r} adds padding that normalisation `picture` would average in; "
                "set another aspect"
            )
        return self

    @property
    def weight_files(self) -> str:
        """As `Checkpoint.weight_files`, or the name that open_clip saves weights under."""
        return "open_clip_model.safetensors" if self.library == "open_clip" else super().weight_files

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers that the connector reads, one or several."""
        return self.layer if isinstance(self.layer, tuple) else (self.layer,)


class LanguageModelSpec(Checkpoint):
    """The pretrained language model."""

    chat_template: str | None = Field(
        default=None,
        description="Jinja chat template that replaces the tokenizer's; null: the tokenizer's own is used.",
    )
    library_config: dict[str, Any] | None = Field(
        default=None,
        description="The network's configuration in transformers' terms, with `model_type`, so that `plan` "
        "needs no files.",
    )


# connector kind -> the keys that it needs, beside kind, layers, grid and width
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
KINDS_WITH_WIDTH = ("multi_level", "resampler", "sva", "vit")


class ConnectorSettings(Settings):
    """How features become visual tokens; docs/models.md describes the kinds."""

    kind: ConnectorKind = Field(
        default="mlp",
        description="linear or mlp (channels side by side); token_concat or token_interleave (tokens of each "
        "encoder); multi_level (weighted layers); resampler, sva or vit.",
    )
    layers: Positive = Field(
        default=2,
        description="Linear layers of the projector, with GELU between them; `linear` always has one.",
    )
    grid: Positive = Field(
        default=4,
        description="Tokens per side to which the features of every encoder are resampled before the "
        "connector.",
    )
    width: Positive | None = Field(
        default=None,
        description="Channels inside multi_level, resampler, sva and vit; null: the language model's width.",
    )
    depth: Positive | None = Field(default=None, description="Number of blocks in resampler, sva and vit.")
    heads: Positive | None = Field(
        default=None, description="Attention heads in resampler, sva and vit; they must divide the width."
    )
    queries: Positive | None = Field(
        default=None, description="Learned queries of resampler; each becomes one visual token."
    )
    query_grid: Positive | None = Field(
        default=None,
        description="Queries per side in sva, each attending to its own window; it must divide `grid`.",
    )
    groups: Positive | None = Field(
        default=None, description="Groups of queries in sva, put side by side in the channels."
    )

    def visual_tokens(self, encoders: int) -> int:
        """The visual tokens of one picture with this many encoders; 0 without any (the blind model)."""
        if encoders == 0:
            return 0
        if self.kind == "resampler":
            return int(self.queries or 1)
        if self.kind == "sva":
            return int(self.query_grid or 1) ** 2
        separate = self.kind in ("token_concat", "token_interleave")
        return (encoders if separate else 1) * self.grid**2

    @model_validator(mode="after")
    def _keys_of_the_kind(self) -> Self:
        needed = CONNECTORS[self.kind]
        for key in ("depth", "heads", "queries", "query_grid", "groups"):
            if key in needed and getattr(self, key) is None:
                raise ValueError(f"{key}: missing; the kind {self.kind!r} needs it")
            if key not in needed and getattr(self, key) is not None:
                raise ValueError(f"{key}: remove it; the kind {self.kind!r} does not read it")
        if self.width is not None and self.kind not in KINDS_WITH_WIDTH:
            raise ValueError(f"width: remove it; the kind {self.kind!r} does not read it")
        if self.width is not None and self.heads is not None and self.width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide the width of {self.width}")
        if self.query_grid is not None and self.grid % self.query_grid:
            raise ValueError(f"query_grid: {self.query_grid} does not divide the grid of {self.grid}")
        return self


class WorldSettings(Settings):
    """Size of the procedural world. A study on real data ignores this section."""

    seed: int = Field(default=0, description="Seed of all scenes, captions and questions.")
    train_pictures: Positive = Field(description="Number of pictures in the training split.")
    questions_per_picture: Positive = Field(
        description="Questions drawn for each training picture; align and tune each take some of them."
    )
    probe_pictures: Positive = Field(
        description="Number of pictures for effective rank; they are in no other split."
    )
    questions_per_benchmark: Positive = Field(
        description="Minimum questions per benchmark; benchmarks that ask in pairs or circles round up."
    )


class EngineSettings(Settings):
    """What runs the training steps, and how processes share the work; docs/training.md has details.

    Only `precision` changes what the model learns.
    """

    kind: Literal["torch", "deepspeed"] = Field(
        default="torch", description="torch: one process; deepspeed: as many as `processes`."
    )
    processes: Positive = Field(
        default=1, description="Processes of one training; on GPUs, each process has one GPU."
    )
    zero_stage: Literal[2, 3] = Field(
        default=2,
        description="What deepspeed shards over the processes: optimizer and gradients (2), or weights too "
        "(3).",
    )
    offload: bool = Field(
        default=False,
        description="Whether deepspeed keeps the sharded state in CPU memory to save GPU memory.",
    )
    precision: Precision = Field(
        default="fp32", description="Number format of training; bf16 keeps fp32 copies of the weights."
    )
    attention: Literal["sdpa", "flash"] = Field(
        default="sdpa", description="Attention kernel; flash stores no mask, and needs CUDA and bf16."
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Recompute activations in the backward pass: less memory, a third more compute.",
    )

    @model_validator(mode="after")
    def _one_process(self) -> Self:
        if self.kind == "torch" and self.processes > 1:
            raise ValueError(
                f"processes: the torch engine runs one process, not {self.processes}; set kind: deepspeed"
            )
        if self.attention == "flash" and self.precision != "bf16":
            raise ValueError(f"attention: flash needs precision bf16, not {self.precision}")
        return self


class RecipeSettings(Settings):
    """What the recipes of align and tune have in common."""

    batch_pictures: Positive = Field(description="Samples per step, over all processes.")
    micro_batch: Positive | None = Field(
        default=None,
        description="Samples per process in one pass; null: the process's share of the batch in one pass.",
    )
    length_grouped: bool = Field(
        default=False,
        description="Whether a batch takes samples of similar length, with or without pictures.",
    )
    questions_per_picture: Positive = Field(
        description="Questions taken of each picture of the procedural world, beside one caption."
    )
    warmup_fraction: Fraction = Field(
        description="Fraction of the steps over which the learning rate rises from zero."
    )
    weight_decay: float = Field(ge=0, description="Weight decay of AdamW; 0 disables it.")
    clip_norm: float = Field(gt=0, description="Norm to which the gradient is clipped.")


class AlignSettings(RecipeSettings):
    """The align stage: the connector learns, encoders and language model are frozen."""

    steps: Positive = Field(description="Number of optimizer steps.")
    features: Literal["stored", "computed"] = Field(
        default="stored",
        description="Whether frozen features are read from files (stored), or computed from pixels in each "
        "step (computed: for data too large to store).",
    )
    learning_rate: Rate = Field(description="Peak learning rate of the connector.")


class LearningRates(Settings):
    """Peak learning rates of tune, per part of the model."""

    connector: Rate = Field(description="Peak learning rate of the connector.")
    language_model: Rate = Field(description="Peak learning rate of the language model.")
    encoders: Rate = Field(description="Peak learning rate of every encoder without a rate in `by_encoder`.")
    by_encoder: dict[str, Rate] = Field(
        default_factory=dict,
        description="Peak learning rate of single encoders of the pool, as {sam: 1.0e-4}.",
    )


class TuneSettings(RecipeSettings):
    """The tune stage: connector and language model learn, and the encoders if `train_encoders` is set."""

    epochs: Positive = Field(description="Passes over the training data.")
    train_encoders: bool = Field(description="Whether the encoders are trained (joint training) or frozen.")
    learning_rates: LearningRates = Field(description="Peak learning rates per part of the model.")


class RecordFile(Settings):
    """Records of your own in LLaVA format, and the folder of their pictures."""

    records: str = Field(description="File of records: one JSON list, or one JSON object per line.")
    pictures: str = Field(description="Folder to which the paths of pictures in the records are relative.")


class UserData(Settings):
    """Data of your own: what align and tune learn from, and the pictures for effective rank."""

    align: RecordFile = Field(description="Conversations for align, each about one picture or none.")
    tune: RecordFile = Field(description="Conversations for tune, each about one picture or none.")
    probe: RecordFile = Field(
        description="Records with an `image` for effective rank; use no training or benchmark picture."
    )
    on_fault: OnFault = Field(
        default="stop",
        description="What happens if a record or its picture cannot be learnt from: stop, with a list of all "
        "such records; or leave_out, with their number in the paper.",
    )

    @property
    def files(self) -> dict[str, RecordFile]:
        """The files by purpose."""
        return {"align": self.align, "tune": self.tune, "probe": self.probe}


def accumulation(batch: int, micro: int | None, processes: int) -> int:
    """Micro batches per process and step: batch / (micro x processes). Raises StudyError."""
    share = micro * processes if micro else processes
    if batch % share:
        raise StudyError(
            f"batch_pictures: {batch} is not a multiple of {share}, which {processes} processes with "
            f"micro_batch {micro} take at a time"
        )
    return batch // share if micro else 1


class ConvergenceGate(Settings):
    """When a training counts as finished: verdicts of unfinished ones carry a warning."""

    last_part: Annotated[float, Field(gt=0, le=0.5)] = Field(
        default=0.25, description="Fraction of the steps of tune that is compared with as many before it."
    )
    loss_fall: Rate = Field(
        default=0.02,
        description="A training has converged if its last part lowers the mean loss by less than this "
        "fraction; otherwise every verdict carries a warning.",
    )


class TrainingSettings(Settings):
    """The training recipe.

    In the procedural world, all records of a picture form one sample. In your own data each record is one
    sample, because it is a complete conversation, as in the recipes of the public data sets.
    """

    data: Literal["world"] | UserData = Field(
        default="world",
        description="world: the procedural world; or your own records for align, tune and probe.",
    )
    threads: Positive = Field(
        description="CPU threads of each process that computes, and of those that read pictures ahead; "
        "changing it can change result bytes."
    )
    checkpoint_every: Positive | None = Field(
        default=None,
        description="Steps between two restart checkpoints; null where `checkpoint_minutes` is set.",
    )
    checkpoint_minutes: Annotated[float, Field(gt=0)] | None = Field(
        default=None,
        description="Minutes between two restart checkpoints; null where `checkpoint_every` is set.",
    )
    max_tokens: Positive | None = Field(
        default=None,
        description="Tokens after which a conversation is cut; null: the language model's limit, and a "
        "longer conversation is an error.",
    )
    engine: EngineSettings = Field(
        default=EngineSettings(), description="What runs the training steps, and on how many processes."
    )
    align: AlignSettings = Field(description="The first stage: only the connector learns.")
    tune: TuneSettings = Field(
        description="The second stage: connector and language model learn, and by default the encoders."
    )
    convergence: ConvergenceGate = Field(
        default=ConvergenceGate(),
        description="When tune counts as finished; it changes no training, only the warning of the verdicts.",
    )

    @property
    def group_by_picture(self) -> bool:
        """Whether all records of a picture are one sample."""
        return self.data == "world"

    @model_validator(mode="after")
    def _one_interval(self) -> Self:
        """Checkpoints are counted in steps or in minutes; both together would write more than either."""
        if (self.checkpoint_every is None) == (self.checkpoint_minutes is None):
            count = "neither is" if self.checkpoint_every is None else "both are"
            raise ValueError(
                f"checkpoint_every, checkpoint_minutes: {count} set; set one of them and the other to null"
            )
        return self

    @model_validator(mode="after")
    def _divides(self) -> Self:
        for name, stage in (("align", self.align), ("tune", self.tune)):
            try:
                accumulation(stage.batch_pictures, stage.micro_batch, self.engine.processes)
            except StudyError as error:
                raise ValueError(f"{name}.{error}") from None
        return self


EvaluatedSplit = Literal["test", "development"]


class EvaluationSettings(Settings):
    """How models answer the benchmarks."""

    batch_tokens: Positive = Field(
        description="Tokens computed at a time, visual ones included; on a CPU a few thousand, so that its "
        "cache holds them. The answers do not depend on it, except for ties."
    )
    precision: Precision = Field(
        default="fp32",
        description="Number format in which models answer, with and without masks; stored features and "
        "effective ranks are always fp32.",
    )
    data: Literal["world", "hub"] = Field(
        default="world",
        description="Where the benchmarks come from: generated (world), or the public data sets (hub).",
    )
    benchmarks: Literal["all"] | tuple[str, ...] = Field(
        default="all", description="The benchmarks to evaluate: all sixteen, or a list of their names."
    )
    split: EvaluatedSplit = Field(
        default="test",
        description="The questions to answer: test, for results; or development, to choose a recipe with "
        "(generated benchmarks only).",
    )
    overlays: Literal["all"] | tuple[str, ...] = Field(
        default="all",
        description="The benchmarks scored by our rule instead of lmms-eval's (docs/benchmarks.md); [] for "
        "none.",
    )


class MaskSettings(Settings):
    """How encoders are masked in the checkpoint of the full pool."""

    operators: tuple[Operator, ...] = Field(
        min_length=1,
        description="What replaces the features of a removed encoder: zero, mean, shuffle or noise; drop "
        "removes the encoder from the connector.",
    )
    calibration_pictures: Positive = Field(
        description="Number of training pictures that the operators other than zero and drop are calibrated "
        "on."
    )


class MaskedCheckpoint(Settings):
    """A trained model from elsewhere whose encoders are masked: any model that lmms-eval loads."""

    model: str = Field(description="Its name in lmms-eval, or `module:Class` of a class with its interface.")
    model_args: str | dict[str, Any] = Field(
        default="", description="What lmms-eval loads it with, as pretrained=<folder or repository>."
    )
    encoders: dict[Name, str] = Field(
        min_length=1,
        max_length=8,
        description="Encoder -> path of its module in the torch model; docs/masking.md has paths.",
    )
    channels: dict[str, int] = Field(
        default_factory=dict,
        description="Encoder -> axis of the channels in what its module returns, where it is not the last.",
    )
    operators: tuple[HookOperator, ...] = Field(
        default=("zero",),
        min_length=1,
        description="What replaces what a removed encoder returns: zero, mean or shuffle.",
    )
    calibration: str | None = Field(
        default=None,
        description="Pictures that mean and shuffle are calibrated on: a folder of them, or LLaVA-format "
        "records; null: the records of tune.",
    )
    calibration_pictures: Positive = Field(default=64, description="Number of these pictures.")
    batch_size: Positive = Field(default=1, description="Questions that the model is given together.")

    @model_validator(mode="after")
    def _encoders_fit(self) -> Self:
        if reserved := sorted({BLIND, NONE_KEPT} & self.encoders.keys()):
            raise ValueError(f"encoders: {reserved[0]!r} is a reserved word; give the encoder another name")
        if unknown := sorted(self.channels.keys() - self.encoders.keys()):
            raise ValueError(f"channels: {unknown[0]!r} is none of the encoders {list(self.encoders)}")
        return self

    @property
    def pool(self) -> tuple[str, ...]:
        """The encoders, in order."""
        return tuple(self.encoders)

    @property
    def full(self) -> str:
        """The name of the model without a mask."""
        return name_subset(self.pool, self.pool)

    @property
    def masks(self) -> tuple[str, ...]:
        """Every proper mask (kept encoders), smallest first; `none` keeps none."""
        return (NONE_KEPT, *all_subsets(self.pool)[:-1])

    @property
    def runs(self) -> tuple[tuple[str, str], ...]:
        """Every (mask, operator) to be answered; the first is the model without a mask."""
        masked = [(mask, operator) for operator in self.operators for mask in self.masks]
        return ((self.full, NO_MASK), *masked)


class EffectiveRankSettings(Settings):
    """How effective rank is measured, and when a rank survives or expands."""

    pictures: Positive = Field(
        description="Number of probe pictures; the same for all encoders, because effective rank grows with "
        "it."
    )
    resamples: Positive = Field(description="Number of bootstrap resamples over pictures.")
    tau: Fraction = Field(
        description="Tolerance of the rank ratio: a rank survives at 1 - tau or more, and expands above 1 + "
        "tau."
    )


class StatisticsSettings(Settings):
    """How intervals and the overall score are computed."""

    resamples: Positive = Field(description="Number of bootstrap resamples over clusters of questions.")
    level: Rate = Field(description="Confidence level of all intervals, between 0 and 1.")
    seed: int = Field(description="Seed of the resampling.")
    overall: Literal["benchmarks", "groups"] = Field(
        description="The overall score: the mean of the benchmarks, or the mean of the four group means."
    )
    margin: float = Field(
        default=1.0,
        gt=0,
        description="Points: a smaller difference counts as little, and scores within it count as a match.",
    )
    seed_deviation: float | None = Field(
        default=None,
        ge=0,
        description="Points: standard deviation of a model's scores between seeds, used in every interval; "
        "null: estimated, which needs two seeds or more.",
    )


class AdvisorSettings(Settings):
    """The design advisor, replayed on the study's own scores (docs/advisor.md)."""

    at_most: Positive = Field(
        default=2, description="The advisor looks for the best subset of at most this many encoders."
    )
    margin: float = Field(
        default=0.5,
        ge=0,
        description="Points by which a smaller subset may fall short of the full pool and still match it.",
    )
    replays: Positive = Field(default=100, description="Number of random replays per strategy.")


class Utilisation(Settings):
    """The share of a device's peak that is reached."""

    training: Rate = Field(description="Share of the peak that training reaches, between 0 and 1.")
    prediction: Rate = Field(description="Share of the peak that prediction reaches, between 0 and 1.")


class PlanSettings(Settings):
    """What `snakemake plan` assumes. No run reads it."""

    device: str = Field(description="Name of the device, as printed in the plan.")
    peak_teraflops: float = Field(
        gt=0, description="Peak TFLOP/s of one device at the precision of training, without sparsity."
    )
    memory_gb: float = Field(gt=0, description="Memory of one device, in GB.")
    utilisation: Utilisation = Field(description="The share of the peak that is reached.")
    text_tokens: Positive = Field(
        description="Mean text tokens of a training sample, and of a benchmark question."
    )
    answer_tokens: Positive = Field(description="Mean tokens generated per answer.")
    training_samples: Positive | None = Field(
        default=None,
        description="Samples in the training data, until your own records are there and are counted; null: "
        "the pictures of the procedural world.",
    )


class JobRequest(Settings):
    """What one job of a rule requests from a cluster at its first attempt. A laptop ignores it."""

    memory_mb: Positive = Field(
        description="Memory of each of the job's nodes, in MB; Snakemake itself takes 200 MB of it."
    )
    minutes: Positive = Field(description="Time limit of the job, in minutes.")
    gpus: int = Field(default=0, ge=0, description="GPUs of the job, over all its nodes.")
    cpus: Positive = Field(default=1, description="CPU cores of the job, over all its nodes.")
    nodes: Positive = Field(default=1, description="Nodes of the job; only trainings run on several.")


class ExternalScoresSettings(Settings):
    """A table of scores from elsewhere, which `snakemake roles` analyses. A file name alone is enough."""

    file: str = Field(description="The table of scores.")
    ranks: str | None = Field(default=None, description="A table of effective ranks of the same models.")
    costs: str | None = Field(
        default=None, description="A table of the parameters and costs of the same models."
    )
    pool: tuple[str, ...] = Field(
        default=(), description="The encoders in the order of the pool; []: in the table's order."
    )
    leave_out: tuple[Positive, ...] = Field(
        default=(), description="Line numbers of the table that are not read."
    )
    scales: dict[str, float] = Field(
        default_factory=dict,
        description="Greatest score of a benchmark (`score`: of all others), if the table hides it.",
    )

    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"file": value} if isinstance(value, str) else value

    @property
    def study(self) -> str:
        """The study's name, made from the file's name: results go to results/<study>/."""
        return study_of(Path(self.file))
