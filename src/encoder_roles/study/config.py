"""A whole study: its sections held against each other, its variants, and how it is read from files."""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from encoder_roles.study.names import (
    BENCHMARKS,
    BLIND,
    JOBS,
    NONE_KEPT,
    OVERLAYS,
    TRAINED,
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
    MaskSettings,
    Name,
    OwnData,
    PlanSettings,
    RecordFile,
    Settings,
    StatisticsSettings,
    TrainingSettings,
    WorldSettings,
)

# The full-scale encoders, a row each.
ENCODER_TABLE = Path(__file__).parent.with_name("encoders") / "table.yaml"


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
    pictures: Literal["stored", "read"] = "stored"  # framed once into one file, or decoded by every job
    connector: ConnectorSettings
    world: WorldSettings
    training: TrainingSettings
    evaluation: EvaluationSettings
    masks: MaskSettings
    effective_rank: EffectiveRankSettings
    statistics: StatisticsSettings
    scores: ExternalScoresSettings | None = None
    advisor: AdvisorSettings = AdvisorSettings()
    plan: PlanSettings
    jobs: dict[str, JobRequest]
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
                "connector.kind: 'multi_level' needs an encoder of the pool that has several layers, as "
                "`layer: [12, 24]`"
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
        if wrong := sorted(set(self.jobs) ^ set(JOBS)):
            fault = "unknown job" if wrong[0] in self.jobs else "missing"
            raise ValueError(f"jobs.{wrong[0]}: {fault} (there is a row for each of {', '.join(JOBS)})")
        self._check_processes()
        if self.scores is not None and self.scores.study == self.study:
            raise ValueError(
                f"scores: results/{self.study} is this study's own folder; rename {self.scores.file}"
            )
        if self.sources == "train" and (fetched := self.hub_sources):
            raise ValueError(
                f"{next(iter(fetched)).replace('/', '.')}.revision: with `sources: train` every source is "
                "pretrained here; remove the revision, or set `sources: pinned`"
            )
        return self

    def _check_processes(self) -> None:
        """A training divides its processes evenly among nodes and cores, with a GPU each or none."""
        processes = self.training.engine.processes
        for name, variant in self.variants.items():
            if (other := variant.training.engine.processes) != processes:
                raise ValueError(
                    f"variants.{name}.training.engine.processes: {other}, but the study's jobs have "
                    f"{processes}: change it for the study"
                )
        for name, job in self.jobs.items():
            if name not in TRAINED:
                if job.nodes > 1:
                    raise ValueError(f"jobs.{name}.nodes: only {' and '.join(TRAINED)} run on several nodes")
                continue
            for key, amount in (
                ("nodes", processes % job.nodes),
                ("cpus", job.cpus > 1 and job.cpus % processes),
            ):
                if amount:
                    raise ValueError(
                        f"jobs.{name}.{key}: the {processes} of training.engine.processes cannot be divided "
                        f"evenly with {key}: {getattr(job, key)}"
                    )
            if job.gpus not in (0, processes):
                raise ValueError(
                    f"jobs.{name}.gpus: {job.gpus}, but training.engine.processes is {processes}: "
                    "a GPU for each, or none"
                )

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
    def own_records(self) -> dict[str, RecordFile]:
        """The user's own data files, by what they are for; none on the procedural world."""
        data = self.training.data
        if data == "world":
            return {}
        return {name: getattr(data, name) for name in OwnData.model_fields}

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


# keys of earlier versions -> what they are called now
RENAMED = {"rank": "effective_rank", "engine.ranks": "engine.processes"}
VARIED = ("connector", "encoders", "training")  # what a variant may change
SAME_ENCODER = ("library", "source", "revision", "library_config")  # but not of an encoder


def _vary(base: Mapping[str, Any], name: str, change: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a variant. Raises ValueError where it changes what all variants of a study share."""
    # a whole study, as settings files write it, has a key `variants` that is empty
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


def validate_study(config: Mapping[str, Any], where: str = "config.yaml") -> Study:
    """A validated Study from a parsed config. Raises StudyError: one line that names every faulty key."""
    try:
        return Study.model_validate(dict(config))
    except ValidationError as error:
        # what is wrong with the study is wrong with each of its variants too: told once
        raise StudyError(f"{where}: {describe_faults(error, repeated='variants')}") from None


def describe_faults(error: ValidationError, repeated: str = "") -> str:
    """Every fault of a file's keys in one line; those below the key `repeated` if there are no others."""
    # a list with a wrong entry is also reported as too short: only the entry is at fault
    faults = [f for f in error.errors() if f["type"] != "too_short" or not f["input"]]
    faults = faults or list(error.errors())
    faults = [f for f in faults if f["loc"][:1] != (repeated,)] or faults
    return "; ".join(_fault(fault) for fault in faults)


def _fault(fault: Mapping[str, Any]) -> str:
    """One fault of a config in words: its key, what is wrong and, where it is short, the value found."""
    key = ".".join(str(part) for part in fault["loc"] if "[" not in str(part))  # less the types of a union
    said = str(fault["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    if fault["type"] == "extra_forbidden":
        for old, new in RENAMED.items():
            if key == old or key.endswith(f".{old}"):
                return f"{key}: is now called {new} (rename the key)"
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
