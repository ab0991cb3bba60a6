"""Variants: whole studies in one config, what they share, and their comparison on the same questions."""

from __future__ import annotations

import json
import re
import runpy
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import yaml
from drawn import faces, near, points, same_rows, segments
from lattice_simulation import CHANCE, true_score
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from snakemake_call import copy_workflow, planned, snakemake

from encoder_roles.analysis.claims.claim import Claim, read_claims
from encoder_roles.analysis.claims.variant_claims import compare_variants
from encoder_roles.paper.catalogue import VARIANT_TABLES
from encoder_roles.paper.style import ACCENT
from encoder_roles.provenance import write_json
from encoder_roles.study.config import Study, load_study, validate_study
from encoder_roles.study.names import BLIND, StudyError
from encoder_roles.study.stages import stage_table
from encoder_roles.study.variants import MEAN, VariantRow, VariantStage, owner, variant_stage

ROOT = Path(__file__).resolve().parent.parent
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "config.yaml").read_text())
STUDIES = sorted(p for p in (ROOT / "studies").glob("*.yaml") if "\nvariants:" in p.read_text())
LINEAR = {"connector": {"kind": "linear"}}
BENCHMARKS = (("mme", "General"), ("gqa", "General"), ("ai2d", "Knowledge"))
SUBSETS = ("clip", "dinov2", "clip+dinov2")


def with_variants(**variants: Any) -> Study:
    """The laptop study with variants."""
    return validate_study(CONFIG | {"variants": {"mlp": {}} | variants})


# --- the config ----------------------------------------------------------------------------------


def test_there_is_a_study_for_each_claim_at_full_and_at_laptop_scale() -> None:
    names = {f"{scale}{study}" for scale in ("", "laptop_") for study in ("connectors", "levels", "frozen")}
    assert names <= {path.stem for path in STUDIES}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_variant_of_a_study_is_a_valid_study_that_differs_from_the_others(path: Path) -> None:
    study = load_study(ROOT / "config.yaml", path)
    assert study.study == path.stem
    assert study.variants[study.baseline].model_dump(exclude={"variants"}) == study.model_dump(
        exclude={"variants"}
    )
    rows = variant_stage(study).variants
    assert [row.name for row in rows] == list(study.variants)
    for row in rows:
        if row.name == study.baseline:
            assert row.shared == (BLIND, *study.trained_subsets)
        else:
            assert set(row.shared) <= {BLIND}, "but for the blind model, every model is another"
    assert (study.evaluation.data == "world") == path.stem.startswith("laptop_")


@pytest.mark.parametrize("name", ["connectors", "levels", "frozen", "pool2026"])
def test_the_full_scale_studies_have_the_recipe_of_the_cambrian_study(name: str) -> None:
    study, cambrian = (
        load_study(ROOT / "config.yaml", ROOT / f"studies/{s}.yaml") for s in (name, "cambrian")
    )
    if name != "pool2026":
        assert study.pool == cambrian.pool
    for section in (
        "seeds",
        "language_model",
        "connector",
        "training",
        "evaluation",
        "statistics",
        "plan",
    ):
        assert getattr(study, section) == getattr(cambrian, section), section


FAULTS = {
    "a value that cannot be": (
        {"mlp": {}, "wide": {"connector": {"kind": "swa"}}},
        "variants.wide.connector.kind: must be",
    ),
    "a key that is missing": (
        {"mlp": {}, "wide": {"connector": {"kind": "sva"}}},
        "variants.wide.connector.depth: missing",
    ),
    "an unknown key": ({"mlp": {}, "wide": {"conector": {}}}, "variants.wide.conector: a variant can only"),
    "another pool": ({"mlp": {}, "small": {"pool": ["clip"]}}, "variants.small.pool: a variant can only"),
    "another checkpoint": (
        {"mlp": {}, "other": {"encoders": {"clip": {"source": "elsewhere"}}}},
        "variants.other.encoders.clip.source: a variant reads",
    ),
    "a rule about two sections": (
        {"mlp": {}, "more": {"training": {"align": {"questions_per_picture": 9}}}},
        "variants.more.training.align.questions_per_picture: 9 is more than",
    ),
    "other ranks than the study's jobs have": (
        {"mlp": {}, "two": {"training": {"engine": {"kind": "deepspeed", "processes": 2}}}},
        "variants.two.training.engine.processes: 2, but the study's jobs have 1",
    ),
    "no baseline": ({"wide": LINEAR}, "variants: exactly one must change nothing"),
    "two baselines": ({"mlp": {}, "same": {"connector": {"kind": "mlp"}}}, "variants: exactly one must"),
    "a variant twice": ({"mlp": {}, "a": LINEAR, "b": LINEAR}, "variants.b: the same study as variants.a"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_variant_is_one_line_that_names_the_variant_and_the_key(fault: str) -> None:
    variants, expected = FAULTS[fault]
    with pytest.raises(StudyError) as raised:
        validate_study(CONFIG | {"variants": variants})
    assert str(raised.value).startswith(f"config.yaml: {expected}")
    assert "\n" not in str(raised.value) and str(raised.value).count("variants") <= 2, "one fault"


def test_a_fault_of_the_study_itself_is_told_once_and_not_for_every_variant() -> None:
    with pytest.raises(StudyError) as raised:
        validate_study(CONFIG | {"pool": [], "variants": {"mlp": {}, "linear": LINEAR}})
    assert str(raised.value) == "config.yaml: pool: has 0 entries, 1 or more are needed"


def test_other_layers_of_a_published_encoder_are_not_held_against_the_width_of_its_row() -> None:
    variants = {"last": {}, "levels": {"encoders": {"clip_l": {"layer": [12, -1]}}}}
    study = validate_study(CONFIG | {"pool": ["clip_l"], "variants": variants})
    widths = [study.variants[name].encoders["clip_l"].published for name in ("last", "levels")]
    assert [published.width for published in widths if published] == [1024, None]
    assert {published.parameters for published in widths if published} == {304_530_000}


def test_a_study_with_variants_is_the_same_after_it_was_written_and_read() -> None:
    study = load_study(ROOT / "config.yaml", ROOT / "studies/levels.yaml")
    assert Study.model_validate(json.loads(study.model_dump_json())) == study


def test_a_study_without_variants_has_none_of_their_settings() -> None:
    study = validate_study(CONFIG)
    assert study.variants == {} and study.baseline == ""
    assert "variants" not in stage_table(study)


# --- what is shared ------------------------------------------------------------------------------


def test_what_two_variants_read_alike_has_one_owner() -> None:
    levels = {"encoders": {"clip": {"layer": [2, -1]}}}
    study = with_variants(
        frozen={"training": {"tune": {"train_encoders": False}}},
        levels=levels,
        weighted=levels | {"connector": {"kind": "multi_level"}},
    )
    assert owner(study, "frozen", "align", "clip") == "mlp", "frozen differs in tune alone"
    assert owner(study, "frozen", "tune", "clip") == "frozen"
    assert owner(study, "weighted", "features", "clip") == "levels", "the same two layers"
    assert owner(study, "weighted", "align", "clip") == "weighted"
    assert owner(study, "levels", "features", "sam") == "mlp"
    assert owner(study, "levels", "answers", "sam") == "mlp", "a subset without clip is the study's own"
    assert owner(study, "levels", "answers", "clip+sam") == "levels"
    assert {owner(study, name, "answers", BLIND) for name in study.variants} == {"mlp"}


def test_another_grid_keeps_features_apart_and_another_recipe_of_tune_the_blind_model() -> None:
    study = with_variants(
        fine={"connector": {"grid": 8}}, long={"training": {"tune": {"epochs": 2}}}, linear=LINEAR
    )
    assert owner(study, "fine", "features", "clip") == "fine"
    assert owner(study, "fine", "encoder", "clip") == "mlp"
    assert owner(study, "linear", "features", "clip") == "mlp"
    assert owner(study, "long", "tune", BLIND) == "long"


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_workflow(tmp_path_factory.mktemp("variants"))


def test_the_dag_trains_every_variant_once_and_makes_once_what_they_share(workflow: Path) -> None:
    jobs = planned(workflow, "--configfile", "studies/laptop_levels.yaml")
    count = Counter(rule for rule, _ in jobs)
    trained = [(w["variant"], w["subset"]) for rule, w in jobs if rule == "tune_variant"]
    subsets = {"clip", "siglip", "dinov2", "clip+dinov2", "clip+siglip+dinov2"}
    assert sorted(trained) == sorted((v, s) for v in ("levels", "weighted") for s in subsets)
    assert count["align_variant"] == count["predict_variant"] == len(trained)
    assert (count["train_tune"], count["train_align"]) == (len(subsets) + 1, len(subsets)), "the baseline's"
    assert (count["make_world"], count["write_requests"], count["stage_language_model"]) == (1, 1, 1)
    features = [(w["variant"], w["encoder"]) for rule, w in jobs if rule == "extract_variant_features"]
    assert sorted(features) == [("levels", encoder) for encoder in ("clip", "dinov2", "siglip")], (
        "the two variants read the same layers"
    )
    assert (count["score_variant"], count["cost_variant"], count["compare_variants"]) == (3, 3, 1)
    assert not {"predict_masks", "measure_ranks", "build_paper"} & set(count), "what a comparison needs"


def test_frozen_encoders_are_tuned_from_the_connectors_that_trained_ones_start_from(workflow: Path) -> None:
    count = Counter(r for r, _ in planned(workflow, "--configfile", "studies/laptop_frozen.yaml"))
    assert (count["train_align"], count["align_variant"], count["tune_variant"]) == (6, 0, 6)


def test_the_paper_of_a_study_with_variants_is_that_of_its_baseline(workflow: Path) -> None:
    count = Counter(
        r for r, _ in planned(workflow, "--configfile", "studies/laptop_frozen.yaml", "--", "paper")
    )
    assert count["build_paper"] == 1 and count["predict_masks"] == 2
    assert not [rule for rule in count if "variant" in rule]


def test_the_paper_waits_for_a_variant_that_only_trains_longer(workflow: Path) -> None:
    longer = {"study": "longer", "subsets": ["clip"], "masks": {"operators": ["zero"]}}
    longer["variants"] = {"base": {}, "longer": {"training": {"tune": {"epochs": 7}}}}
    (workflow / "studies/longer.yaml").write_text(yaml.safe_dump(longer))
    count = Counter(r for r, _ in planned(workflow, "--configfile", "studies/longer.yaml", "--", "paper"))
    jobs = (count["build_paper"], count["compare_variants"], count["tune_variant"])
    assert jobs == (1, 1, 3), "clip, the full pool and blind train longer"


def test_recipes_are_compared_on_development_questions(workflow: Path) -> None:
    done = snakemake(workflow, "--dry-run", "--configfile", "studies/laptop_recipes.yaml", "--", "variants")
    assert done.returncode == 0, done.stdout + done.stderr
    inputs = re.findall(r"rule (write_requests|score_variant):\n +input: (.*)", done.stdout)
    assert {rule for rule, _ in inputs} == {"write_requests", "score_variant"}
    assert all(set(re.findall(r"mme/(\w+)\.parquet", files)) == {"development"} for _, files in inputs)


def test_a_faulty_variant_ends_the_workflow_in_one_line(workflow: Path) -> None:
    (workflow / "studies/faulty.yaml").write_text(
        yaml.safe_dump({"variants": {"mlp": {}, "wide": {"pool": []}}})
    )
    failed = snakemake(workflow, "--dry-run", "--configfile", "studies/faulty.yaml")
    errors = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert failed.returncode != 0 and len(errors) == 1 and "variants.wide.pool" in errors[0]


# --- the comparison ------------------------------------------------------------------------------


def stage_of(effects: dict[str, dict[str, Any]], **changes: Any) -> VariantStage:
    """The settings of a comparison; `changes` are of its statistics."""
    statistics = {"resamples": 300, "level": 0.95, "seed": 0, "overall": "benchmarks"}
    statistics |= {"seed_deviation": 0.0} | changes  # stated: variants with one seed have verdicts
    row = {"connector": "mlp", "levels": 1, "train_encoders": True, "shared": (BLIND,)}
    rows = [VariantRow(**(row | {"name": name} | traits)) for name, traits in effects.items()]
    base = next(iter(effects))
    return VariantStage(
        study="simulated", pool=("clip", "dinov2"), baseline=base, variants=tuple(rows), statistics=statistics
    )


def write_simulation(
    folder: Path, effects: dict[str, float], random: np.random.Generator, questions: int = 300
) -> None:
    """Scores and costs of variants whose skill differs by `effects` (logits), on questions that all of them
    answer: two of a cluster, of one difficulty."""
    skill = {BLIND: -1.0, "clip": 0.0, "dinov2": 0.2, "clip+dinov2": 1.0}
    difficulty = {b: random.normal(0, 1, questions // 2).repeat(2) for b, _ in BENCHMARKS}
    blind = {b: random.random(questions) for b, _ in BENCHMARKS}
    for place, (variant, effect) in enumerate(effects.items()):
        tables = []
        for subset, base in skill.items():
            for benchmark, group in BENCHMARKS:
                logit = base + (0 if subset == BLIND else effect) - difficulty[benchmark]
                draw = blind[benchmark] if subset == BLIND else random.random(questions)
                right = draw < CHANCE + (1 - CHANCE) / (1 + np.exp(-logit))
                table = pd.DataFrame({"score": np.where(right, 100.0, 0.0)})
                table["question"] = [f"q{n}" for n in range(questions)]
                table["cluster"] = [f"c{n // 2}" for n in range(questions)]
                known = {"study": "simulated", "subset": subset, "seed": 0, "operator": "unmasked"}
                known |= {"benchmark": benchmark, "group": group, "weight": 1.0, "unparsable": False}
                tables.append(table.assign(**known, mask="none" if subset == BLIND else subset))
        (folder / variant).mkdir(parents=True, exist_ok=True)
        pd.concat(tables).to_parquet(folder / variant / "scores.parquet", index=False)
        costs = pd.DataFrame({"subset": list(skill), "study": "simulated", "seed": 0, "parameters": 1000})
        for column in ("align_flops", "tune_flops", "align_seconds", "tune_seconds", "predict_seconds"):
            costs[column] = 10.0 * 2**place
        costs.to_csv(folder / variant / "costs.csv", index=False)


def compared(folder: Path, stage: VariantStage) -> tuple[pd.DataFrame, list[Claim]]:
    """variants.csv and variant_claims.json of a folder of variants, through the command."""
    write_json(folder / "settings/variants.json", stage.model_dump(mode="json"))
    names = [row.name for row in stage.variants]
    compare_variants(
        settings=folder / "settings/variants.json",
        scores=tuple(folder / name / "scores.parquet" for name in names),
        costs=tuple(folder / name / "costs.csv" for name in names),
        output=folder / "variants.csv",
        claims=folder / "variant_claims.json",
    )
    return pd.read_csv(folder / "variants.csv"), read_claims(folder / "variant_claims.json")


def overall(table: pd.DataFrame, subset: str = MEAN) -> pd.DataFrame:
    return table[(table["level"] == "overall") & (table["subset"] == subset)].set_index("variant")


def test_paired_differences_recover_a_planted_effect_and_find_none_where_there_is_none(
    tmp_path: Path,
) -> None:
    effects = {"mlp": 0.0, "same": 0.0, "better": 0.4}
    truth = np.mean([true_score(np.array(s + 0.4), 0) - true_score(np.array(s), 0) for s in (0.0, 0.2, 1.0)])
    stage, inside, result, false, narrower = stage_of({name: {} for name in effects}), [], [], [], []
    for seed in range(25):
        write_simulation(tmp_path, effects, np.random.default_rng(seed))
        table, _ = compared(tmp_path, stage)
        rows = overall(table)
        better, base = rows.loc["better"], rows.loc["mlp"]
        inside += [better["difference_low"] <= truth <= better["difference_high"]]
        inside += [rows.loc["same", "difference_low"] <= 0 <= rows.loc["same", "difference_high"]]
        result.append(better["difference"])
        false.append(rows.loc["same", "p_holm"] < 0.05)
        apart = np.hypot(better["high"] - better["low"], base["high"] - base["low"])
        narrower.append(better["difference_high"] - better["difference_low"] < 0.9 * apart)
        assert better["p_holm"] < 0.05, "five points on 900 questions and three subsets are separable"
    assert abs(np.mean(result) - truth) < 0.7
    assert np.mean(inside) >= 0.86, "nominally 95%; 50 intervals"
    assert np.mean(false) <= 0.16
    assert all(narrower), "the questions' difficulty, which both have in common, is not in the difference"


def test_p_values_are_corrected_over_the_variants(tmp_path: Path) -> None:
    effects = {"mlp": 0.0, "a": 0.15, "b": 0.05, "c": 0.0}
    write_simulation(tmp_path, effects, np.random.default_rng(3))
    together = overall(compared(tmp_path, stage_of({name: {} for name in effects}))[0])
    alone = [overall(compared(tmp_path, stage_of({"mlp": {}, name: {}}))[0]).loc[name] for name in "abc"]
    assert [row["difference"] for row in alone] == list(together.loc[["a", "b", "c"], "difference"])
    smallest = min(alone, key=lambda row: row["p_holm"])
    assert together.loc[str(smallest.name), "p_holm"] == pytest.approx(3 * smallest["p_holm"], rel=1e-6)
    assert np.isnan(together.loc["mlp", "p_holm"]) and np.isnan(together.loc["mlp", "difference"])


def test_a_shared_model_differs_in_nothing_and_says_so(tmp_path: Path) -> None:
    write_simulation(tmp_path, {"mlp": 0.0, "linear": 0.3}, np.random.default_rng(0))
    table, _ = compared(tmp_path, stage_of({"mlp": {}, "linear": {}}, seed_deviation=2.0))
    row = overall(table, BLIND).loc["linear"]
    assert row["shared"] and row["difference"] == row["difference_low"] == row["difference_high"] == 0
    assert not overall(table, "clip").loc["linear", "shared"]


def verdicts(claims: list[Claim]) -> dict[str, str]:
    return {claim.claim: claim.verdict for claim in claims}


@pytest.mark.parametrize(
    ("claim", "traits", "effect", "verdict"),
    [
        ("4b", {"levels": 2}, 0.5, "holds"),
        ("4b", {"levels": 2}, -0.5, "does not hold"),
        ("4b", {"levels": 2}, 0.0, "not separable at this sample size"),
        ("5", {"connector": "sva"}, -0.5, "holds"),
        ("5", {"connector": "sva"}, 0.5, "does not hold"),
        ("5", {"connector": "sva"}, 0.08, "not separable at this sample size"),
        ("6", {"train_encoders": False}, -0.5, "holds"),
        ("6", {"train_encoders": False}, 0.5, "does not hold"),
        ("6", {"connector": "vit", "train_encoders": False}, 0.5, "not tested in this study"),
    ],
)
def test_a_verdict_is_what_the_planted_effect_says(
    tmp_path: Path, claim: str, traits: dict[str, Any], effect: float, verdict: str
) -> None:
    write_simulation(tmp_path, {"mlp": 0.0, "other": effect}, np.random.default_rng(1))
    _, claims = compared(tmp_path, stage_of({"mlp": {}, "other": traits}))
    result = verdicts(claims)
    assert result[claim] == verdict
    assert result["4a"] == "holds", "the pair is ahead by 0.8 logits in both"
    untested = {c for c in ("4b", "5", "6") if result[c] == "not tested in this study"}
    assert untested == {"4b", "5", "6"} - ({claim} if verdict != "not tested in this study" else set())


def test_simple_connectors_fail_only_where_the_lead_is_beyond_the_margin_for_sure(tmp_path: Path) -> None:
    write_simulation(tmp_path, {"mlp": 0.0, "other": 0.5}, np.random.default_rng(1))
    traits = {"mlp": {}, "other": {"connector": "sva"}}
    lead = overall(compared(tmp_path, stage_of(traits))[0]).loc["other", "difference"]
    assert lead > 3
    result = [
        verdicts(compared(tmp_path, stage_of(traits, margin=lead + by))[1])["5"] for by in (-0.3, 0.3, 9)
    ]
    assert result == ["not separable at this sample size"] * 2 + ["holds"]


def test_a_variant_is_worth_its_cost_only_beyond_a_point_per_doubling(tmp_path: Path) -> None:
    effects = {"mlp": 0.0, "dear": 0.6, "dearer": 0.0}  # twice and four times the baseline's FLOPs
    write_simulation(tmp_path, effects, np.random.default_rng(2))
    table, claims = compared(tmp_path, stage_of({name: {} for name in effects}))
    worth = {c.evidence.row["variant"]: c for c in claims if c.claim == "7"}
    gain = overall(table)["difference"]
    assert worth["dear"].verdict == "holds"
    assert worth["dear"].estimate == pytest.approx(gain["dear"] - 1, abs=1e-3)
    assert worth["dearer"].estimate == pytest.approx(gain["dearer"] - 2, abs=1e-3)
    assert "4 times the training FLOPs" in worth["dearer"].note


def test_variants_that_did_not_answer_the_same_questions_are_refused_by_name(tmp_path: Path) -> None:
    write_simulation(tmp_path, {"mlp": 0.0, "other": 0.0}, np.random.default_rng(0))
    file = tmp_path / "other/scores.parquet"
    whole = pd.read_parquet(file)
    whole[(whole["question"] != "q7") | (whole["benchmark"] != "gqa")].to_parquet(file)
    with pytest.raises(StudyError, match="operator other, benchmark gqa: 299 of the 300 questions"):
        compared(tmp_path, stage_of({"mlp": {}, "other": {}}))
    whole[whole["subset"] != "clip"].to_parquet(file)
    with pytest.raises(StudyError, match="variant other: subset 'clip' seed 0 is not scored"):
        compared(tmp_path, stage_of({"mlp": {}, "other": {}}))


def test_tables_in_another_order_than_the_settings_are_refused(tmp_path: Path) -> None:
    write_simulation(tmp_path, {"mlp": 0.0, "other": 0.0}, np.random.default_rng(0))
    write_json(tmp_path / "v.json", stage_of({"mlp": {}, "other": {}}).model_dump(mode="json"))
    files = [tmp_path / name / "scores.parquet" for name in ("other", "mlp")]
    costs = [tmp_path / name / "costs.csv" for name in ("mlp", "other")]
    out = {"output": tmp_path / "variants.csv", "claims": tmp_path / "c.json"}
    with pytest.raises(StudyError, match=r"scores: of \['other', 'mlp'\]"):
        compare_variants(settings=tmp_path / "v.json", scores=tuple(files), costs=tuple(costs), **out)


def run_script(script: str, folder: Path, outputs: dict[str, Path]) -> list[Figure]:
    """Run a script of workflow/scripts as Snakemake would, and return the figures that it drew."""
    files = {"variants": "variants.csv", "variant_claims": "variant_claims.json"}
    files |= {"variant_settings": "settings/variants.json"}
    given = SimpleNamespace(
        input=SimpleNamespace(**{name: str(folder / file) for name, file in files.items()}),
        output=SimpleNamespace(**{kind: str(path) for kind, path in outputs.items()}),
    )
    runpy.run_path(str(ROOT / f"workflow/scripts/{script}.py"), init_globals={"snakemake": given})
    figures = [plt.figure(number) for number in plt.get_fignums()]
    plt.close("all")
    return figures


def test_the_figure_fits_a_column_and_every_table_has_a_row_per_variant_or_claim(tmp_path: Path) -> None:
    effects = {"mlp": 0.0, "linear": -0.1, "resampler": 0.3}
    write_simulation(tmp_path, effects, np.random.default_rng(0))
    _, claims = compared(tmp_path, stage_of({name: {} for name in effects}))
    figure = {kind: tmp_path / f"variants.{kind}" for kind in ("pdf", "svg", "png")}
    (drawn,) = run_script("draw_variants", tmp_path, figure)
    table = pd.read_csv(tmp_path / "variants.csv")
    shows_variants(table, drawn)
    exchanged = table.replace({"variant": {"linear": "resampler", "resampler": "linear"}})
    with pytest.raises(AssertionError):
        shows_variants(exchanged, drawn)
    with Image.open(figure["png"]) as picture:
        assert picture.width == int(3.3 * 220)
    for name in VARIANT_TABLES:
        run_script(f"table_{name}", tmp_path, {"tex": tmp_path / f"{name}.tex"})
        rows = (tmp_path / f"{name}.tex").read_text().count(r" \\") - 1
        assert rows == (len(effects) if name == "variants" else len(claims))


def shows_variants(table: pd.DataFrame, figure: Figure) -> None:
    """Means with their intervals, filled where they are sure, and the subsets below them."""
    (axes,) = figure.axes
    table = table[(table["level"] == "overall") & (table["subset"] != BLIND) & ~table["shared"]]
    names = [label.get_text() for label in axes.get_yticklabels()]
    means = table[table["subset"] == MEAN].set_index("variant").loc[names]
    assert means["difference"].is_monotonic_increasing and set(names) == set(table["variant"]) - {"mlp"}
    same_rows(segments(axes)[:, :, 0], means[["difference_low", "difference_high"]])
    near(points(axes, 1), np.column_stack([means["difference"], range(len(names))]))
    filled = [face == to_hex(ACCENT) for face in faces(axes, 1)]
    assert filled == list(means["p_holm"] < 0.05)
    single = table[(table["subset"] != MEAN) & (table["variant"] != "mlp")]
    places = single["variant"].map(names.index) - 0.22
    same_rows(points(axes, 0), np.column_stack([single["difference"], places]))
