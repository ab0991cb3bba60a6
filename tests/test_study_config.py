"""The config: what is accepted, and the one line that reports a fault."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from encoder_roles.study.config import encoder_table, load_study, validate_study
from encoder_roles.study.names import BENCHMARKS, GROUPS, StudyError, all_subsets, name_subset, parse_subset
from encoder_roles.study.stages import stage_table

ROOT = Path(__file__).resolve().parent.parent
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
POOL = ("clip", "siglip", "dinov2", "convnext", "sam")


def changed(path: str, value: Any) -> dict[str, Any]:
    """config.yaml with one key (`a.b.c`) set to a value."""
    config = copy.deepcopy(CONFIG)
    section = config
    *above, key = path.split(".")
    for part in above:
        section = section[part]
    section[key] = value
    return config


FAULTS = {
    "an unknown key": ("trainings", {}, "trainings: unknown key"),
    "an unknown key in a section": ("training.tune.step", 3, "training.tune.step: unknown key"),
    "an unknown encoder": ("pool", ["clip", "eva"], "['eva'] has no row under encoders"),
    "an unknown encoder in a subset": ("subsets", ["clip+eva"], "subset 'clip+eva': encoder 'eva' is not in"),
    "an empty pool": ("pool", [], "pool: has 0 entries"),
    "an encoder twice": ("pool", ["clip", "clip"], "pool: an encoder is named twice"),
    "a reserved name": ("pool", ["clip", "blind"], "'blind'] is a reserved word"),
    "two rules of when checkpoints are written": (
        "training.checkpoint_minutes",
        20,
        "checkpoint_every, checkpoint_minutes: both are set; set one of them and the other to null",
    ),
    "no rule of when checkpoints are written": (
        "training.checkpoint_every",
        None,
        "checkpoint_every, checkpoint_minutes: neither is set; set one of them and the other to null",
    ),
    "seeds that are words": ("seeds", ["first"], "seeds.0: must be a valid integer, not 'first'"),
    "seeds that are fractions": ("seeds", [0.5], "seeds.0: must be a valid integer, not 0.5"),
    "seeds that are no list": ("seeds", 3, "seeds: must be a valid list, not 3"),
    "a seed twice": ("seeds", [1, 1], "seeds: a seed is named twice"),
    "a benchmark without a group": (
        "evaluation.benchmarks",
        ["mme", "vqa"],
        "unknown benchmark 'vqa' (known: mme, ",
    ),
    "an unknown operator": ("masks.operators", ["zeros"], "masks.operators.0: must be 'zero'"),
    "a precision that is none": (
        "evaluation.precision",
        "fp16",
        "evaluation.precision: must be 'fp32' or 'bf16', not 'fp16'",
    ),
    "a learning rate of zero": ("training.align.learning_rate", 0, "training.align.learning_rate: must be"),
    "more questions than a picture has": (
        "training.tune.questions_per_picture",
        9,
        "training.tune.questions_per_picture: 9 is more than the 4 of world.questions_per_picture",
    ),
    "a revision of a folder": (
        "encoders.clip.revision",
        "main",
        "encoders.clip.source: with a revision it must be a repository of a hub (owner/name), not 'sources/",
    ),
    "an overlay of a benchmark without one": (
        "evaluation.overlays",
        ["gqa"],
        "evaluation.overlays: 'gqa' has no overlay",
    ),
    "a layer that is a word": (
        "encoders.clip.layer",
        ["last"],
        "encoders.clip.layer: must be a whole number",
    ),
    "no layers": (
        "encoders.clip.layer",
        [],
        "must be a whole number or a list of whole numbers",
    ),
    "a layer twice": ("encoders.clip.layer", [2, 2], "encoders.clip.layer: names a layer twice"),
    "no mean": ("encoders.clip.mean", None, "encoders.clip.mean: missing (normalisation is 'channels')"),
    "a mean beside the picture's own": (
        "encoders.clip.normalisation",
        "picture",
        "encoders.clip.mean: not read, remove it (normalisation is 'picture')",
    ),
    "a deviation of zero": ("encoders.clip.std", [1, 1, 0], "encoders.clip.std: must be positive"),
    "an unknown aspect": ("encoders.clip.aspect", "stretch", "encoders.clip.aspect: must be 'squash'"),
    "an unknown connector": ("connector.kind", "qformer", "connector.kind: must be 'linear'"),
    "a connector without its keys": (
        "connector.kind",
        "vit",
        "connector.depth: missing; the kind 'vit' needs",
    ),
    "a key of another connector": (
        "connector.queries",
        9,
        "connector.queries: remove it; the kind 'mlp'",
    ),
    "a width of another connector": (
        "connector.width",
        9,
        "connector.width: remove it; the kind 'mlp'",
    ),
    "levels without levels": (
        "connector.kind",
        "multi_level",
        "connector.kind: 'multi_level' needs an encoder with several layers",
    ),
    "heads that do not divide": (
        "connector",
        {"kind": "vit", "depth": 1, "heads": 3, "width": 8},
        "connector.heads: 3 does not divide the width of 8",
    ),
    "a query grid that does not divide": (
        "connector",
        {"kind": "sva", "depth": 1, "heads": 1, "groups": 1, "grid": 4, "query_grid": 3},
        "connector.query_grid: 3 does not divide the grid of 4",
    ),
    "nodes of a job that is one process": (
        "jobs.predict_masks.nodes",
        2,
        "jobs.predict_masks.nodes: only train_align and train_tune run on several nodes",
    ),
    "more nodes than processes": (
        "jobs.train_tune.nodes",
        2,
        "jobs.train_tune.nodes: 2 does not divide evenly with the 1 of training.engine.processes",
    ),
    "GPUs that no process uses": (
        "jobs.train_tune.gpus",
        4,
        "jobs.train_tune.gpus: 4, but training.engine.processes is 1; set one GPU per process",
    ),
    "too many channels": ("encoders.clip.mean", [0, 0, 0, 0], "encoders.clip.mean: has 4 entries, at most 3"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_that_names_file_and_key(fault: str) -> None:
    key, value, expected = FAULTS[fault]
    with pytest.raises(StudyError) as error:
        validate_study(changed(key, value), "config.yaml, studies/mine.yaml")
    message = str(error.value)
    assert message.startswith("config.yaml, studies/mine.yaml: ")
    assert expected in message
    assert "\n" not in message
    assert message.count(expected) == 1, "one fault is reported once"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("rank", "rank: is now called effective_rank (rename the key)"),
        ("training.engine.ranks", "training.engine.ranks: is now called engine.processes (rename the key)"),
        (
            "evaluation.batch_questions",
            "evaluation.batch_questions: is now called batch_tokens, and counts tokens (rename the key)",
        ),
    ],
)
def test_a_key_of_an_earlier_version_is_one_line_that_names_the_new_key(
    tmp_path: Path, path: str, message: str
) -> None:
    value: Any = 2
    for key in reversed(path.split(".")):
        value = {key: value}
    old, line = tmp_path / "old.yaml", 1 + path.count(".")
    old.write_text(yaml.safe_dump(value))
    with pytest.raises(StudyError) as error:
        load_study(ROOT / "config.yaml", old)
    assert str(error.value) == f"{ROOT / 'config.yaml'}, {old}: {message} ({old}, line {line})"


def test_a_source_is_pretrained_here_or_taken_from_a_hub_but_not_both() -> None:
    config = changed("encoders.sam", CONFIG["encoders"]["sam"] | {"source": "owner/sam", "revision": "main"})
    assert list(validate_study(config).hub_sources) == ["encoders/sam"]
    with pytest.raises(StudyError, match=r"encoders\.sam\.revision: `sources: train` pretrains"):
        validate_study(config | {"sources": "train"})


def test_an_encoder_of_the_table_is_taken_by_its_name() -> None:
    study = validate_study(changed("pool", ["clip", "sam_l"]))
    assert study.encoders["sam_l"].source == "facebook/sam-vit-large"
    assert list(study.hub_sources) == ["encoders/sam_l"]
    assert set(study.encoders) == {*CONFIG["encoders"], "sam_l"}
    assert "sam_l" not in validate_study(CONFIG).encoders


def test_a_row_of_the_config_changes_single_keys_of_the_tables() -> None:
    config = changed("pool", ["clip_l", "dinov2_l"])
    config["encoders"]["clip_l"] = {"layer": [12, 24]}
    config["encoders"]["dinov2_l"] = {"source": "my/folder"}  # the table's revision is another source's
    study, table = validate_study(config), encoder_table()
    clip = study.encoders["clip_l"]
    assert (clip.layers, clip.pixels, clip.revision) == ((12, 24), 336, table["clip_l"]["revision"])
    assert clip.published is not None  # of another layer: its width is no longer the published one
    assert (clip.published.parameters, clip.published.width) == (304530000, None)
    assert study.encoders["dinov2_l"].hub is None
    assert table["clip_l"]["layer"] == -1
    assert table["clip_l"]["published"]["width"] == 1024


def test_a_users_own_encoder_is_one_row() -> None:
    config = changed("pool", ["clip", "mine"])
    config["encoders"]["mine"] = {"library": "timm", "source": "me/vit", "revision": "v1", "pixels": 224} | {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
    }
    assert validate_study(config).trained_subsets == ("clip", "mine", "clip+mine")


def test_every_fault_of_a_config_is_told_at_once() -> None:
    config = changed("seeds", ["a"]) | {"polo": 1}
    del config["world"]
    with pytest.raises(StudyError) as error:
        validate_study(config)
    assert all(part in str(error.value) for part in ("seeds.0", "polo: unknown key", "world: missing"))


@pytest.mark.parametrize(
    "study", sorted(path.name for path in (ROOT / "studies").glob("*.yaml") if ".lock" not in path.name)
)
def test_every_study_of_the_repository_is_valid_and_has_results_of_its_own(study: str) -> None:
    loaded = load_study(ROOT / "config.yaml", ROOT / "studies" / study)
    assert loaded.study == study.removesuffix(".yaml")


NETWORKS = ("extract_features", "train_align", "train_tune", "predict_subset", "predict_masks")
NETWORKS += ("measure_pretrained_ranks", "measure_ranks")


@pytest.mark.parametrize("name", ["cambrian", "eagle", "pool2026", "connectors", "levels", "frozen"])
def test_a_study_of_real_size_runs_every_network_on_gpus_and_answers_as_it_is_trained(name: str) -> None:
    study = load_study(ROOT / "config.yaml", ROOT / f"studies/{name}.yaml")
    processes = study.training.engine.processes
    gpus = {rule: study.jobs[rule].gpus for rule in NETWORKS}
    assert gpus == {rule: processes if rule.startswith("train") else 1 for rule in NETWORKS}
    assert study.evaluation.precision == study.training.engine.precision == "bf16"


def test_an_override_changes_its_keys_and_no_other(tmp_path: Path) -> None:
    override = tmp_path / "mine.yaml"
    override.write_text("study: mine\npool: [sam, clip]\ntraining: {tune: {epochs: 3}}\n")
    base, mine = load_study(ROOT / "config.yaml"), load_study(ROOT / "config.yaml", override)
    assert (mine.study, mine.pool, mine.training.tune.epochs) == ("mine", ("sam", "clip"), 3)
    tune = mine.training.tune.model_copy(update={"epochs": base.training.tune.epochs})
    training = mine.training.model_copy(update={"tune": tune})
    assert base == mine.model_copy(update={"study": base.study, "pool": base.pool, "training": training})


@pytest.mark.parametrize("text", ["pool: [clip", "- clip\n", ""])
def test_a_config_that_is_no_mapping_is_told_with_its_file(tmp_path: Path, text: str) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(text)
    with pytest.raises(StudyError, match=r"broken\.yaml(, line 1)?: ") as error:
        load_study(ROOT / "config.yaml", broken)
    assert "\n" not in str(error.value)


def test_a_missing_config_is_told_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"absent\.yaml: cannot be read"):
        load_study(tmp_path / "absent.yaml")


@given(st.sets(st.sampled_from(POOL)))
def test_a_subset_has_one_name_and_the_name_gives_it_back(encoders: set[str]) -> None:
    name = name_subset(frozenset(encoders), POOL)
    assert set(parse_subset(name, POOL)) == encoders
    assert name_subset(parse_subset("+".join(reversed(name.split("+"))), POOL), POOL) == name


@given(st.integers(1, 7))
def test_a_pool_of_n_has_two_to_the_n_less_one_subsets_smallest_first(n: int) -> None:
    subsets = all_subsets(tuple("abcdefg"[:n]))
    sizes = [subset.count("+") + 1 for subset in subsets]
    assert len(set(subsets)) == len(subsets) == 2**n - 1
    assert sizes == sorted(sizes)


def test_the_full_pool_is_trained_whatever_subsets_are_asked_for() -> None:
    study = validate_study(changed("subsets", ["sam+clip"]))
    assert study.trained_subsets == ("clip+sam", "+".join(POOL))


def test_the_masks_are_all_proper_subsets_and_none() -> None:
    study = validate_study(CONFIG)
    assert len(study.masks_of_full) == 31
    assert study.full not in study.masks_of_full
    assert "none" in study.masks_of_full


def test_sixteen_benchmarks_stand_in_four_groups_of_four() -> None:
    assert len(set(BENCHMARKS)) == 16
    assert {len(benchmarks) for benchmarks in GROUPS.values()} == {4}


@pytest.mark.parametrize(
    ("key", "value", "stages"),
    [
        ("training.tune.epochs", 2, {"tune", "roles"}),
        ("training.align.steps", 7, {"align", "roles"}),
        ("encoders.sam.pixels", 96, {"encoder_sam", "roles"}),
        ("connector.layers", 3, {"align", "tune", "roles"}),
        ("masks.calibration_pictures", 9, {"masks"}),
        ("evaluation.precision", "bf16", {"predict", "masks"}),
        ("training.engine.precision", "bf16", {"align", "tune"}),
        ("world.seed", 9, {"world", "roles"}),
        ("world.train_pictures", 4000, {"world", "roles", "paper"}),
        ("effective_rank.tau", 0.2, {"roles"}),
    ],
)
def test_an_edit_changes_the_settings_of_the_stages_that_read_it(
    key: str, value: Any, stages: set[str]
) -> None:
    # `roles` has the hash of the recipe, because the noise between seeds of another recipe is not its own
    before, after = stage_table(validate_study(CONFIG)), stage_table(validate_study(changed(key, value)))
    assert {stage for stage in before if before[stage] != after[stage]} == {*stages, "study"}


def test_a_record_of_ones_own_is_a_sample_and_the_worlds_of_a_picture_are_one() -> None:
    own = {name: {"records": f"{name}.json", "pictures": "pictures"} for name in ("align", "tune", "probe")}
    world = load_study(ROOT / "config.yaml")
    study = world.model_dump(mode="json")
    study["training"]["data"] = own
    grouped = [
        stage_table(s)["tune"].model_dump()["group_by_picture"] for s in (world, validate_study(study))
    ]
    assert grouped == [True, False]
