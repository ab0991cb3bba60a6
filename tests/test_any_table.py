"""Tables of any benchmarks, encoders and means: what is read, what is remarked, and advice that works."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from encoder_roles.analysis.advisor.commands import advise_next, read_part
from encoder_roles.analysis.external.scores import Analysis, analyse_table
from encoder_roles.analysis.external.tables import read_external_scores
from encoder_roles.paper.external_report import analyse_scores
from encoder_roles.study.names import GROUPS, StudyError
from encoder_roles.study.sections import StatisticsSettings

STATISTICS = StatisticsSettings(resamples=200, level=0.95, seed=0, overall="benchmarks")
LABELS = ("blind", "clip", "sam", "clip+sam")


def wide(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"Encoders": LABELS, **columns})


def analyse(table: pd.DataFrame, **options: object) -> Analysis:
    return analyse_table(table, **{"statistics": STATISTICS, **options})


def value(
    analysis: Analysis, measure: str, encoder: str, level: str = "overall", name: str = "overall"
) -> float:
    roles = analysis.tables["roles"]
    at = (roles["measure"] == measure) & (roles["encoder"] == encoder) & (roles["operator"] == "retrained")
    at &= (roles["level"] == level) & ((roles["benchmark"] == name) | (roles["group"] == name))
    return float(roles.loc[at, "value"].iloc[0])


def remarks(analysis: Analysis) -> str:
    return "\n".join(note["note"] for note in analysis.notes)


# --- benchmarks of one's own ---


def test_a_column_of_any_name_is_a_benchmark_of_its_own_and_counts_like_the_others() -> None:
    analysis = analyse(wide(POPE=[50.0, 80, 60, 84], gqa=[40.0, 60, 50, 66]))
    assert value(analysis, "necessity", "clip", "benchmark", "POPE") == pytest.approx(24)
    assert value(analysis, "necessity", "clip") == pytest.approx((24 + 16) / 2)
    assert (
        "POPE: none of the sixteen benchmarks; taken as a benchmark of its own, without a group."
        in remarks(analysis)
    )
    levels = analysis.tables["lattice"][["level", "group"]].drop_duplicates()
    assert levels.loc[levels["level"] == "group", "group"].tolist() == ["General"]


def test_a_table_may_have_benchmarks_of_its_own_alone_and_a_row_that_gives_their_groups() -> None:
    table = wide(POPE=[50.0, 80, 60, 84], HallusionBench=[30.0, 40, 36, 44])
    named = pd.concat([table, pd.DataFrame([{"Encoders": "group", "POPE": "Hallucination"}])])
    analysis = analyse(named)
    assert (
        value(analysis, "necessity", "sam") == value(analyse(table), "necessity", "sam") == pytest.approx(4)
    )
    assert value(analysis, "necessity", "sam", "group", "Hallucination") == pytest.approx(4)
    assert "POPE: none of the sixteen benchmarks; taken as a benchmark of its own, in group Hallu" in remarks(
        analysis
    )
    tidy = table.melt("Encoders", var_name="task", value_name="score")
    tidy["category"] = tidy["task"].map({"POPE": "Hallucination"})
    pd.testing.assert_frame_equal(analyse(tidy).tables["roles"], analysis.tables["roles"])


def test_the_mean_of_group_means_counts_a_benchmark_without_a_group_as_one() -> None:
    table = wide(POPE=[50.0, 80, 60, 84], gqa=[40.0, 60, 50, 66], mme=[20.0, 50, 30, 56])
    by_group = analyse(table, statistics=STATISTICS.model_copy(update={"overall": "groups"}))
    assert value(by_group, "necessity", "clip") == pytest.approx((24 + (16 + 26) / 2) / 2)


@pytest.mark.parametrize(("column", "near"), [("MMVPP", "mmvp"), ("GQ-A2", "gqa"), ("OCRBnech", "ocrbench")])
def test_a_name_one_edit_from_a_known_benchmark_is_a_hint_and_no_more(column: str, near: str) -> None:
    analysis = analyse(wide(**{column: [50.0, 80, 60, 84]}))
    assert f"{column}: none of the sixteen" in remarks(analysis)
    assert f"One edit away: {near}; rename it if that is meant." in remarks(analysis)
    assert "One edit away" not in remarks(analyse(wide(POPE=[50.0, 80, 60, 84])))


def test_columns_that_hold_no_scores_are_remarked_and_not_used() -> None:
    plain = wide(gqa=[40.0, 60, 50, 66])
    analysis = analyse(plain.assign(LLM="Vicuna-7B", **{"Params (B)": [7.0, 7.3, 7.6, 7.9]}))
    pd.testing.assert_frame_equal(analysis.tables["roles"], analyse(plain).tables["roles"])
    for column in ("LLM", "Params (B)"):
        assert f"column {column!r} holds no scores: it is not used." in remarks(analysis)
    tidy = plain.melt("Encoders", var_name="benchmark", value_name="score").assign(remark="x")
    assert "column 'remark' has no meaning in a table with a row per score" in remarks(analyse(tidy))


# --- encoders ---


def test_two_encoders_one_edit_apart_are_remarked_unless_they_are_versions() -> None:
    labels = ["siglip", "sglip", "dinov2", "dinov3", "siglip+sglip+dinov2+dinov3"]
    analysis = analyse(pd.DataFrame({"model": labels, "gqa": [40.0, 50, 60, 70, 80]}))
    assert remarks(analysis).count("differ by one character") == 1
    assert "encoders siglip and sglip differ by one character: if they are one" in remarks(analysis)
    with pytest.raises(StudyError, match=r"'sglip' is not in the pool .*; did you mean siglip\?"):
        analyse(pd.DataFrame({"model": labels, "gqa": 50.0}), pool=["siglip", "dinov2", "dinov3"])


def test_the_advice_on_a_pool_of_more_than_eight_encoders_works_as_printed() -> None:
    labels = [f"enc{x}" for x in "abcdefghij"] + ["enca+encb", "encc+encj", "enci+encb+enca"]
    table = pd.DataFrame({"model": labels, "gqa": np.linspace(40, 70, len(labels)).round(1)})
    with pytest.raises(StudyError, match="10 encoders, but at most 8 can be analysed") as error:
        analyse(table)
    words = shlex.split(re.search(r"--pool .*", str(error.value)).group())
    at = words.index("--leave-out")
    analysis = analyse(table, pool=words[1:at], leave_out=list(map(int, words[at + 1 :])))
    assert len(words[1:at]) == 8
    assert set(analysis.tables["averages"]["row"]) == set(range(1, 14)) - set(map(int, words[at + 1 :]))


def test_a_row_that_is_left_out_may_hold_anything() -> None:
    plain = wide(gqa=[40.0, 60, 50, 66])
    odd = pd.DataFrame({"Encoders": ["clip+clip", "mae"], "gqa": ["n.a.", 4000]})
    table = pd.concat([plain.astype(object), odd])
    analysis = analyse(table, pool=["clip", "sam"], leave_out=[5, 6])
    pd.testing.assert_frame_equal(analysis.tables["roles"], analyse(plain).tables["roles"])
    assert "row 6 (mae) was left out" in remarks(analysis)


# --- means ---


def test_a_table_of_one_average_gives_the_roles_of_that_average() -> None:
    analysis = analyse(wide(Avg=[40.0, 60, 50, 66]))
    assert value(analysis, "necessity", "clip") == pytest.approx(16)
    assert "the table has no benchmark, only means: roles are those of overall." in remarks(analysis)
    assert "no score on mme" not in remarks(analysis)


def test_a_table_of_group_means_gives_the_roles_of_groups_and_of_their_mean() -> None:
    groups = {name: np.array([30.0, 50, 40, 60]) + 3 * i for i, name in enumerate(GROUPS)}
    table = wide(**groups, Average=[34.5, 54.5, 44.5, 60.0])
    analysis = analyse(table)
    assert value(analysis, "necessity", "clip", "group", "Knowledge") == pytest.approx(20)
    assert value(analysis, "necessity", "clip") == pytest.approx(20)
    assert "row 4 (clip+sam): states overall 60, its scores give 64.50." in remarks(analysis)
    tidy = table.melt("Encoders", var_name="benchmark", value_name="score")
    pd.testing.assert_frame_equal(analyse(tidy).tables["roles"], analysis.tables["roles"])
    with_levels = tidy.assign(level=tidy["benchmark"].map(lambda b: "overall" if b == "Average" else "group"))
    pd.testing.assert_frame_equal(analyse(with_levels).tables["roles"], analysis.tables["roles"])


def test_stated_means_beside_benchmarks_are_compared_and_not_analysed() -> None:
    table = wide(gqa=[40.0, 60, 50, 66], General=[40.0, 60, 50, 66], Mean=[40.0, 60, 50, 60])
    notes = read_external_scores(table).notes
    assert [note for note in notes if "states" in note] == [
        "row 4 (clip+sam): states overall 60, its scores give 66.00."
    ]


def test_the_averages_name_the_mask_of_a_row(tmp_path: Path) -> None:
    table = wide(gqa=[40.0, 60, 50, 66]).assign(operator="", mask="")
    masked = pd.DataFrame({"Encoders": "sam & clip", "gqa": [45.0], "operator": "zero", "mask": "SAM"})
    tables = [pd.concat([table, masked])]
    tables.append(tables[0].melt(["Encoders", "operator", "mask"], var_name="task", value_name="score"))
    for form in tables:
        averages = analyse(form).tables["averages"]
        row = averages[averages["operator"] == "zero"].iloc[0]
        assert (row["model"], row["mask"], row["seed"], row["overall"]) == ("sam & clip", "sam", 0, 45.0)
        assert averages.loc[averages["operator"] == "unmasked", "mask"].tolist() == [
            "none",
            "clip",
            "sam",
            "clip+sam",
        ]


# --- the advisor reads the same tables ---


def write(path: Path, table: pd.DataFrame) -> Path:
    table.to_csv(path, index=False)
    return path


def test_the_advisor_reads_any_table_and_takes_errors_from_what_it_states(tmp_path: Path) -> None:
    table = pd.DataFrame({"Encoders": LABELS[1:], "POPE": [50.0, 40, 60], "gqa": [40.0, 30, 60]})
    counts = pd.DataFrame([{"Encoders": "n", "POPE": 100, "gqa": 400}])
    part = read_part(write(tmp_path / "wide.csv", pd.concat([table, counts])))
    assert part["clip"] == pytest.approx((45, np.sqrt(50 * 50 / 100 + 40 * 60 / 400) / 2))
    assert read_part(write(tmp_path / "plain.csv", table), "POPE", standard_error=1)["sam"] == (40, 1)
    means = table.rename(columns={"POPE": "General", "gqa": "Knowledge"})
    assert read_part(write(tmp_path / "means.csv", means), "Knowledge", standard_error=1)["sam"] == (30, 1)


def test_errors_of_a_table_of_questions_are_those_of_its_bootstrap(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [
        {"encoders": label, "benchmark": "POPE", "question": q, "score": 100.0 * (random.random() < chance)}
        for label, chance in (("clip", 0.5), ("sam", 0.3), ("clip+sam", 0.6))
        for q in range(400)
    ]
    score, error = read_part(write(tmp_path / "questions.csv", pd.DataFrame(rows)))["clip"]
    assert error == pytest.approx(np.sqrt(score * (100 - score) / 400), rel=0.1)


def test_advice_shows_a_trained_subsets_own_score_and_no_interval_beyond_0_to_100(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pd.DataFrame({"subset": LABELS[1:3], "score": [99.5, 98.0], "standard_error": 2.0})
    output = tmp_path / "advice.csv"
    advise_next(scores=write(tmp_path / "scores.csv", table), output=output)
    printed = capsys.readouterr().out
    head = " ".join(printed.split("\n")[0].split())
    assert head == "subset encoders trained measured predicted low high p_best"
    advice = pd.read_csv(output).set_index("subset")
    assert advice["measured"].to_dict() == pytest.approx(
        {"clip": 99.5, "sam": 98.0, "clip+sam": np.nan}, nan_ok=True
    )
    assert advice[["low", "score", "high"]].stack().between(0, 100).all()
    assert (advice["high"] == 100).any()  # some would pass it


def test_the_advice_on_a_large_pool_works_for_the_advisor_too(tmp_path: Path) -> None:
    labels = [f"enc{x}" for x in "abcdefghij"] + ["enca+encb"]
    table = pd.DataFrame({"subset": labels, "score": 50.0, "standard_error": 1.0})
    path = write(tmp_path / "scores.csv", table)
    with pytest.raises(StudyError, match="10 encoders, but at most 8 can be analysed") as error:
        advise_next(scores=path)
    words = shlex.split(re.search(r"--pool .*", str(error.value)).group())
    at = words.index("--leave-out")
    advise_next(scores=path, pool=tuple(words[1:at]), leave_out=tuple(map(int, words[at + 1 :])))


# --- the report ---


def complete(pool: tuple[str, ...], **columns: object) -> pd.DataFrame:
    """A complete lattice in which every encoder adds five points."""
    labels = ["+".join(e for i, e in enumerate(pool) if place >> i & 1) for place in range(2 ** len(pool))]
    score = [20 + 5 * place.bit_count() for place in range(2 ** len(pool))]
    return pd.DataFrame({"Encoders": [label or "blind" for label in labels], "POPE": score, **columns})


@pytest.mark.parametrize("encoders", [2, 6])
def test_the_summary_names_roles_best_pair_and_verdicts_in_fewer_than_twenty_lines(encoders: int) -> None:
    pool = tuple(f"encoder{x}" for x in "abcdefgh"[:encoders])
    noisy = STATISTICS.model_copy(update={"seed_deviation": 0.2, "resamples": 100})
    text = analyse(complete(pool), statistics=noisy).summary()
    assert len(text.splitlines()) < 20
    for words in ("Best subset: ", "Best pair: ", "Capacity", "Necessity", "Verdicts: ", "Intervals hold"):
        assert words in text, words
    for encoder in pool:
        assert re.search(rf"^  {encoder}  .*25\.0 \[", text, re.MULTILINE)  # its Capacity


def test_the_page_has_its_figures_inside_and_nothing_is_written_into_a_studys_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores, output = write(tmp_path / "scores.csv", complete(("clip", "sam"))), tmp_path / "out"
    analyse_scores(scores=scores, output=output)
    page = (output / "report.html").read_text()
    figures = sorted(path.stem for path in (output / "figures").glob("*.svg"))
    assert len(figures) >= 6 and page.count("data:image/svg+xml;base64,") == len(figures)
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)  # no other file is needed
    for text in (
        "<h2>Roles</h2>",
        "POPE: none of the sixteen",
        "Best pair: clip+sam",
        "needs all subsets and",
    ):
        assert text in page, text
    assert {note["table"] for note in json.loads((output / "notes.json").read_text())} >= {"figures", "all"}
    assert len(capsys.readouterr().out.splitlines()) <= 20
    study = tmp_path / "results"
    (study / "settings").mkdir(parents=True)
    (study / "settings/study.json").write_text("{}")
    with pytest.raises(StudyError, match="holds the results of a study; choose another folder"):
        analyse_scores(scores=scores, output=study)
    assert [path.name for path in study.rglob("*")] == ["settings", "study.json"]
