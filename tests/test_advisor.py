"""The design advisor: predictions of untrained subsets, the next training, and replays on known lattices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from subset_families import INSIDE, POOL, SUBSETS, draw_lattice

from encoder_roles.analysis.advisor.advisor import Goal, advise, training_worth
from encoder_roles.analysis.advisor.commands import (
    advise_next,
    extend_costs,
    find_pool,
    read_part,
    replay_advisor,
)
from encoder_roles.analysis.advisor.predictor import predict_lattice
from encoder_roles.analysis.advisor.replay import (
    Advisor,
    KnownLattice,
    coverage_table,
    forward_selection,
    regrets,
    replay,
    replay_table,
    singles_first,
    strategies,
    top_two,
)
from encoder_roles.analysis.external.subset_scores import read_subset_scores
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import AdvisorSettings
from encoder_roles.study.stages import AdvisorStage

PAIR, MATCH = Goal(2), Goal(4, 0.5)
ADDITIVE = 50 + INSIDE @ np.array([9.0, 6.0, 4.0, 2.0, -3.0])
# a lattice of three to be checked by hand; the best pair is b+c, and only it is within half a point of a+b+c
KNOWN = {"a": 40, "b": 30, "c": 20, "a+b": 44, "a+c": 50, "b+c": 59.5, "a+b+c": 60}
SMALL = KnownLattice({subset: (float(v), 0.0) for subset, v in KNOWN.items()}, ("a", "b", "c"))


def part(values: np.ndarray, places: object, error: float = 0.0) -> dict[str, tuple[float, float]]:
    return {SUBSETS[i]: (float(values[i]), error) for i in places}


def random_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- predictions ---


def test_an_additive_truth_is_recovered_from_singles_some_pairs_and_the_full_pool() -> None:
    seen = [0, 1, 2, 3, 4, 5, 9, 14, 22, 27, 30]
    result = predict_lattice(part(ADDITIVE, seen), POOL)
    assert np.abs(result.mean - ADDITIVE).max() < 0.6
    low, high = result.interval(0.95)
    assert ((low <= ADDITIVE + 1e-6) & (high >= ADDITIVE - 1e-6)).all()


def test_a_fully_observed_lattice_returns_itself() -> None:
    values = random_of(0).uniform(20, 80, 31)
    result = predict_lattice(part(values, range(31)), POOL)
    assert result.mean == pytest.approx(values, abs=1e-3)
    assert all(bound == pytest.approx(values, abs=1e-3) for bound in result.interval(0.95))
    assert not training_worth(result, [PAIR, MATCH]).any()


def test_without_any_score_all_subsets_of_a_size_are_alike_and_wide() -> None:
    result = predict_lattice({}, POOL)
    low, high = result.interval(0.95)
    assert np.ptp(result.mean) < 1e-9 and (high - low).min() > 50


def test_intervals_of_left_out_subsets_hold_90_to_98_percent_of_their_scores() -> None:
    families = ("skills", "saturation", "redundancy", "synergy", "crowding", "noise")
    tables = [
        coverage_table(KnownLattice(draw_lattice(family, seed), POOL), 2, seed, 0.95)
        for family in families
        for seed in range(2000, 2006)
    ]
    shares = pd.concat(tables).groupby("trained")["coverage"].mean()
    assert len(shares) == 4 and shares.between(0.90, 0.98).all(), shares


def test_an_interval_of_a_lower_level_holds_fewer() -> None:
    lattices = [KnownLattice(draw_lattice("skills", seed), POOL) for seed in range(2000, 2012)]
    half = [coverage_table(lattice, 2, 0, 0.5)["coverage"].mean() for lattice in lattices]
    assert 0.4 < np.mean(half) < 0.7


def test_more_scores_give_narrower_intervals_and_a_noisy_score_is_drawn_to_the_others() -> None:
    few, many = (predict_lattice(part(ADDITIVE, range(k)), POOL) for k in (8, 20))
    assert np.diag(many.covariance)[20:].mean() < np.diag(few.covariance)[20:].mean()
    odd = part(ADDITIVE, range(31), 0.3) | {SUBSETS[7]: (ADDITIVE[7] + 12, 5.0)}
    assert abs(predict_lattice(odd, POOL).mean[7] - ADDITIVE[7]) < 4


def test_a_covariate_that_orders_the_rest_brings_the_predictions_nearer() -> None:
    values = 50 + 8 * random_of(3).standard_normal(31)  # no structure but the covariate's
    known = {s: [v / 3] for s, v in zip(SUBSETS, values, strict=True)}
    seen = part(values, range(0, 31, 2), 0.3)
    without, with_it = (predict_lattice(seen, POOL, c) for c in (None, known))
    error = [np.abs(prediction.mean - values)[1::2].mean() for prediction in (without, with_it)]
    assert error[1] < 0.3 * error[0]
    with pytest.raises(StudyError, match=r"covariates: no row of 'sam'"):
        predict_lattice(seen, POOL, {s: c for s, c in known.items() if s != "sam"})


# --- advice ---


def test_nothing_trained_and_nothing_above_the_budget_is_proposed() -> None:
    for seed in range(4):
        lattice = draw_lattice("synergy", seed)
        seen = [SUBSETS[i] for i in random_of(seed).permutation(31)[: 4 + 3 * seed]]
        for at_most in (1, 2, 3):
            result = advise({s: lattice[s] for s in seen}, POOL, [Goal(at_most)], count=40).next["subset"]
            assert not set(result) & set(seen)
            assert all(subset.count("+") < at_most for subset in result)
            assert len(set(result)) == len(result)


def test_the_full_pool_comes_first_when_a_match_with_it_is_asked_for_and_no_match_is_sought_once_found() -> (
    None
):
    seen = part(ADDITIVE, range(8), 0.2)
    assert advise(seen, POOL, [PAIR, MATCH]).next["subset"][0] == SUBSETS[30]
    assert advise(seen, POOL, [PAIR]).next["subset"].str.count(r"\+").max() == 1
    matched = seen | part(ADDITIVE, [25, 30], 0.2)  # without sam it is even better
    result = advise(matched, POOL, [PAIR, MATCH], count=40)
    assert result.next["subset"].str.count(r"\+").max() == 1
    assert "clip+siglip+dinov2+convnext" in result.statements[1]


def test_the_clearly_best_pair_is_named_with_its_probability_and_a_small_regret() -> None:
    seen = part(ADDITIVE, [*range(5), 5, 6, 9, 14, 30], 0.1)
    result = advise(seen, POOL, [PAIR])
    assert result.statements[0].startswith(
        "best of at most 2 encoders: clip+siglip (65.0) is it with probability"
    )
    table = result.predictions.set_index("subset")
    assert table["p_best"].idxmax() == "clip+siglip" and table["p_best"].sum() == pytest.approx(1)
    cost = float(result.statements[0].split("cost ")[1].split(" ")[0])
    assert 0 <= cost < 0.2
    open_ = advise(part(ADDITIVE, range(5), 0.1), POOL, [PAIR])
    assert float(open_.statements[0].split("cost ")[1].split(" ")[0]) > 1


def test_costs_turn_the_choice_to_the_cheaper_of_two_candidates() -> None:
    seen = part(ADDITIVE, range(5), 0.3)
    first, second = advise(seen, POOL, [PAIR]).next["subset"][:2]
    costs = dict.fromkeys(SUBSETS, 1.0) | {first: 50.0}
    assert advise(seen, POOL, [PAIR], costs=costs).next["subset"][0] == second
    with pytest.raises(StudyError, match=r"costs: no row of 'sam'"):
        advise(seen, POOL, [PAIR], costs={s: 1.0 for s in SUBSETS if s != "sam"})
    with pytest.raises(StudyError, match=r"costs: 'sam': the cost is not a positive number"):
        advise(seen, POOL, [PAIR], costs=dict.fromkeys(SUBSETS, 1.0) | {"sam": 0.0})


def test_equal_input_gives_equal_advice_in_whatever_order_it_is_given() -> None:
    lattice = draw_lattice("crowding", 3)
    seen = {s: lattice[s] for s in SUBSETS[:9]}
    turned = {"+".join(reversed(s.split("+"))): seen[s] for s in reversed(seen)}
    once, again = advise(seen, POOL, [PAIR, MATCH]), advise(turned, POOL, [PAIR, MATCH])
    assert str(once) == str(again)
    pd.testing.assert_frame_equal(once.predictions, again.predictions, check_exact=True)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"clip+blip": (50.0, 1.0)}, r"encoder 'blip' is not in the pool"),
        ({"clip+sam": (50.0, 1.0), "sam+clip": (51.0, 1.0)}, r"subset 'clip\+sam' is given twice"),
        ({"clip": (150.0, 1.0)}, r"subset 'clip': score 150.0 is not a number in 0-100"),
        ({"clip": (float("nan"), 1.0)}, r"subset 'clip': score nan"),
        ({"clip": (50.0, -1.0)}, r"standard error -1.0 is not a number >= 0"),
    ],
)
def test_scores_that_nothing_can_be_made_of_are_refused_in_one_line(
    scores: dict[str, tuple[float, float]], message: str
) -> None:
    with pytest.raises(StudyError, match=message) as caught:
        advise(scores, POOL, [PAIR])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([], "none given"),
        ([Goal(0)], "must be 1 to 5"),
        ([Goal(5, 0.5)], "must be 1 to 4"),
        ([Goal(4, -1.0)], "the margin must be"),
        ([Goal(2), Goal(3)], "two of one kind"),
    ],
)
def test_goals_that_no_subset_can_reach_are_refused(questions: list[Goal], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        advise({}, POOL, questions)


def test_a_pool_too_large_for_the_model_is_refused() -> None:
    with pytest.raises(StudyError, match="2 to 8 encoders"):
        predict_lattice({}, tuple("abcdefghi"))


# --- replays ---


def test_forward_selection_singles_first_and_top_two_train_in_the_order_their_names_say() -> None:
    names = SMALL.subsets
    forward = [names[i] for i in forward_selection(SMALL, [PAIR], random_of(1))]
    assert set(forward[:3]) == {"a", "b", "c"} and set(forward[3:5]) == {"a+b", "a+c"}
    assert forward[5:] == ["a+b+c"]
    singles = [names[i] for i in singles_first(SMALL, [PAIR], random_of(1))]
    assert sorted(singles[:3]) == ["a", "b", "c"] and singles[6] == "a+b+c"
    assert [names[i] for i in top_two(SMALL, [PAIR], random_of(1))][3:] == ["a+b"]


def test_regrets_of_a_known_lattice_are_those_counted_by_hand() -> None:
    place = {s: i for i, s in enumerate(SMALL.subsets)}
    order = [place[s] for s in ("a+b+c", "c", "a", "a+b", "b+c")]
    pair = regrets(SMALL, Goal(2), order)
    assert pair.tolist() == [np.inf, 39.5, 19.5, 15.5, 0.0, 0.0, 0.0]
    match = regrets(SMALL, Goal(2, 0.5), order)  # b+c is 0.5 short of the full pool: exactly enough
    assert match.tolist() == [np.inf, 39.5, 19.5, 15.5, 0.0, 0.0, 0.0]
    wide = regrets(SMALL, Goal(2, 12.0), order)
    assert wide.tolist() == [np.inf, 28.0, 8.0, 4.0, 0.0, 0.0, 0.0]


def test_the_table_of_a_known_lattice_has_the_regrets_and_shares_counted_by_hand() -> None:
    questions = [Goal(2), Goal(2, 0.5)]
    chosen = {k: strategies()[k] for k in ("forward_selection", "top_two")}
    table = replay_table(replay(SMALL, questions, 6, 0, chosen), questions, 0.95)
    assert list(table["question"].unique())[2] == "both" and len(table) == 3 * 2 * 7
    both = table[table["question"] == "both"].set_index(["strategy", "trainings"])
    assert both.loc[("top_two", 4), "regret"] == 15.5 and both.loc[("top_two", 7), "share_found"] == 0
    # after singles (best 40), forward selection goes on with a: it ends with a+c and never trains b+c
    assert both.loc[("forward_selection", 5), "regret"] == 9.5
    assert both.loc[("forward_selection", 7), "share_found"] == 0


def test_a_lattice_in_which_nothing_matches_is_found_when_the_nearest_is_trained() -> None:
    steep = KnownLattice({s: (10.0 * len(s.split("+")), 0.0) for s in SMALL.subsets}, SMALL.pool)
    order = [6, 0, 3]
    assert regrets(steep, Goal(2, 0.5), order).tolist()[:3] == [np.inf, 10.0, 0.0]


def test_every_strategy_is_the_same_again_by_seed_and_trains_no_subset_twice() -> None:
    lattice = KnownLattice(draw_lattice("redundancy", 5), POOL)
    for name, strategy in strategies().items():
        once, again = (strategy(lattice, [PAIR, MATCH], random_of(7)) for _ in range(2))
        assert once == again and len(set(once)) == len(once), name
    assert strategies()["random"](lattice, [PAIR], random_of(7)) != strategies()["random"](
        lattice, [PAIR], random_of(8)
    )


def test_the_advisor_sees_no_score_before_its_subset_is_trained() -> None:
    honest = KnownLattice(draw_lattice("skills", 1), POOL)
    order = Advisor()(honest, [PAIR], random_of(0))
    assert len(order) > 5
    other = KnownLattice(draw_lattice("skills", 1), POOL)
    unseen = [i for i in range(31) if i not in order[:5]]
    # above all seen ones, because a replay ends where the best subset is trained
    other.values[unseen] = honest.values.max() + random_of(1).uniform(1, 20, len(unseen))
    assert Advisor()(other, [PAIR], random_of(0))[:5] == order[:5]


def test_the_advisor_needs_fewer_trainings_than_every_other_order_to_answer_both_questions() -> None:
    shares: dict[str, list[float]] = {}
    for seed in range(2000, 2012):
        for family in ("redundancy", "synergy"):
            result = replay(KnownLattice(draw_lattice(family, seed), POOL), [PAIR, MATCH], 1, seed)
            for name, regret in result.items():
                shares.setdefault(name, []).append(float((regret[0] <= 1e-9).all(0)[9]))
    mean = {name: np.mean(share) for name, share in shares.items()}
    assert max(mean, key=mean.__getitem__) == "advisor"
    assert mean["advisor"] > mean["random"] + 0.3


def test_an_incomplete_lattice_cannot_be_replayed() -> None:
    with pytest.raises(StudyError, match=r"no score of 'a\+b'; a replay needs every subset"):
        KnownLattice({"a": (1.0, 0.0), "b": (2.0, 0.0)}, ("a", "b"))


# --- tables and commands ---


def write_scores(path: Path, subsets: tuple[str, ...] = SUBSETS, seeds: tuple[int, ...] = (0,)) -> Path:
    lattice = draw_lattice("skills", 0)
    rows = [
        {"subset": s, "seed": seed, "operator": operator, "level": level, "benchmark": name}
        | {"score": lattice[s][0] + seed + shift, "low": lattice[s][0] - 1.96, "high": lattice[s][0] + 1.96}
        for s in subsets
        for seed in seeds
        for operator, level, name, shift in (
            ("unmasked", "overall", "overall", 0.0),
            ("unmasked", "group", "General", -5.0),
            ("zero", "overall", "overall", -9.0),
        )
    ]
    rows.append({"subset": "blind", "seed": 0, "operator": "unmasked", "benchmark": "overall", "score": 25.0})
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def settings(path: Path, pool: tuple[str, ...] = POOL) -> Path:
    stage = AdvisorStage(pool=pool, level=0.95, seed=0, advisor=AdvisorSettings(replays=3))
    path.write_text(stage.model_dump_json())
    return path


def test_scores_csv_gives_the_unmasked_scores_of_a_level_with_their_standard_errors(tmp_path: Path) -> None:
    path = write_scores(tmp_path / "scores.csv", seeds=(0, 2))
    truth = draw_lattice("skills", 0)["clip"][0]
    score, error = read_part(path)["clip"]
    assert score == pytest.approx(truth + 1) and error == pytest.approx(np.hypot(1.0, 1.0), abs=1e-3)
    assert read_part(path, "General")["clip"][0] == pytest.approx(truth - 4)
    assert "blind" not in read_part(path)
    with pytest.raises(StudyError, match="no row of 'Generall'; known are overall, General"):
        read_part(path, "Generall")


def test_anybodys_table_of_subsets_is_read_and_a_faulty_one_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("subset,score,standard_error\na,50,1\na+b,60,2\n")
    assert read_part(path) == {"a": (50.0, 1.0), "a+b": (60.0, 2.0)}
    assert read_part(path, standard_error=0.5)["a"] == (50.0, 0.5)
    path.write_text("subset,score\na,50\na,51\n")
    with pytest.raises(StudyError, match="subset 'a' appears twice"):
        read_part(path, standard_error=0.5)
    path.write_text("subset,score\na,50\n")
    with pytest.raises(StudyError, match="no column standard_error, nor low and high"):
        read_part(path)
    path.write_text("subset,standard_error\na,1\n")
    with pytest.raises(StudyError, match="column 'standard_error' is no benchmark, and goes with a column"):
        read_part(path)


def write_part(path: Path, table: str) -> Path:
    path.write_text(f"subset,score,standard_error\n{table}")
    return path


GOOD = "clip,53.2,0.5\nsam,34.8,0.5\ndinov2,48.0,0.5\nclip+sam,55.0,0.5\n"


@pytest.mark.parametrize(
    "table",
    [
        GOOD.replace("+", " & ").upper(),
        GOOD.replace("clip+sam", "SAM + CLIP").replace("dinov2", "DINO-v2"),
        GOOD.replace(".2,", ".2%,").replace(".8,", ".8%,"),
        GOOD + "none,20,0.5\n",
        GOOD + ",,\n\n",
        GOOD.replace("53.2", '"53,2"').replace("34.8", '"34,8"').replace(".0,", ",").replace("0.5", '"0,5"'),
    ],
)
def test_the_advisor_reads_names_and_numbers_as_the_analysis_does(tmp_path: Path, table: str) -> None:
    good = read_part(write_part(tmp_path / "good.csv", GOOD))
    assert set(good) == {"clip", "sam", "dinov2", "clip+sam"}
    part = read_part(write_part(tmp_path / "table.csv", table))
    by_name = {frozenset(subset.split("+")): score for subset, score in part.items()}
    assert by_name == {frozenset(subset.split("+")): score for subset, score in good.items()}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (GOOD + "sam + clip,60,0.5\n", r"subset 'sam \+ clip' appears twice \(rows 4 and 5"),
        (GOOD + ",60,0.5\n", r"row 5 .*the model's encoders are not named"),
        (GOOD + "mae,0.45,0.5\n", r"row 5 \(mae, overall\): score 0\.45 .* or a fraction \(45 points\)"),
        (GOOD + "mae,45±1,0.5\n", "holds a score and its error"),
        (GOOD + "mae,45,\n", "standard_error is empty or NaN"),
        (GOOD + "mae,45,-0.5\n", "standard_error is negative; correct it"),
        ("clip,0.5,0.01\nsam,0.3,0.01\n", r"no score is above 1.*scales: overall 1"),
    ],
)
def test_a_row_that_the_advisor_could_misread_is_refused_by_its_number(
    tmp_path: Path, table: str, message: str
) -> None:
    with pytest.raises(StudyError, match=message):
        read_part(write_part(tmp_path / "table.csv", table))


def test_a_stated_scale_turns_scores_and_their_errors_into_points(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_part(tmp_path / "table.csv", "clip,0.532,0.005\nsam,0.348,0.005\nclip+sam,0.55,0.005\n")
    table = read_subset_scores(path, scales={"score": 1}).table
    np.testing.assert_allclose(table["score"], [53.2, 34.8, 55.0])
    np.testing.assert_allclose(table["standard_error"], 0.5)
    advise_next(scores=path, scales={"score": 1})
    assert "read on 0-1, as scales says" in capsys.readouterr().out


def test_a_table_of_benchmarks_gives_the_means_of_a_level(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    path.write_text("Encoders,MMEP,GQA,TextVQA\nCLIP,1000,60,40\nSAM,600,40,20\nCLIP+SAM,1200,70,60\n")
    assert read_part(path, standard_error=1)["clip"] == (50.0, 1.0)
    assert read_part(path, "General", standard_error=1)["clip"] == (55.0, 1.0)
    assert read_part(path, "TextVQA", standard_error=1)["clip+sam"] == (60.0, 1.0)
    with pytest.raises(StudyError, match="no row of 'Generall'; known are overall, General"):
        read_part(path, "Generall", standard_error=1)
    with pytest.raises(StudyError, match="state one by --standard-error"):
        read_part(path)


def test_the_pool_is_that_of_the_largest_subset_and_of_what_else_occurs() -> None:
    assert find_pool(["sam", "clip+dinov2", "convnext"]) == ("clip", "dinov2", "sam", "convnext")


def test_costs_of_untrained_subsets_are_added_up_from_those_of_trained_ones() -> None:
    parameters = {s: 100 + 10 * len(s.split("+")) + 5 * ("c" in s) for s in SMALL.subsets}
    known = {s: float(parameters[s]) for s in ("a", "b", "c", "a+b")}
    assert extend_costs(known, SMALL.pool) == pytest.approx({s: float(v) for s, v in parameters.items()})
    with pytest.raises(StudyError, match="too few subsets to know what each encoder adds"):
        extend_costs({s: known[s] for s in ("a", "b", "c")}, SMALL.pool)


def test_the_command_prints_predictions_next_trainings_and_where_the_questions_stand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_scores(tmp_path / "scores.csv", SUBSETS[:8])
    costs = tmp_path / "costs.csv"
    table = pd.DataFrame({"subset": SUBSETS[:8], "parameters": [5, 6, 7, 8, 9, 10, 11, 12]})
    table.to_csv(costs, index=False)
    advise_next(scores=path, match=0.5, count=2, costs=costs, output=tmp_path / "advice.csv")
    output = capsys.readouterr().out
    assert "clip+siglip+dinov2+convnext+sam" in output and "p_best" in output and "p_match" in output
    assert "1. clip+siglip+dinov2+convnext+sam: the full pool, which others are to match" in output
    assert "best of at most 2 encoders: " in output and "the full pool is not trained" in output
    written = pd.read_csv(tmp_path / "advice.csv")
    assert len(written) == 31 and (written["low"] <= written["score"]).all()
    known = tmp_path / "known.csv"
    pd.DataFrame({"subset": SUBSETS, "masked": range(31)}).to_csv(known, index=False)
    advise_next(scores=path, covariates=known)
    assert capsys.readouterr().out != output
    pd.DataFrame({"subset": SUBSETS, "masked": "high"}).to_csv(known, index=False)
    with pytest.raises(StudyError, match="column 'masked' holds no numbers"):
        advise_next(scores=path, covariates=known)
    with pytest.raises(StudyError, match="no column 'litres'; it has subset, parameters"):
        advise_next(scores=path, costs=costs, cost="litres")


def test_the_replay_command_writes_the_same_tables_again_and_heads_alone_for_a_lattice_with_gaps(
    tmp_path: Path,
) -> None:
    tables = []
    for name in ("once", "again"):
        regret, coverage = tmp_path / f"{name}.csv", tmp_path / f"{name}_coverage.csv"
        scores = write_scores(tmp_path / "scores.csv")
        replay_advisor(
            settings=settings(tmp_path / "s.json"), scores=scores, output=regret, coverage=coverage
        )
        tables.append(regret.read_bytes() + coverage.read_bytes())
    assert tables[0] == tables[1]
    assert len(pd.read_csv(tmp_path / "once.csv")) == 3 * 6 * 31
    gaps = write_scores(tmp_path / "gaps.csv", SUBSETS[:30])
    outputs = {"output": tmp_path / "gaps_r.csv", "coverage": tmp_path / "gaps_c.csv"}
    replay_advisor(settings=settings(tmp_path / "s.json"), scores=gaps, **outputs)
    assert all(pd.read_csv(path).empty for path in outputs.values())


def test_the_advisor_starts_without_torch() -> None:
    code = "import sys, encoder_roles.analysis.advisor.commands; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_under_a_budget_nothing_dearer_is_an_answer_or_worth_a_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scores.csv").write_text("subset,score,standard_error\na,50,1\nb,60,1\nc,55,1\n")
    cost = {"a": 10, "b": 100, "c": 20, "a+b": 110, "a+c": 30, "b+c": 120, "a+b+c": 130}
    rows = "".join(f"{subset},{parameters}\n" for subset, parameters in cost.items())
    (tmp_path / "costs.csv").write_text("subset,parameters\n" + rows)
    advise_next(
        scores=tmp_path / "scores.csv", costs=tmp_path / "costs.csv", budget=60, output=tmp_path / "out.csv"
    )
    chances = pd.read_csv(tmp_path / "out.csv").set_index("subset")["p_best"]
    assert set(chances[chances > 0].index) <= {"a", "c", "a+c"} and chances["b"] == 0
    output = capsys.readouterr().out
    assert "  1. a+c:" in output and "  2." not in output
    assert "best of at most 3 encoders for at most 60 parameters: c (55.0)" in output
    with pytest.raises(StudyError, match="no subset costs so little"):
        advise_next(scores=tmp_path / "scores.csv", costs=tmp_path / "costs.csv", budget=5)
    with pytest.raises(StudyError, match="budget: needs costs"):
        advise_next(scores=tmp_path / "scores.csv", budget=5)
