"""Anybody's table of scores: read forgivingly where nothing is at stake, refused in one line where it is."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lattice_simulation import make_plan, simulate
from snakemake_call import Done, snakemake

from encoder_roles.analysis.external.aliases import match_benchmark, match_encoders
from encoder_roles.analysis.external.scores import analyse_table
from encoder_roles.analysis.external.subset_scores import read_subset_scores
from encoder_roles.analysis.external.tables import read_external_scores
from encoder_roles.paper.external_report import analyse_scores
from encoder_roles.study.names import BENCHMARKS, GROUPS, StudyError, study_of
from encoder_roles.study.sections import StatisticsSettings

ROOT = Path(__file__).parents[1]
CAMBRIAN = ROOT / "docs" / "examples" / "cambrian1_ensemble_table2.csv"
POOL = ("clip", "dinov2", "sam")
LABELS = ("blind", "CLIP", "DINOv2", "CLIP+DINOv2", "SAM", "CLIP & SAM", "DINO-v2, SAM", "CLIP+DINOv2+SAM")


def statistics(**changes: object) -> StatisticsSettings:
    return StatisticsSettings.model_validate(
        {"resamples": 400, "level": 0.95, "seed": 0, "overall": "benchmarks"} | changes
    )


def wide(seed: int = 0) -> pd.DataFrame:
    """A complete lattice of three encoders on all sixteen, the way papers print it."""
    random = np.random.default_rng(seed)
    scores = 30 + 12 * np.array([x.bit_count() for x in range(8)])[:, None] + random.uniform(-5, 5, (8, 16))
    columns = ["SEED" if name == "seed" else name for name in BENCHMARKS]
    return pd.DataFrame({"Encoders": LABELS} | dict(zip(columns, scores.T.round(2), strict=True)))


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    return table.melt("Encoders", var_name="Benchmark", value_name="Score")


def overall(tables: dict[str, pd.DataFrame], measure: str) -> pd.Series:
    rows = tables["roles"].query("level == 'overall' and operator == 'retrained'")
    return rows[rows["measure"] == measure].set_index("encoder")


# --- the worked example ---


def test_the_published_averages_of_cambrian_are_those_of_its_sixteen_columns() -> None:
    result = read_external_scores(CAMBRIAN, leave_out=[6]).averages
    assert result["row"].tolist() == [1, 2, 3, 4, 5, 7]
    assert (result["overall"] - result["stated_overall"]).abs().max() <= 0.01
    printed = pd.read_csv(CAMBRIAN, comment="#")
    columns = {
        "General": ["MMEP", "MMB", "SEEDI", "GQA"],
        "Knowledge": ["SQAI", "MMMUV", "MathVistaM", "AI2D"],
    }
    columns |= {"OCR & Chart": ["ChartQA", "OCRBench", "TextVQA", "DocVQA"]}
    columns |= {"Vision-Centric": ["MMVP", "RealWorldQA", "CV-Bench2D", "CV-Bench3D"]}
    printed = printed.drop(index=5).reset_index(drop=True)
    printed["MMEP"] /= 20
    for group, names in columns.items():
        np.testing.assert_allclose(result[group], printed[names].mean(axis=1), atol=0.01)


def test_two_rows_with_one_label_are_named_and_one_can_be_left_out() -> None:
    with pytest.raises(StudyError, match=r"rows 2 and 6 are both siglip\+dinov2\+convnext.*leave_out: 6"):
        analyse_table(CAMBRIAN)
    result = analyse_table(CAMBRIAN, leave_out=[6])
    necessity = overall(result.tables, "necessity")["value"]
    assert necessity.to_dict() == pytest.approx(
        {"dinov2": 54.7446 - 54.5253, "clip": 54.7446 - 54.5210}, abs=1e-3
    )
    text = " ".join(note["note"] for note in result.notes)
    for words in (
        *("mme: given on 0-2000, divided by 20", "row 6 (SigLIP+DINOv2+ConvNext) was left out"),
        *(
            "No intervals",
            "no Capacity of siglip, dinov2, convnext, clip",
            "no Necessity of siglip, convnext",
        ),
        *("no Shapley, Banzhaf, interaction or Möbius value", "no masked scores", "no effective ranks"),
    ):
        assert words in text, words
    assert result.tables["games"].empty
    assert result.tables["roles"]["low"].isna().all()
    assert {c.verdict for c in result.claims} == {"not tested in this study"}


def test_an_average_that_the_table_states_wrongly_is_said() -> None:
    table = wide().assign(Average=50.0)
    notes = read_external_scores(table).notes
    assert len([n for n in notes if "states overall 50" in n]) == 8


# --- names ---


@pytest.mark.parametrize(
    ("spelled", "benchmark"),
    [
        *(
            ("MMEP", "mme"),
            ("MME-P", "mme"),
            ("mme", "mme"),
            ("SEED-Image", "seed"),
            ("SEED-Bench (image)", "seed"),
        ),
        *(
            ("SQA-I", "scienceqa"),
            ("Real World QA", "realworldqa"),
            ("MMB", "mmbench"),
            ("MMMU (val)", "mmmu"),
        ),
        *(("MathVista-M", "mathvista"), ("CV-Bench 2D", "cvbench2d"), ("cv_bench_3d", "cvbench3d")),
        *(("textvqa_val", "textvqa"), ("MMVP", "mmvp"), ("OCR Bench", "ocrbench"), ("ChartQA", "chartqa")),
    ],
)
def test_benchmarks_are_known_by_their_usual_spellings(spelled: str, benchmark: str) -> None:
    assert match_benchmark(spelled) == benchmark


def test_an_unknown_benchmark_is_not_matched_by_likeness() -> None:
    for name in ("MME-C", "SEED-Video", "GQA2", "POPE", "CV-Bench"):
        assert match_benchmark(name) is None, name


@pytest.mark.parametrize(
    "label", ["CLIP+DINOv2", "clip & dinov2", "CLIP, DINO-v2", "Clip and DINO v2", "clip / DINOV2"]
)
def test_a_subset_is_known_however_it_is_joined(label: str) -> None:
    assert match_encoders(label) == ("clip", "dinov2")
    assert match_encoders(label, ("dinov2", "clip", "sam")) == ("clip", "dinov2")


def test_the_order_of_columns_rows_and_names_changes_no_value(tmp_path: Path) -> None:
    table = wide()
    renamed = table.rename(
        columns={"mme": "MME-P", "SEED": "SEED-Image", "scienceqa": "SQA-I", "Encoders": "Model"}
    )
    shuffled = renamed.sample(frac=1, random_state=1)[renamed.columns[::-1]]
    shuffled.to_csv(tmp_path / "a.csv", index=False, sep=";")
    (tmp_path / "b.csv").write_text("# from a paper\n" + tidy(table).to_csv(index=False))
    tidy(table).to_parquet(tmp_path / "c.parquet")
    expected = analyse_table(table, pool=POOL, statistics=statistics())
    for name in ("a.csv", "b.csv", "c.parquet"):
        result = analyse_table(tmp_path / name, pool=POOL, statistics=statistics())
        for key in ("roles", "games", "lattice", "chains"):
            pd.testing.assert_frame_equal(result.tables[key], expected.tables[key])


# --- what is refused ---


def spoilt(**cells: object) -> pd.DataFrame:
    table = wide().astype(object)
    for column, value in cells.items():
        table.loc[3, column] = value
    return table


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (wide().assign(POPE=500.0), r"POPE is outside 0-100; state its greatest score \(scales: POPE 1000\)"),
        (wide().assign(POPE=50.0, pope=50.0), "columns 'POPE' and 'pope' are both pope"),
        (wide().assign(**{"MME-P": 1500.0}), "columns 'mme' and 'MME-P' are both mme"),
        (wide().drop(columns="Encoders"), "no column that names the encoders"),
        (wide()[["Encoders"]], "no column holds scores of a benchmark or their mean"),
        (wide().iloc[:0], "no rows"),
        (pd.concat([wide(), wide().iloc[[3]]]), "rows 4 and 9 are both clip\\+dinov2, seed 0: duplicate"),
        (spoilt(gqa=np.nan), r"row 4 \(CLIP\+DINOv2, gqa\): score is empty or NaN"),
        (spoilt(gqa="n.a."), "row 4 .*score 'n.a.' is not a number"),
        (spoilt(gqa=100.5), r"row 4 .*score of gqa is outside 0-100"),
        (spoilt(gqa=-1), r"row 4 .*outside 0-100"),
        (spoilt(mme=2001), r"row 4 .*score of mme is outside 0-100 and 0-2000"),
        (spoilt(mme=1480.0), r"mme is given on 0-100 here and on 0-2000 in other rows; use one scale"),
        (wide().assign(gqa=wide()["gqa"] / 100), "benchmark gqa: no score is above 1.*multiply by 100"),
        (spoilt(Encoders="clip+mae"), "row 4: 'clip\\+mae': encoder 'mae' is not in the pool"),
        (spoilt(Encoders="clip+clip"), "row 4: 'clip\\+clip': 'clip' is named twice"),
        (spoilt(Encoders=np.nan), "the model's encoders are not named"),
        (wide().assign(study=["a"] * 7 + ["b"]), r"rows of several studies \['a', 'b'\]"),
        (pd.concat([wide().assign(seed=s) for s in (0, 1)]).iloc[:-1], "add the missing seeds"),
        (wide().assign(seed=0.5), "training seed is not a whole number .SEED-Bench is called SEED"),
        (wide().assign(operator="blur"), "operator is none of"),
        (tidy(wide()).iloc[:-1], r"clip\+dinov2\+sam, seed 0 has no score on cvbench3d"),
        (
            tidy(wide()).assign(sead=1),
            "column 'sead' is unknown in a table with a row per score; call it seed",
        ),
        (tidy(wide()).assign(level="all"), "level is none of benchmark, group, overall"),
        (tidy(wide()).assign(n=0), "n is not a number of questions"),
        (tidy(wide()).drop(columns="Benchmark"), "column 'Score' belongs to a table with a row per score"),
    ],
)
def test_a_table_that_could_give_a_wrong_number_is_refused_in_one_line(
    table: pd.DataFrame, message: str
) -> None:
    with pytest.raises(StudyError, match=message) as error:
        analyse_table(table, pool=POOL, statistics=statistics())
    assert "\n" not in str(error.value)


def test_a_row_to_leave_out_must_exist_and_a_pool_must_fit() -> None:
    with pytest.raises(StudyError, match="there is no row 9; it has 8"):
        analyse_table(wide(), leave_out=[9])
    many = [f"e{i}" for i in range(9)]
    with pytest.raises(StudyError, match=r"9 encoders, but at most 8 can be analysed"):
        analyse_table(pd.DataFrame({"model": many, "gqa": 50.0}))


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    for name, content in (("a.csv", b"\xff\xfe\x00"), ("b.parquet", b"nothing"), ("c.csv", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StudyError, match=rf"{name}: (not a readable table|no rows)"):
            analyse_table(tmp_path / name)
    with pytest.raises(StudyError, match=r"none\.csv: not a readable table"):
        analyse_table(tmp_path / "none.csv")


# --- intervals: from what the table has, and no others ---


def test_without_questions_seeds_or_a_stated_deviation_there_are_no_intervals_and_no_verdicts() -> None:
    result = analyse_table(wide(), pool=POOL, statistics=statistics())
    assert result.tables["roles"]["low"].isna().all()
    assert result.tables["games"]["high"].isna().all()
    assert len(result.tables["games"]) > 0
    assert {c.verdict for c in result.claims} == {"not tested in this study"}
    assert all("No intervals" in c.seed_note for c in result.claims if c.estimate is not None)


def test_stated_numbers_of_questions_give_binomial_intervals() -> None:
    table = pd.concat([wide(), pd.DataFrame([{"Encoders": "n"} | dict.fromkeys(wide().columns[1:], 400)])])
    result = analyse_table(table, pool=POOL, statistics=statistics(resamples=4000))
    row = result.tables["lattice"].query("benchmark == 'gqa' and subset == 'sam'").iloc[0]
    expected = 1.96 * np.sqrt(row["score"] * (100 - row["score"]) / 400)
    assert row["high"] - row["score"] == pytest.approx(expected, rel=0.06)
    assert row["n"] == 400
    mean = result.tables["lattice"].query("level == 'overall' and subset == 'sam'").iloc[0]
    assert (mean["high"] - mean["low"]) < 0.4 * (row["high"] - row["low"])  # the mean of sixteen
    assert any(
        "binomial" in note["note"] and "training seeds is not in them" in note["note"]
        for note in result.notes
    )


def test_a_stated_seed_deviation_gives_the_intervals_it_states() -> None:
    result = analyse_table(wide(), pool=POOL, statistics=statistics(seed_deviation=2.0, resamples=4000))
    capacity = overall(result.tables, "capacity")
    np.testing.assert_allclose(capacity["high"] - capacity["low"], 2 * 1.96 * 2, rtol=0.06)
    assert any(
        "stated seed deviation of 2 points; the choice of questions is not" in n["note"] for n in result.notes
    )


def test_the_spread_of_several_seeds_is_in_the_intervals() -> None:
    random = np.random.default_rng(3)
    seeds = []
    for seed in range(4):
        table = wide().assign(seed=seed)
        table[table.columns[1:-1]] += random.normal(0, 1.5, (8, 1))  # a good or bad run, on all benchmarks
        seeds.append(table)
    result = analyse_table(pd.concat(seeds), pool=POOL, statistics=statistics(resamples=4000))
    capacity = overall(result.tables, "capacity")
    assert ((capacity["high"] - capacity["low"]) / (2 * 1.96 * 1.5 / 2)).between(0.6, 1.6).all()
    assert any("the spread of 4 training seeds" in note["note"] for note in result.notes)


def test_a_table_of_questions_has_the_studys_own_bootstrap() -> None:
    random = np.random.default_rng(1)
    plan = make_plan(random, POOL, {"General": ("mme", "seed"), "OCR & Chart": ("chartqa",)})
    scores = simulate(plan, random, questions=60, operators=("zero",)).scores
    own = scores.rename(columns={"subset": "Encoders", "question": "question id"})
    own["benchmark"] = own["benchmark"].replace({"seed": "SEED-Bench"})
    result = analyse_table(own, pool=POOL, statistics=statistics())
    from encoder_roles.analysis.commands import analyse
    from encoder_roles.analysis.external.scores import NO_COSTS, NO_RANKS
    from encoder_roles.study.stages import RoleStage

    settings = RoleStage(study="simulated", pool=POOL, statistics=statistics(), tau=0.1)
    tables, claims, _ = analyse(scores, NO_RANKS, NO_COSTS, settings)
    for name in ("roles", "games", "rankings", "mask_gaps"):
        pd.testing.assert_frame_equal(result.tables[name], tables[name])
    assert result.claims == claims


def test_masked_rows_are_compared_with_retrained_ones() -> None:
    masked = wide().iloc[:-1].copy()
    masked[masked.columns[1:]] -= 8
    table = pd.concat([wide().assign(operator="unmasked"), masked.assign(operator="zero")])
    result = analyse_table(table, pool=POOL, statistics=statistics(seed_deviation=1.0))
    gaps = result.tables["mask_gaps"].query("level == 'overall' and measure == 'score'")
    np.testing.assert_allclose(gaps["difference"], 8)
    assert len(gaps) == 7


def test_the_scores_csv_of_a_study_can_be_read_back() -> None:
    from encoder_roles.analysis.statistics import score_intervals

    random = np.random.default_rng(1)
    scores = simulate(make_plan(random, POOL), random, questions=40, operators=("zero",)).scores
    summary = score_intervals(scores, statistics()).assign(metric="accuracy")
    result = analyse_table(summary, pool=POOL, statistics=statistics())
    level = (
        result.tables["lattice"].query("level == 'overall' and operator == 'retrained'").set_index("subset")
    )
    same = summary.query("level == 'overall' and operator == 'unmasked'").set_index("subset")["score"]
    pd.testing.assert_series_equal(level["score"], same.reindex(level.index), check_names=False)


def test_ranks_and_costs_are_joined_where_they_are_given(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    result = simulate(make_plan(random, POOL), random, questions=30, operators=())
    result.ranks.drop(columns="study").to_csv(tmp_path / "ranks.csv", index=False)
    result.costs.to_csv(tmp_path / "costs.csv", index=False)
    files = {"ranks": tmp_path / "ranks.csv", "costs": tmp_path / "costs.csv"}
    tables = analyse_table(wide(), pool=POOL, statistics=statistics(), **files).tables
    assert len(tables["pareto"]) == 7
    assert tables["pairs"]["ratio_first"].notna().all()
    assert len(tables["rank_regression"]) > 0


# --- the command and the rule ---


def test_the_command_writes_what_the_call_returns_and_prints_its_summary(tmp_path: Path, capsys) -> None:
    analyse_scores(scores=CAMBRIAN, output=tmp_path, leave_out=(6,), statistics=statistics(), figures=False)
    analysis = analyse_table(CAMBRIAN, leave_out=[6], statistics=statistics())
    printed = capsys.readouterr().out
    assert analysis.summary() in printed and len(printed.splitlines()) <= 20
    assert json.loads((tmp_path / "notes.json").read_text()) == analysis.notes
    assert {path.stem for path in tmp_path.glob("*.csv")} == set(analysis.tables)
    roles = pd.read_csv(tmp_path / "roles.csv")
    np.testing.assert_allclose(roles["value"], analysis.tables["roles"]["value"], rtol=1e-6)


def test_snakemake_analyses_a_table_with_one_job_and_without_any_training() -> None:
    def plan(*config: str) -> Done:
        # --forceall: whatever this checkout has made before
        return snakemake(ROOT, "--dry-run", "--forceall", "--config", *config, "--", "roles")

    table = CAMBRIAN.relative_to(ROOT)
    done = plan(f"scores={{file: {table}, leave_out: [6]}}")
    assert done.returncode == 0, done.stderr
    rules = set(re.findall(r"^(?:local)?rule (\w+):", done.stdout, re.MULTILINE))
    assert rules <= {"analyse_scores", "write_external_settings", "roles"}
    assert "results/cambrian1_ensemble_table2/roles.csv" in done.stdout
    assert "results/laptop" not in done.stdout  # nothing is written beside a study's results
    missing = plan("scores=nowhere.csv")
    assert missing.returncode != 0
    assert "error: scores: no file nowhere.csv" in missing.stderr


# --- scales: decided by row and column from evidence, or refused with the row ---


def necessities(table: pd.DataFrame | Path, **options: object) -> dict[str, float]:
    tables = analyse_table(table, pool=POOL, statistics=statistics(), **options).tables
    return overall(tables, "necessity")["value"].to_dict() | {"C": overall(tables, "capacity")["value"].sum()}


def test_rows_given_as_fractions_are_read_as_the_points_they_stand_for() -> None:
    table = wide()
    table.loc[[4, 6], table.columns[1:]] /= 100
    analysis = analyse_table(table, pool=POOL, statistics=statistics())
    assert necessities(table) == pytest.approx(necessities(wide()))
    notes = [note["note"] for note in analysis.notes]
    assert any("rows 5 (SAM), 7 (DINO-v2, SAM)" in note and "read as fractions" in note for note in notes)
    read = read_external_scores(tidy(table)).table
    assert read["score"].sum() == pytest.approx(read_external_scores(tidy(wide())).table["score"].sum())


def test_one_score_that_may_be_a_fraction_is_refused_with_its_row() -> None:
    with pytest.raises(StudyError, match=r"row 4 \(CLIP\+DINOv2, gqa\): score 0\.5 of gqa may be in points"):
        read_external_scores(spoilt(gqa=0.5))
    assert read_external_scores(spoilt(gqa="0.5%")).table["score"].min() == 0.5
    weak = wide().assign(mmvp=[0.67, 0.0, 1.33, 2.0, 0.67, 0.67, 3.33, 1.33])  # no fractions
    assert read_external_scores(weak).table["score"].min() == 0


def test_a_row_of_few_scores_is_no_evidence_of_fractions() -> None:
    table = wide()[["Encoders", "gqa", "mme"]]
    table.loc[4, ["gqa", "mme"]] /= 100
    with pytest.raises(StudyError, match=r"row 5 \(SAM, "):
        read_external_scores(table)


def test_totals_of_ocrbench_below_100_are_totals_if_all_are_whole_numbers() -> None:
    totals = [12, 410, 57, 455, 38, 420, 61, 470]
    external = read_external_scores(wide().assign(ocrbench=totals))
    table = external.table[external.table["benchmark"] == "ocrbench"]
    np.testing.assert_allclose(table["score"], np.array(totals) / 10)
    assert any("divided by 10" in note and "rows 1, 3, 5, 7" in note for note in external.notes)
    with pytest.raises(StudyError, match=r"row 3 \(DINOv2, ocrbench\): .*use one scale, or state it"):
        read_external_scores(wide().assign(ocrbench=[*totals[:2], 57.5, *totals[3:]]))


def test_whole_numbers_of_ocrbench_up_to_100_are_unclear_until_their_scale_is_stated() -> None:
    table = wide().assign(ocrbench=[12, 41, 57, 45, 38, 42, 61, 47])
    with pytest.raises(StudyError, match="may be of 100 or of 1000; state the scale"):
        read_external_scores(table)
    for scale, greatest in ((100, 61.0), (1000, 6.1)):
        external = read_external_scores(table, scales={"OCR-Bench": scale})
        rows = external.table[external.table["benchmark"] == "ocrbench"]
        assert rows["score"].max() == pytest.approx(greatest)


@pytest.mark.parametrize("form", [wide, lambda: tidy(wide())])
def test_a_stated_scale_decides_and_must_fit(form) -> None:
    table = form()
    name = "gqa" if "gqa" in table.columns else "Score"
    at = slice(None) if name == "gqa" else table["Benchmark"] == "gqa"
    table.loc[at, name] /= 100
    assert necessities(table, scales={"gqa": 1}) == pytest.approx(necessities(wide()))
    for scales, message in (
        ({"POPE": 1}, "scales: 'POPE' is no benchmark of the table"),
        ({"gqa": 0}, "scales: 'gqa': 0 is no greatest score"),
        ({"gqa": 0.1}, "score of gqa is outside 0-0.1"),
    ):
        with pytest.raises(StudyError, match=message):
            read_external_scores(table, scales=scales)


# --- names of any script ---


def test_only_spaces_and_punctuation_are_ignored_in_a_name() -> None:
    assert match_encoders("DINO-α + dino β") == ("dinoα", "dinoβ")
    assert match_encoders("4M & CLIP") == ("4m", "clip")
    assert match_encoders("视觉编码器 + Кодер_2") == ("视觉编码器", "кодер2")
    assert match_encoders("हिन्दी") != match_encoders("हनद")  # vowel signs count
    for label in ("clip + ", "++", "clip + ..."):
        with pytest.raises(StudyError, match="no encoder's name"):
            match_encoders(label)
    with pytest.raises(StudyError, match="pool: 'clip' is 'CLIP' again"):
        match_encoders("clip", ("CLIP", "clip"))


def test_results_of_tables_with_names_of_other_scripts_do_not_share_a_folder() -> None:
    assert study_of(Path("成績.csv")) != study_of(Path("得点.csv"))
    assert study_of(Path("My Table-2.csv")) == "my_table_2" and study_of(Path("2nd.csv")) == "scores_2nd"


# --- the files that spreadsheets write ---


def exported(table: pd.DataFrame, form: str) -> bytes:
    """A table as a spreadsheet exports it, or as people edit it."""
    comma = table.to_csv(index=False, sep=";", decimal=",")
    text = {
        "sep line": "sep=;\n" + table.to_csv(index=False, sep=";"),
        "decimal comma": comma,
        "decimal comma in quotes": table.to_csv(index=False, decimal=","),
        "tabs": table.to_csv(index=False, sep="\t"),
        "empty rows and columns": "".join(f"{line};;\r\n" for line in comma.splitlines()) + ";" * 18 + "\r\n",
        "empty rows between": table.to_csv(index=False).replace("\n", "\n,,\n\n"),
        "head after #": "# " + table.to_csv(index=False),
        "remark, then head after #": "# scores, by us\n#" + table.to_csv(index=False, sep=";"),
        "numbered rows": table.reset_index(names="#").to_csv(index=False),
        "percent": table.set_index("Encoders").map("{} %".format).to_csv(),
    }
    return text[form].encode()


FORMS = ("sep line", "decimal comma", "decimal comma in quotes", "tabs", "empty rows and columns")
MORE_FORMS = ("empty rows between", "head after #", "remark, then head after #", "numbered rows", "percent")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("form", [*FORMS, *MORE_FORMS])
def test_a_table_is_the_same_in_every_form_that_spreadsheets_export(
    tmp_path: Path, form: str, encoding: str
) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(exported(wide(), form).decode().encode(encoding))
    expected = read_external_scores(wide()).table
    pd.testing.assert_frame_equal(read_external_scores(path).table, expected, check_exact=True)


def test_thousands_of_mme_may_be_separated() -> None:
    totals = [1108.5, 1151.5, 1151.5, 1210.5, 1156.5, 1208.5, 1210.5, 1224.5]
    plain = read_external_scores(wide().assign(mme=totals)).table
    for form in ("{:,}", "{:,} "):
        table = wide().assign(mme=[form.format(x) for x in totals])
        pd.testing.assert_frame_equal(read_external_scores(table).table, plain)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Encoders,gqa\nclip,50\xe9\n", "neither UTF-8 nor UTF-16; save it as CSV UTF-8"),
        (b"PK\x03\x04sheet", "an Excel workbook or a zip file; save the sheet as CSV UTF-8"),
        (b"| Encoders | gqa |\n|---|---|\n| clip | 50 |\n", "a Markdown table; write it with a comma"),
        (b"\n<!doctype html><table>", "a web page; save its table as CSV UTF-8"),
        (b"Encoders,gqa\nclip,27,1\n", r"row 1 has 3 cells, but the head has 2 \(a decimal comma"),
        (b"Encoders;gqa;mmvp\nclip;27,1;30.2\n", "'30.2' has a decimal point and '27,1' a decimal comma"),
        (b"Encoders;mme\nclip;1,108\nsam;1,200\n", "'1,108' may be a decimal comma or separate thousands"),
        (b"Encoders,gqa,\nclip,50,x\n", "column 3 has cells but no name"),
        ("Encoders,gqa\nclip,50±1\n".encode(), "holds a score and its error; write the score alone"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_its_cause(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(StudyError, match=message) as error:
        read_external_scores(tmp_path / "table.csv")
    assert str(tmp_path / "table.csv") in str(error.value) and "\n" not in str(error.value)


# --- whatever comes in ---

WORDS = st.one_of(
    st.sampled_from(["Encoders", "subset", "model", "gqa", "MME", "ocrbench", "benchmark", "score", "seed"]),
    st.sampled_from(["n", "level", "low", "high", "mask", "operator", "question", "group", "study"]),
    st.sampled_from(["standard_error", "#", "sep=;", "Average", ""]),
)
CELLS = st.one_of(
    *(st.sampled_from(LABELS), WORDS, st.floats(-1, 101).map(str), st.integers(0, 2000).map(str)),
    st.sampled_from(["27,1", "1,108", "1.108,5", "53%", "50±1", "nan", "none", "∅", "4M", "1e400", '"']),
    st.text(max_size=4),
)


def table_bytes() -> st.SearchStrategy[bytes]:
    """Files near to tables: words of tables in rows, in several encodings; and any bytes."""
    heads = st.lists(WORDS, min_size=1, max_size=5)
    rows = st.lists(st.lists(CELLS, min_size=1, max_size=5), max_size=5)
    form = st.tuples(heads, rows, st.sampled_from(",;\t"), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))

    def write(parts: tuple[list[str], list[list[str]], str, str]) -> bytes:
        head, body, separator, encoding = parts
        text = "\n".join(separator.join(cells) for cells in [head, *body])
        return text.encode(encoding, errors="replace")

    return st.one_of(form.map(write), st.binary(max_size=60))


def check_reading(read, path: Path) -> pd.DataFrame | None:
    """What a reader gives, None after an error of one line that names the file."""
    try:
        return read(path).table
    except StudyError as error:
        message = str(error)
        assert message.startswith(str(path)) and len(message.splitlines()) == 1
        return None


@settings(max_examples=100, deadline=None, derandomize=True)
@given(content=table_bytes(), suffix=st.sampled_from([".csv", ".csv", ".csv", ".parquet"]))
def test_any_file_gives_scores_of_0_to_100_or_one_line_that_names_it(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"table{suffix}"
        path.write_bytes(content)
        for read in (read_external_scores, read_subset_scores):
            table = check_reading(read, path)
            assert table is None or (len(table) > 0 and table["score"].between(0, 100).all())


@settings(max_examples=25, deadline=None, derandomize=True)
@given(row=st.integers(0, 7), column=st.integers(0, 16), cell=CELLS)
def test_any_cell_in_a_good_table_is_read_or_refused_in_one_line(row: int, column: int, cell: str) -> None:
    table = wide().astype(object)
    table.iloc[row, column] = cell
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        table.to_csv(path, index=False)
        read = check_reading(read_external_scores, path)
        assert read is None or read["score"].between(0, 100).all()


def test_groups_are_the_studys_own() -> None:
    result = read_external_scores(wide())
    assert dict(zip(result.table["benchmark"], result.table["group"], strict=True)) == {
        b: g for g, names in GROUPS.items() for b in names
    }
