"""What the text says follows from the tables: values, sentences, verdicts, tabulars."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paper_study import ROOT, PaperStudy, make_paper_study

from encoder_roles.analysis.claims.claim import FAILS, HOLDS, OPEN, UNTESTED, Claim, Evidence, Verdict
from encoder_roles.paper.catalogue import TABLES
from encoder_roles.paper.convergence import UNFINISHED, abstract_warning, verdict_warning
from encoder_roles.paper.tables import RULE, bold, write_table
from encoder_roles.paper.verdicts import claim_rows, claim_texts, seed_texts
from encoder_roles.paper.wording import fixed, listed, print_names, signed
from encoder_roles.provenance import write_json
from encoder_roles.study.config import load_study
from encoder_roles.study.names import StudyError
from encoder_roles.study.stages import stage_table


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> PaperStudy:
    return make_paper_study(tmp_path_factory.mktemp("values") / "study")


def test_the_values_are_the_scores_of_the_table(study: PaperStudy, tmp_path: Path) -> None:
    values = study.values(tmp_path / "values.json")
    overall = study.scores()
    full, blind = overall.loc["clip+siglip+sam"], overall.loc["blind"]
    assert values["FullScore"].startswith(f"{full['score']:.1f}\u00a0[{full['low']:.1f}")
    assert values["FullGain"] == f"{full['score'] - blind['score']:.1f}"
    assert values["SubsetPhrase"] == "every one of the 7 subsets"
    best = overall.drop(index="blind")["score"].idxmax()
    assert (
        best == "clip+siglip+sam" or print_names(best, ("clip", "siglip", "sam")) in values["SubsetsSentence"]
    )


OF_THE_WORLD = ("procedural", "tiny", "small encoders", "scenes", "development split", "one skill")


def test_a_study_of_public_checkpoints_and_data_is_not_described_as_the_laptop_study(
    study: PaperStudy, tmp_path: Path
) -> None:
    """The full study's own configuration; only what is fixed before any result is read from it."""
    public = stage_table(load_study(ROOT / "config.yaml", ROOT / "studies/cambrian.yaml"))["paper"]
    texts = {}
    for name, stage in (("laptop", None), ("public", public)):
        folder = tmp_path / name
        shutil.copytree(study.folder, folder)
        if stage is not None:
            write_json(folder / "settings/paper.json", stage.model_dump(mode="json"))
        values = PaperStudy(folder).values(folder / "values.json")
        manuscript = re.sub(r"(?m)^%.*", "", (ROOT / "paper/main.tex").read_text())
        for macro in sorted(values, key=len, reverse=True):
            manuscript = manuscript.replace(f"\\{macro}", values[macro])
        texts[name] = manuscript
    assert all(word in texts["laptop"] for word in OF_THE_WORLD)
    assert [word for word in OF_THE_WORLD if word in texts["public"]] == []
    assert "CLIP-L from timm/vit_large_patch14_clip_336.openai" in texts["public"]
    assert "the language model is Qwen/Qwen2.5-7B-Instruct" in texts["public"]
    assert ") are those of\\ \\citet{tong2024cambrian}" in texts["public"]
    assert "conversations in LLaVA's format" in texts["public"]


def test_a_study_of_ones_own_folders_names_them(study: PaperStudy, tmp_path: Path) -> None:
    shutil.copytree(study.folder, tmp_path / "own")
    stage = json.loads((study.folder / "settings/paper.json").read_text())
    stage |= {"made_here": False, "encoders": stage["encoders"] | {"clip": "my_clip"}}
    write_json(tmp_path / "own/settings/paper.json", stage)
    values = PaperStudy(tmp_path / "own").values(tmp_path / "values.json")
    assert values["SourceSentence"].startswith("The pretrained weights are CLIP from my_clip, ")
    assert "commits" not in values["SourceSentence"]
    assert values["StudyPhrase"] == (
        "checkpoints from elsewhere, trained on pictures of a procedural world and evaluated on small "
        "benchmarks of a procedural world"
    )
    assert "Training, development, test and probe scenes are disjoint." in values["SplitSentence"]


def test_the_text_says_how_many_records_were_left_out_and_why(study: PaperStudy, tmp_path: Path) -> None:
    assert study.values(tmp_path / "values.json")["RecordSentence"] == ""
    counts = study.folder / "records/tune/tune.counts.csv"
    counts.parent.mkdir(parents=True)
    lines = ["data,reason,records,file_sha256", "tune,kept,7994,a", "tune,missing,5,b", "tune,too long,1,b"]
    counts.write_text("\n".join(lines) + "\n")
    try:
        text = study.values(tmp_path / "values.json")["RecordSentence"]
    finally:
        shutil.rmtree(study.folder / "records")
    assert text == "Of the 8,000 records of tune, 6 were left out (5 missing and 1 too long)."


def test_sentences_of_the_lattice_and_of_interactions_count_what_the_tables_say(
    study: PaperStudy, tmp_path: Path
) -> None:
    values = study.values(tmp_path / "values.json")
    table = pd.read_csv(study.folder / "differences.csv", keep_default_na=False)
    table = table[(table["operator"] == "retrained") & (table["measure"] == "score")]
    gains = losses = 0
    for _, row in table.iterrows():
        first, second = (set(name.split("+")) - {"blind"} for name in (row["first"], row["second"]))
        if first < second and len(second) == len(first) + 1:
            gains, losses = gains + (row["high"] < 0), losses + (row["low"] > 0)
        if second < first and len(first) == len(second) + 1:
            gains, losses = gains + (row["low"] > 0), losses + (row["high"] < 0)
    assert values["LatticeSentence"].startswith(
        f"Of the 12 steps that add one encoder to a subset, {gains} gain"
    )
    assert f"{losses} lose" in values["LatticeSentence"]
    games = pd.read_csv(study.folder / "games.csv").query(
        "level == 'overall' and operator == 'retrained' and index == 'shapley_interaction'"
    )
    assert f"{(games['high'] < 0).sum()} have a negative" in values["InteractionSentence"]
    lowest = games.loc[games["value"].idxmin(), "value"]
    assert f"{lowest:.1f}".replace("-", "−") in values["InteractionSentence"]


def test_a_study_without_pairs_or_chains_still_has_every_value(study: PaperStudy, tmp_path: Path) -> None:
    complete = study.values(tmp_path / "values.json")
    few = make_paper_study(tmp_path / "few", subsets=["clip", "sam", "clip+siglip+sam"])
    assert few.values(tmp_path / "few.json").keys() == complete.keys()
    for table in TABLES:
        assert r"\bottomrule" in few.table(table, tmp_path / "tables").read_text()


def test_every_table_has_as_many_cells_in_each_row_as_its_head(study: PaperStudy, tmp_path: Path) -> None:
    for table in TABLES:
        text = study.table(table, tmp_path).read_text()
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1, table
        letters = re.search(r"\{([lcr]+)\}", re.sub(r"p\{[^}]*\}", "l", text))
        assert letters and len(letters[1]) == len(re.findall(r"(?<!\\)&", rows[0])) + 1, table


def test_each_verdict_has_words_of_its_own() -> None:
    for number in ("1a", "1b", "2a", "2b", "2c", "3a", "3b"):
        text = {claim_texts([_claim(number, v)], ())[_sentence(number)] for v in (HOLDS, FAILS, OPEN)}
        assert len(text) == 3 and "" not in text
        assert claim_texts([_claim(number, UNTESTED)], ())[_sentence(number)] == ""


def test_a_claims_parts_hold_its_statement_verdict_estimate_and_note() -> None:
    texts = claim_texts([_claim("2b", HOLDS)], ("clip", "sam"))
    assert texts["StatementTwoB"] == "A pair CLIP + SAM wins."
    assert texts["VerdictTwoB"] == "holds"
    assert texts["EvidenceTwoB"] == "1.50\u00a0[−0.25, 3.00], points ahead. CLIP is first."


def test_every_tested_verdict_carries_the_warning_of_unfinished_trainings() -> None:
    rows = pd.DataFrame({"converged": ["true", None, "false"]})
    warning = verdict_warning(rows)
    texts = claim_texts([_claim("2b", HOLDS), _claim("2a", UNTESTED)], (), warning)
    assert texts["VerdictTwoB"] == f"holds ({UNFINISHED})" and texts["VerdictTwoA"] == UNTESTED
    cells = [row[-1] for row in claim_rows([_claim("2b", HOLDS), _claim("2c", FAILS)], (), warning)]
    assert all(cell.endswith(f"({UNFINISHED})") for cell in cells)
    assert abstract_warning(rows).startswith("One of 2 trainings had not converged")
    assert verdict_warning(rows[:2]) == abstract_warning(rows[:2]) == ""


def test_the_seed_sentence_is_that_of_a_claim_that_was_tested() -> None:
    claims = [_claim("2a", UNTESTED), _claim("2b", HOLDS)]
    assert seed_texts(claims, 1)["SeedSentence"].endswith("trained with one seed. One training seed: noise.")
    assert seed_texts(claims[:1], 1)["SeedSentence"] == "Every model was trained with one seed."


@given(st.floats(-1e4, 1e4), st.integers(0, 3))
def test_a_printed_number_reads_back_and_zero_has_no_sign(value: float, decimals: int) -> None:
    text = fixed(value, decimals)
    assert float(text.replace("−", "-")) == pytest.approx(value, abs=0.51 * 10**-decimals)
    assert not re.fullmatch("−0(\\.0*)?", text)
    assert ("+" in signed(value, decimals)) == (float(text.replace("−", "-")) > 0)


def test_lists_and_names_read_as_a_person_would_write_them() -> None:
    assert [listed(["a", "b", "c"][:n]) for n in range(4)] == ["", "a", "a and b", "a, b and c"]
    pool = ("clip", "siglip", "sam")
    assert (
        print_names("siglip+sam beats clip, says the sample", pool)
        == "SigLIP + SAM beats CLIP, says the sample"
    )


def test_a_table_escapes_its_cells_and_refuses_ragged_rows(tmp_path: Path) -> None:
    path = tmp_path / "table.tex"
    write_table(path, "lr", ["A & B", "%"], [["x_1", bold("−1")], RULE, ["y", "2"]])
    assert r"A \& B & \% \\" in path.read_text()
    assert r"x\_1 & \textbf{$-$1} \\" in path.read_text()
    assert path.read_text().count(r"\midrule") == 2
    with pytest.raises(StudyError, match="1 cells under a head of 2"):
        write_table(path, "lr", ["a", "b"], [["c"]])
    with pytest.raises(StudyError, match="no row"):
        write_table(path, "lr", ["a", "b"], [])


def _sentence(number: str) -> str:
    return f"Claim{ {'1': 'One', '2': 'Two', '3': 'Three'}[number[0]] }Sentence".replace(" ", "")


def _claim(number: str, verdict: Verdict) -> Claim:
    return Claim(
        claim=number,
        statement="A pair clip+sam wins.",
        verdict=verdict,
        estimate=None if verdict == UNTESTED else 1.5,
        low=-0.25,
        high=3.0,
        estimate_of="points ahead",
        note="clip is first.",
        seed_note="" if verdict == UNTESTED else "One training seed: noise.",
        evidence=Evidence("pairs.csv", {"first": "clip", "second": "sam"}),
    )
