"""The study: its sections, the checks between them, its variants, and how it is read from files."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from encoder_roles.study.config_files import merge, read_configs, read_values
from encoder_roles.study.faults import describe_faults
from encoder_roles.study.names import (
    BENCHMARKS,
    BLIND,
    JOBS,
    NONE_KEPT,
    OVERLAYS,
    TRAINING_JOBS,
    StudyError,
    all_subsets,
    name_subset,
    parse_subset,
)
from encoder_roles.study.sections import (
    AdvisorSettings,
    Checkpoint,
    ConnectorSettings,
    EffectiveRankSettings,
    EncoderSpec,
    EvaluationSettings,
    ExternalScoresSettings,
    HubSource,
    JobRequest,
    LanguageModelSpec,
    MaskedCheckpoint,
    MaskSettings,
    Name,
    PlanSettings,
    RecordFile,
    Settings,
    StatisticsSettings,
    TrainingSettings,
    WorldSettings,
)

# The full-scale encoders, one row each.
ENCODER_TABLE = Path(__file__).parent.with_name("encoders") / "table.yaml"


class Study(Settings):
    """A complete study, as config.yaml and its overrides describe it."""

    study: Name = Field(description="Name of the study: results go to results/<study>/.")
    pool: tuple[Name, ...] = Field(
        min_length=1,
        description="The encoders of the study, in the order in which the names of subsets list them.",
    )
    subsets: Literal["all"] | tuple[str, ...] = Field(
        default="all",
        description="The subsets to train: all, or a list such as [clip, clip+sam]; the full pool is always "
        "trained.",
    )
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**32, strict=True)], ...] = Field(
        min_length=1, description="Training seeds: one model per subset and seed."
    )
    sources: Literal["pinned", "train"] = Field(
        description="Whether pretrained sources are read as they are (pinned), or pretrained by the "
        "workflow (train)."
    )
    gates: Literal["stop", "report"] = Field(
        default="stop",
        description="What happens when a pretrained source misses a gate: the run stops, or only reports it.",
    )
    encoders: dict[str, EncoderSpec] = Field(
        description="One row per encoder; a row of the encoder table needs only the keys that change."
    )
    language_model: LanguageModelSpec = Field(description="The pretrained language model.")
    pictures: Literal["stored", "read"] = Field(
        default="stored",
        description="Whether pictures are framed once, into one file per framing for all jobs (stored), or "
        "decoded by every job (read).",
    )
    connector: ConnectorSettings = Field(description="How features become visual tokens.")
    world: WorldSettings = Field(description="Size of the procedural world.")
    training: TrainingSettings = Field(description="The training recipe.")
    evaluation: EvaluationSettings = Field(description="How models answer the benchmarks.")
    masks: MaskSettings = Field(description="How encoders are masked in the checkpoint of the full pool.")
    effective_rank: EffectiveRankSettings = Field(description="How effective rank is measured.")
    statistics: StatisticsSettings = Field(description="How intervals and the overall score are computed.")
    scores: ExternalScoresSettings | None = Field(
        default=None,
        description="A table of scores from elsewhere, analysed without training: its file, or a section of "
        "keys.",
    )
    checkpoint: MaskedCheckpoint | None = Field(
        default=None,
        description="A trained model from elsewhere, which `snakemake mask_checkpoint` masks and analyses.",
    )
    advisor: AdvisorSettings = Field(default=AdvisorSettings(), description="The design advisor.")
    plan: PlanSettings = Field(description="What `snakemake plan` assumes. No run reads it.")
    rehearsal: Literal["required", "optional"] = Field(
        default="required",
        description="Whether a study whose jobs request GPUs starts through Slurm only after `snakemake -- "
        "rehearse` has passed with this config, code and lock.",
    )
    jobs: dict[str, JobRequest] = Field(
        description="What one job of each rule requests from a cluster at its first attempt."
    )
    # each one complete after validation: the study with the variant's changes
    variants: dict[Name, Study] = Field(
        default_factory=dict,
        description="Name -> the connector, encoder or training keys that the variant changes; exactly one "
        "changes nothing.",
    )

    @model_validator(mode="before")
    @classmethod
    def _add_table_rows(cls, config: object) -> object:
        """Take encoders of the pool from the encoder table, and merge the config's rows into its rows."""
        if not isinstance(config, dict) or not isinstance(config.get("pool"), (list, tuple)):
            return config
        rows = config.get("encoders")
        if not isinstance(rows, dict):
            return config
        table = encoder_table()
        names = [name for name in config["pool"] if isinstance(name, str)]
        merged = {name: copy.deepcopy(table[name]) for name in names if name in table}
        changes = {name: row for name, row in rows.items() if isinstance(row, dict)}
        for name, row in merged.items():
            if {"pixels", "layer"} & changes.get(name, {}).keys():
                row["published"] = {"parameters": row["published"]["parameters"]}
        merge(merged, changes)
        return config | {"encoders": merged | {k: v for k, v in rows.items() if not isinstance(v, dict)}}

    @model_validator(mode="before")
    @classmethod
    def _complete_variants(cls, config: object) -> object:
        """Complete each variant: a config writes only its changes, and validation needs a complete study."""
        # pydantic runs the last validator first, so this runs before _add_table_rows: a variant's change of a
        # table row is then treated as the config's own
        if not isinstance(config, dict) or not isinstance(config.get("variants"), dict):
            return config
        base = {key: value for key, value in config.items() if key != "variants"}
        changes = config["variants"].items()
        complete = {name: _vary(base, name, change) for name, change in changes if isinstance(change, dict)}
        return config | {"variants": config["variants"] | complete}

    @model_validator(mode="after")
    def _check_sections_together(self) -> Self:
        """The checks between sections, in an order that reports the cause before its consequences."""
        self._check_pool()
        self._check_seeds()
        self._check_questions()
        self._check_learning_rates()
        self._check_subsets()
        self._check_benchmarks()
        self._check_jobs()
        self._check_processes()
        self._check_external_scores()
        self._check_checkpoint()
        self._check_sources()
        return self

    def _check_pool(self) -> None:
        """The encoders of the pool are distinct, have rows, and have the layers that the connector needs."""
        if len(set(self.pool)) != len(self.pool):
            raise ValueError(f"pool: an encoder is named twice in {list(self.pool)}")
        if reserved := {BLIND, NONE_KEPT} & set(self.pool):
            raise ValueError(f"pool: {sorted(reserved)} is a reserved word; give the encoder another name")
        if missing := [e for e in self.pool if e not in self.encoders]:
            rows = sorted({*self.encoders, *encoder_table()})
            raise ValueError(f"pool: {missing} has no row under encoders (known: {rows})")
        if self.connector.kind == "multi_level" and all(len(self.encoders[e].layers) == 1 for e in self.pool):
            raise ValueError(
                "connector.kind: 'multi_level' needs an encoder with several layers, such as `layer: [12, "
                "24]`"
            )

    def _check_seeds(self) -> None:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: a seed is named twice in {list(self.seeds)}")

    def _check_questions(self) -> None:
        """No stage takes more questions per picture than the procedural world has."""
        available = self.world.questions_per_picture
        for name, stage in (("align", self.training.align), ("tune", self.training.tune)):
            if stage.questions_per_picture > available:
                raise ValueError(
                    f"training.{name}.questions_per_picture: {stage.questions_per_picture} is more than the "
                    f"{available} of world.questions_per_picture"
                )

    def _check_learning_rates(self) -> None:
        if unknown := [e for e in self.training.tune.learning_rates.by_encoder if e not in self.pool]:
            raise ValueError(f"training.tune.learning_rates.by_encoder: {unknown[0]!r} is not in the pool")

    def _check_subsets(self) -> None:
        if self.subsets != "all":
            for subset in self.subsets:
                try:
                    parse_subset(subset, self.pool)
                except StudyError as error:
                    raise ValueError(f"subsets: {error}") from None

    def _check_benchmarks(self) -> None:
        """The benchmarks to evaluate exist, and the overlays are benchmarks that have one."""
        chosen = () if self.evaluation.benchmarks == "all" else self.evaluation.benchmarks
        if self.evaluation.data == "hub" and self.evaluation.split != "test":
            raise ValueError(
                f"evaluation.split: {self.evaluation.split} questions are generated, and evaluation.data is "
                "hub; set test"
            )
        if unknown := [name for name in chosen if name not in BENCHMARKS]:
            known = ", ".join(BENCHMARKS)
            raise ValueError(f"evaluation.benchmarks: unknown benchmark {unknown[0]!r} (known: {known})")
        if wrong := [name for name in self.overlays if name not in OVERLAYS]:
            known = ", ".join(OVERLAYS)
            raise ValueError(f"evaluation.overlays: {wrong[0]!r} has no overlay (those that have: {known})")

    def _check_jobs(self) -> None:
        if wrong := sorted(set(self.jobs) ^ set(JOBS)):
            fault = "unknown job" if wrong[0] in self.jobs else "missing"
            raise ValueError(f"jobs.{wrong[0]}: {fault} (the jobs are {', '.join(JOBS)})")

    def _check_processes(self) -> None:
        """A training divides its processes evenly over nodes and cores, and gives each a GPU or none."""
        processes = self.training.engine.processes
        for name, variant in self.variants.items():
            if (other := variant.training.engine.processes) != processes:
                raise ValueError(
                    f"variants.{name}.training.engine.processes: {other}, but the study's jobs have "
                    f"{processes}; change it for the study"
                )
        for name, job in self.jobs.items():
            if name in TRAINING_JOBS:
                _check_division(name, job, processes)
            elif job.nodes > 1:
                raise ValueError(
                    f"jobs.{name}.nodes: only {' and '.join(TRAINING_JOBS)} run on several nodes; set 1"
                )

    def _check_external_scores(self) -> None:
        if self.scores is not None and self.scores.study == self.study:
            raise ValueError(
                f"scores: results/{self.study} is the folder of this study; rename {self.scores.file}"
            )

    def _check_checkpoint(self) -> None:
        if self.checkpoint is not None and len(self.checkpoint.encoders) < 2:
            raise ValueError("checkpoint.encoders: has 1 entry, and roles need two encoders or more")

    def _check_sources(self) -> None:
        if self.sources == "train" and (fetched := self.hub_sources):
            raise ValueError(
                f"{next(iter(fetched)).replace('/', '.')}.revision: `sources: train` pretrains every source; "
                "remove the revision, or set `sources: pinned`"
            )

    @model_validator(mode="after")
    def _check_variants(self) -> Self:
        """The variants differ from each other, and exactly one is the study itself."""
        dumps = {name: variant.model_dump(exclude={"variants"}) for name, variant in self.variants.items()}
        if self.variants and list(dumps.values()).count(self.model_dump(exclude={"variants"})) != 1:
            raise ValueError(
                "variants: exactly one must change nothing, as `mlp: {}`; it names the unchanged study, "
                f"which the others are compared with (here: {list(dumps)})"
            )
        for one, other in itertools.combinations(dumps, 2):
            if dumps[one] == dumps[other]:
                raise ValueError(f"variants.{other}: the same study as variants.{one}; remove one of them")
        return self

    @property
    def baseline(self) -> str:
        """The variant that changes nothing, which the others are compared with; '' without variants."""
        unchanged = self.model_dump(exclude={"variants"})
        variants = self.variants.items()
        return next((name for name, v in variants if v.model_dump(exclude={"variants"}) == unchanged), "")

    @property
    def hub_sources(self) -> dict[str, HubSource]:
        """The pretrained sources that come from a hub, by the names of their folders."""
        sources: dict[str, Checkpoint] = {f"encoders/{name}": self.encoders[name] for name in self.pool}
        sources["language_model"] = self.language_model
        return {name: source.hub for name, source in sources.items() if source.hub}

    @property
    def user_records(self) -> dict[str, RecordFile]:
        """The user's data files by purpose (align, tune, probe); empty for the procedural world."""
        data = self.training.data
        return {} if data == "world" else data.files

    @property
    def overlays(self) -> tuple[str, ...]:
        """The benchmarks scored by our rule instead of lmms-eval's."""
        chosen = self.evaluation.overlays
        return OVERLAYS if chosen == "all" else tuple(dict.fromkeys(chosen))

    @property
    def benchmarks(self) -> tuple[str, ...]:
        """The benchmarks to evaluate, in the order of GROUPS."""
        chosen = self.evaluation.benchmarks
        return BENCHMARKS if chosen == "all" else tuple(b for b in BENCHMARKS if b in chosen)

    @property
    def full(self) -> str:
        """The subset of all encoders: the full pool."""
        return name_subset(self.pool, self.pool)

    @property
    def trained_subsets(self) -> tuple[str, ...]:
        """The subsets to train, smallest first, without `blind`. The full pool is always one of them."""
        if self.subsets == "all":
            return all_subsets(self.pool)
        chosen = {name_subset(parse_subset(s, self.pool), self.pool) for s in self.subsets} | {self.full}
        return tuple(s for s in all_subsets(self.pool) if s in chosen)

    @property
    def masks_of_full(self) -> tuple[str, ...]:
        """Every proper mask of the full checkpoint (kept encoders), smallest first; `none` keeps none."""
        return (NONE_KEPT, *all_subsets(self.pool)[:-1])


VARIANT_KEYS = ("connector", "encoders", "training")  # what a variant may change,
FIXED_ENCODER_KEYS = ("library", "source", "revision", "library_config")  # except these keys of an encoder


def _check_division(name: str, job: JobRequest, processes: int) -> None:
    """Raise ValueError unless a training job divides its processes evenly over nodes, cores and GPUs."""
    remainders = {"nodes": processes % job.nodes, "cpus": job.cpus > 1 and job.cpus % processes}
    for key, remainder in remainders.items():
        if remainder:
            raise ValueError(
                f"jobs.{name}.{key}: {getattr(job, key)} does not divide evenly with the {processes} of "
                "training.engine.processes"
            )
    if job.gpus not in (0, processes):
        raise ValueError(
            f"jobs.{name}.gpus: {job.gpus}, but training.engine.processes is {processes}; set one GPU per "
            "process, or none"
        )


def _vary(base: Mapping[str, Any], name: str, change: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a variant. Raises ValueError if it changes what all variants of a study share."""
    # a complete study, as settings files store it, has an empty `variants`
    change = {key: value for key, value in change.items() if key != "variants" or value}
    merged = copy.deepcopy(dict(base))
    merge(merged, copy.deepcopy(change))
    for key in change:
        if key not in VARIANT_KEYS and merged[key] != base.get(key):  # equal: settings files store every key
            raise ValueError(
                f"variants.{name}.{key}: a variant can only change {', '.join(VARIANT_KEYS)}; remove the key"
            )
    rows, changed_rows = base.get("encoders"), change.get("encoders")
    if isinstance(rows, dict) and isinstance(changed_rows, dict):
        for encoder, row in changed_rows.items():
            study_row = rows.get(encoder)
            base_row = encoder_table().get(encoder, {}) | (study_row if isinstance(study_row, dict) else {})
            for key in FIXED_ENCODER_KEYS:
                if isinstance(row, dict) and key in row and row[key] != base_row.get(key):
                    raise ValueError(
                        f"variants.{name}.encoders.{encoder}.{key}: a variant reads the study's checkpoints; "
                        "add the other checkpoint to the pool as an encoder"
                    )
    return merged


@functools.cache
def encoder_table() -> dict[str, dict[str, Any]]:
    """The full-scale encoder table: name -> row, as a config writes it. Do not modify it."""
    table: dict[str, dict[str, Any]] = yaml.safe_load(ENCODER_TABLE.read_text(encoding="utf-8"))
    return table


def validate_study(
    config: Mapping[str, Any], where: str = "config.yaml", places: Mapping[tuple[str, ...], str] | None = None
) -> Study:
    """A validated Study from a parsed config.

    Args:
        config: the keys of config.yaml with their overrides.
        where: the names of the files, for the message.
        places: the file and line that set a key, for the message.

    Raises:
        StudyError: one line that names every faulty key.
    """
    try:
        return Study.model_validate(dict(config))
    except ValidationError as error:
        # every variant repeats the study's faults: report them once
        faults = describe_faults(error, repeated="variants", places=places)
    except RecursionError:
        faults = "sections are nested too deeply to be read; flatten them"
    raise StudyError(f"{where}: {faults}")


def load_study(*configs: Path, changes: Mapping[str, Any] | None = None) -> Study:
    """A study from config.yaml and its overrides in order, merged key by key, as --configfile merges.

    Args:
        configs: the files.
        changes: further keys, as `snakemake --config` gives them.

    Raises:
        StudyError: a file cannot be read, or the merged config does not validate.
    """
    merged, places = read_configs(configs)
    merge(merged, {key: read_values(key, value) for key, value in (changes or {}).items()})
    return validate_study(merged, ", ".join(str(path) for path in configs), places)
