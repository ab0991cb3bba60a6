from __future__ import annotations

import itertools
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from lattice_simulation import Plan, Simulation, make_plan, simulate, simulate_study
from scipy.stats import norm

from encoder_roles.analysis.claims.claim import (
    FAILS,
    HOLDS,
    OPEN,
    UNTESTED,
    Evidence,
    by_interval,
    read_claims,
)
from encoder_roles.analysis.commands import analyse, assign_roles
from encoder_roles.analysis.lattice import subset_name
from encoder_roles.analysis.measures.chains import best_chain, greedy_chain
from encoder_roles.analysis.measures.games import index_map, shapley
from encoder_roles.analysis.measures.pareto import on_front
from encoder_roles.analysis.measures.rank_regression import explained, leave_one_out, partial_correlations
from encoder_roles.analysis.measures.roles import (
    capacity,
    information_gap,
    necessity,
    redundancy,
    relative_necessity,
)
from encoder_roles.study.names import StudyError
from encoder_roles.study.sections import StatisticsSettings
from encoder_roles.study.stages import RoleStage

POOL = ("clip", "dinov2", "sam")
FIVE = ("clip", "siglip", "dinov2", "convnext", "sam")
FEW = {"General": ("mme", "seed"), "OCR & Chart": ("chartqa",)}
OUTPUTS = ["roles", "pairs", "rankings", "differences", "mask_gaps", "games", "chains", "rank_regression"]
OUTPUTS += ["pareto", "lattice", "seed_covariance"]


def stage(pool: tuple[str, ...] = POOL, **changes: object) -> RoleStage:
    statistics = {"resamples": 300, "level": 0.95, "seed": 0, "overall": "benchmarks"}
    statistics |= {"seed_deviation": 0.0} | changes  # stated: a study with one seed has verdicts
    return RoleStage(
        study="simulated", pool=pool, tau=0.1, statistics=StatisticsSettings.model_validate(statistics)
    )


def run(result: Simulation, pool: tuple[str, ...] = POOL, **changes: object):
    tables, claims, notes = analyse(result.scores, result.ranks, result.costs, stage(pool, **changes))
    return tables, {c.claim: c for c in claims}, notes


@pytest.fixture(scope="module")
def plan() -> Plan:
    return make_plan(np.random.default_rng(4), POOL, FEW)


@pytest.fixture(scope="module")
def study(plan: Plan) -> Simulation:
    return simulate(plan, np.random.default_rng(5), questions=100)


@pytest.fixture(scope="module")
def results(study: Simulation):
    return run(study)


def values_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(20, 80, 2**n)


# --- measures ---


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_roles_are_what_their_definitions_say(n: int) -> None:
    pool = FIVE[:n]
    v = {frozenset(subset_name(i, pool).split("+")) - {"blind"}: x for i, x in enumerate(values_of(n))}
    whole = frozenset(pool)
    for i, e in enumerate(pool):
        one, rest = frozenset({e}), whole - {e}
        assert capacity(values_of(n))[i] == v[one]
        assert necessity(values_of(n))[i] == pytest.approx(v[whole] - v[rest])
        assert relative_necessity(values_of(n))[i] == pytest.approx((v[whole] - v[rest]) / v[whole])
        assert redundancy(values_of(n))[i] == pytest.approx((v[one] - v[frozenset()]) - (v[whole] - v[rest]))
    u = [(v[whole] - v[whole - {e}]) / v[whole] for e in pool]
    assert information_gap(values_of(n))[0] == pytest.approx(max(u) - min(u))


def test_redundancy_is_zero_when_encoders_add_up_and_positive_when_one_can_replace_another() -> None:
    gains = np.array([3.0, 5.0, 7.0])
    additive = 20 + np.array([[s >> i & 1 for i in range(3)] for s in range(8)]) @ gains
    np.testing.assert_allclose(redundancy(additive), 0, atol=1e-12)
    twins = np.array([20.0] + [50.0] * 7)
    assert (redundancy(twins) == 30).all()


@pytest.mark.parametrize("n", [2, 3, 5])
def test_shapley_through_shapiq_is_the_mean_marginal_gain_over_all_orders(n: int) -> None:
    v = values_of(n, 3)
    gains = np.zeros(n)
    for order in itertools.permutations(range(n)):
        before = 0
        for e in order:
            gains[e] += v[before | 1 << e] - v[before]
            before |= 1 << e
    np.testing.assert_allclose(shapley(v), gains / math.factorial(n))


@pytest.mark.parametrize("n", [2, 4])
def test_banzhaf_moebius_and_pair_interactions_are_their_definitions(n: int) -> None:
    v = values_of(n, 8)
    _, banzhaf = index_map("banzhaf", n)
    others = {e: [s for s in range(2**n) if not s >> e & 1] for e in range(n)}
    np.testing.assert_allclose(
        banzhaf @ v, [np.mean([v[s | 1 << e] - v[s] for s in others[e]]) for e in range(n)]
    )
    coalitions, moebius = index_map("moebius", n)
    for coalition, dividend in zip(coalitions, moebius @ v, strict=True):
        parts = [s for s in range(2**n) if s & coalition == s]
        signs = [(-1) ** (coalition.bit_count() - s.bit_count()) for s in parts]
        assert dividend == pytest.approx(float(np.dot(signs, v[parts])))
    pairs, interaction = index_map("shapley_interaction", n)
    for pair, value in zip(pairs, interaction @ v, strict=True):
        i, j = (1 << e for e in range(n) if pair >> e & 1)
        expected = 0.0
        for s in (s for s in range(2**n) if not s & pair):
            orders = math.factorial(s.bit_count()) * math.factorial(n - s.bit_count() - 2)
            expected += orders / math.factorial(n - 1) * (v[s | pair] - v[s | i] - v[s | j] + v[s])
        assert value == pytest.approx(expected)


def test_the_best_chain_is_the_best_of_all_orders_and_the_greedy_one_takes_the_best_step() -> None:
    v = values_of(4, 11)
    chains = []
    for order in itertools.permutations(range(4)):
        chains.append([sum(1 << e for e in order[: k + 1]) for k in range(4)])
    assert best_chain(v) == max(chains, key=lambda chain: v[chain].sum())
    greedy = greedy_chain(v)
    assert v[greedy[0]] == capacity(v).max()
    for before, after in itertools.pairwise(greedy):
        assert v[after] == max(v[before | 1 << e] for e in range(4) if not before >> e & 1)


def test_the_front_holds_exactly_the_points_nobody_beats() -> None:
    score, cost = np.array([1.0, 3.0, 2.0, 3.0, 5.0]), np.array([1.0, 2.0, 2.5, 2.0, 9.0])
    assert on_front(score, cost).tolist() == [True, True, False, True, True]


# --- regression ---


def test_leave_one_out_predictions_are_those_of_refitted_regressions() -> None:
    random = np.random.default_rng(0)
    base = np.column_stack([np.ones(12), random.normal(size=12)])
    second = np.column_stack([np.ones(12), random.normal(size=(12, 2))])
    y = random.normal(size=12)
    result = leave_one_out(base, second) @ y
    for i in range(12):
        keep = np.arange(12) != i
        first = np.linalg.lstsq(base[keep], y[keep])[0]
        rest = np.linalg.lstsq(second[keep], y[keep] - base[keep] @ first)[0]
        assert result[i] == pytest.approx(base[i] @ first + second[i] @ rest)


def test_partial_correlation_is_the_t_of_the_full_regression() -> None:
    random = np.random.default_rng(1)
    base, columns = np.column_stack([np.ones(20), random.normal(size=20)]), random.normal(size=(20, 2))
    y = random.normal(size=20)
    whole = np.hstack([base, columns])
    fit = np.linalg.lstsq(whole, y)[0]
    variance = ((y - whole @ fit) ** 2).sum() / (20 - 4) * np.linalg.inv(whole.T @ whole)
    t = fit[2:] / np.sqrt(np.diag(variance)[2:])
    np.testing.assert_allclose(partial_correlations(y, base, columns), t / np.sqrt(t**2 + 16))


def test_random_numbers_explain_as_much_as_their_number_lets_them() -> None:
    random = np.random.default_rng(2)
    y = random.normal(size=31)
    columns = np.concatenate([np.ones((2000, 31, 1)), random.normal(size=(2000, 31, 4))], axis=-1)
    assert explained(y - y.mean(), columns).mean() == pytest.approx(4 / 30, abs=0.01)


def test_a_planted_effect_of_rank_is_found_and_an_absent_one_is_not() -> None:
    outcomes = {}
    for effect in (0.0, 12.0):
        random = np.random.default_rng(7)
        plan = make_plan(random, FIVE, FEW, seed_noise=0.05, rank_effect=effect)
        # ratios of their own for every subset: tendencies of the encoders would be mixed up with their skills
        ratio = {key: float(np.exp(random.normal(0, 0.2))) for key in plan.ratio}
        plan = replace(plan, ratio=ratio, main=plan.main * 0 + plan.main.mean(), pairs=plan.pairs * 0)
        tables, claims, _ = run(simulate(plan, random, questions=300, operators=()), FIVE)
        row = tables["rank_regression"].set_index("model").loc["ratio_mean"]
        outcomes[effect] = (row["partial_correlation"], row["permutation_p"], row["relabel_p"], claims["3a"])
    assert outcomes[12.0][0] > 0.9
    assert outcomes[12.0][1] < 0.01
    assert outcomes[12.0][2] < 0.05
    assert outcomes[12.0][3].verdict == HOLDS
    assert outcomes[0.0][1] > 0.05
    assert outcomes[0.0][3].verdict != HOLDS


# --- tables and claims ---


def test_every_measure_of_every_encoder_has_a_row_with_its_interval(results) -> None:
    roles = results[0]["roles"]
    # overall, 2 groups, 3 benchmarks; 3 lattices; 4 measures of 3 encoders and one of the pool
    assert len(roles) == 6 * 3 * (4 * 3 + 1)
    assert ((roles["low"] <= roles["value"]) & (roles["value"] <= roles["high"])).mean() > 0.97
    assert set(roles["operator"]) == {"retrained", "zero", "mean"}
    assert set(roles.loc[roles["operator"] == "zero", "measure"]) == {
        *("capacity", "necessity", "cur", "redundancy", "information_gap")
    }


def test_the_shapley_values_of_a_lattice_share_out_what_the_pool_gains_over_blind(study, results) -> None:
    games = results[0]["games"].query("index == 'shapley' and level == 'overall'")
    scores = results[0]["pareto"].set_index("subset")["score"]
    roles = results[0]["roles"].query("level == 'overall' and operator == 'retrained'")
    clip = roles[roles["encoder"] == "clip"].set_index("measure")["value"]
    blind = clip["capacity"] - clip["redundancy"] - clip["necessity"]
    total = games[games["operator"] == "retrained"]["value"].sum()
    assert total == pytest.approx(scores["clip+dinov2+sam"] - blind)


def test_pairs_take_their_roles_from_capacity_and_rank_ratio(plan: Plan) -> None:
    ratio = dict.fromkeys(plan.ratio, 1.0)
    ratio |= {("clip+dinov2", "dinov2"): 1.05, ("clip+sam", "clip"): 0.7, ("clip+sam", "sam"): 1.3}
    ratio |= {("dinov2+sam", "sam"): 0.9}
    main = np.array([[2.0], [1.0], [0.0]]) * np.ones((1, 3))
    shaped = replace(plan, ratio=ratio, main=main, pairs=plan.pairs * 0)
    tables, _, _ = run(simulate(shaped, np.random.default_rng(0), questions=200))
    pairs = tables["pairs"].set_index(["first", "second"])
    assert pairs.loc[("clip", "dinov2"), ["anchor", "complement"]].tolist() == ["clip", "dinov2"]
    assert pairs.loc[("clip", "sam"), ["anchor", "complement"]].tolist() == ["", "sam"]
    assert pairs.loc[("dinov2", "sam"), ["anchor", "complement"]].tolist() == ["dinov2", ""]
    assert pairs["probability_roles"].tolist() == pytest.approx([1, 0, 0], abs=0.02)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_the_error_of_a_rank_ratio_follows_from_its_interval_at_the_studys_level(
    plan: Plan, level: float
) -> None:
    main = np.array([[2.0], [0.0], [0.0]]) * np.ones((1, 3))
    study = simulate(replace(plan, main=main, pairs=plan.pairs * 0), np.random.default_rng(0), questions=200)
    error, ratio = 0.1, np.where(study.ranks["encoder"] == "clip", 1.5, 1.15)
    half = np.exp(norm.ppf((1 + level) / 2) * error)
    ranks = study.ranks.assign(ratio=ratio, ratio_low=ratio / half, ratio_high=ratio * half)
    tables, _, _ = run(replace(study, ranks=ranks), level=level, resamples=4000)
    row = tables["pairs"].set_index(["first", "second"]).loc[("clip", "dinov2")]
    # clip is the anchor beyond doubt; dinov2 is the complement if its ratio is above 1
    expands = norm.cdf(np.log(1.15) / error)
    assert row["probability_roles"] == pytest.approx(expands, abs=0.03)


def test_planted_reversals_of_masking_are_found_and_equal_orders_are_not_called_different(plan: Plan) -> None:
    flat = replace(
        plan, main=np.array([[2.0], [1.0], [0.0]]) + np.zeros(3), pairs=plan.pairs * 0, base=plan.base * 0 - 1
    )
    verdicts = {}
    for name, loss in (("reversed", [0.1, 1.0, 2.0]), ("alike", [2.0, 1.0, 0.1])):
        shaped = replace(flat, masked_loss=np.array(loss)[:, None] + np.zeros(3))
        tables, claims, _ = run(simulate(shaped, np.random.default_rng(1), questions=400))
        rows = tables["rankings"].query("level == 'overall' and measure == 'necessity'")
        row = rows.set_index("operator").loc["zero"]
        outcome = (claims["1a"].verdict, claims["1b"].verdict)
        verdicts[name] = (*outcome, row["kendall_tau"], row["biggest_reversal"])
        assert row["ranking_retrained"] == "clip>dinov2>sam"
        assert row["ranking_masked"] == ("sam>dinov2>clip" if name == "reversed" else "clip>dinov2>sam")
    assert verdicts["reversed"] == (HOLDS, HOLDS, -1, "clip 1->3")
    assert verdicts["alike"] == (FAILS, FAILS, 1, "")


def test_a_dominant_complementary_pair_makes_the_pair_claims_hold(plan: Plan) -> None:
    # clip and dinov2 are best alone but do the same; sam is weak alone and adds most to clip
    pairs = np.array([[0.0, -1.6, 0.6], [-1.6, 0.0, -1.6], [0.6, -1.6, 0.0]])
    main = np.array([[2.2], [1.6], [1.2]]) * np.ones((1, 3))
    ratio = dict.fromkeys(plan.ratio, 1.0) | {("clip+sam", "sam"): 1.5}
    shaped = replace(plan, main=main, pairs=pairs, ratio=ratio, base=plan.base * 0 - 1.5)
    _, claims, _ = run(simulate(shaped, np.random.default_rng(2), questions=600))
    assert {k: claims[k].verdict for k in ("2a", "3b")} == {"2a": HOLDS, "3b": HOLDS}
    assert claims["2a"].low > 0
    assert claims["2b"].evidence == Evidence("pairs.csv", {"first": "clip", "second": "sam"})
    assert claims["2c"].verdict == HOLDS  # the third encoder takes away


def test_claims_without_data_are_said_to_be_untested_and_nothing_is_left_out(results) -> None:
    claims = results[1]
    assert list(claims) == ["1a", "1b", "2a", "2b", "2c", "3a", "3b", "4a", "4b", "5", "6", "7"]
    assert [c for c, claim in claims.items() if claim.verdict == UNTESTED and c in ("4b", "5", "6", "3a")]
    assert all(c.verdict in (HOLDS, FAILS, OPEN, UNTESTED) for c in claims.values())
    tested = [c for c in claims.values() if c.verdict != UNTESTED]
    assert all("stated seed deviation of 0" in c.seed_note and c.evidence for c in tested)
    assert all("A verdict" in c.to_decide or "Noise is" in c.to_decide for c in tested)


def test_every_tested_claim_points_at_rows_that_exist(results) -> None:
    tables, claims, _ = results
    for claim in claims.values():
        if claim.verdict == UNTESTED:
            continue
        table = tables[claim.evidence.file.removesuffix(".csv")]
        for column, value in claim.evidence.row.items():
            table = table[table[column].astype(str) == str(value)]
        assert len(table) >= 1, claim


@pytest.mark.parametrize("margin", [0.1, 1.0, 40.0])
def test_the_full_pool_is_worth_its_cost_against_the_margin_of_the_settings(
    study: Simulation, margin: float
) -> None:
    claim = run(study, margin=margin)[1]["7"]
    assert claim.verdict == by_interval(claim.low, claim.high, margin)
    assert ("a point per" if margin == 1 else f"{margin:g} points per") in claim.statement
    if margin == 40:
        assert claim.verdict == FAILS


def test_an_incomplete_lattice_gives_what_it_can_and_says_what_it_cannot(study: Simulation) -> None:
    rows = study.scores
    lost = (rows["subset"] == "sam") | (rows["mask"] == "clip+dinov2") & (rows["operator"] == "zero")
    scores = rows[~lost]
    tables, claims, notes = run(replace(study, scores=scores))
    roles = tables["roles"].query("level == 'overall'").set_index(["operator", "measure", "encoder"])
    assert ("retrained", "capacity", "sam") not in roles.index
    assert ("retrained", "capacity", "clip") in roles.index
    assert ("retrained", "necessity", "sam") in roles.index
    assert ("zero", "necessity", "sam") not in roles.index
    assert set(tables["games"]["operator"]) == {"mean"}
    assert set(tables["chains"]["kind"]) == {"best_of_size", "lattice_mean"}
    assert set(tables["chains"]["size"]) == {3}
    assert claims["1a"].verdict == UNTESTED
    assert claims["2a"].verdict == UNTESTED
    text = " ".join(n["note"] for n in notes)
    assert "retrained: no score of sam;" in text
    assert "zero: no score of clip+dinov2;" in text


def test_a_study_without_masks_or_blind_model_is_analysed_as_far_as_it_goes(study: Simulation) -> None:
    scores = study.scores[(study.scores["operator"] == "unmasked") & (study.scores["subset"] != "blind")]
    tables, claims, _ = run(replace(study, scores=scores))
    assert tables["rankings"].empty
    assert "kendall_tau" in tables["rankings"].columns
    assert tables["games"].empty
    assert claims["1a"].verdict == UNTESTED
    assert claims["4a"].verdict != UNTESTED
    assert 1 not in set(tables["chains"]["size"])


def test_a_pool_of_two_is_analysed_and_a_pool_of_one_is_refused(plan: Plan) -> None:
    pool = ("clip", "sam")
    random = np.random.default_rng(0)
    simulation = simulate(make_plan(random, pool, FEW), random, questions=60)
    tables, _, _ = run(simulation, pool)
    assert len(tables["pairs"]) == 1
    with pytest.raises(StudyError, match="at least two encoders"):
        run(simulation, ("clip",))


def test_three_seeds_are_said_to_be_in_the_intervals(plan: Plan) -> None:
    simulation = simulate(plan, np.random.default_rng(0), seeds=(0, 1, 2), questions=60)
    _, claims, notes = run(simulation, seed_deviation=None)
    assert "noise between 3 training seeds" in claims["4a"].seed_note
    assert "noise between 3 training seeds" in notes[0]["note"]


def test_a_mask_gap_is_the_retrained_minus_the_masked_value_with_a_paired_interval(results) -> None:
    tables = results[0]
    gaps = tables["mask_gaps"].query("level == 'overall'").set_index(["operator", "measure", "item"])
    roles = tables["roles"].query("level == 'overall'").set_index(["operator", "measure", "encoder"])
    for operator in ("zero", "mean"):
        for measure in ("capacity", "necessity"):
            for encoder in POOL:
                one, other = (roles.loc[(side, measure, encoder)] for side in ("retrained", operator))
                gap = gaps.loc[(operator, measure, encoder)]
                assert gap["difference"] == pytest.approx(one["value"] - other["value"])
                # paired: never wider than the two intervals side by side
                assert gap["high"] - gap["low"] < (one["high"] - one["low"]) + (other["high"] - other["low"])
    assert ("zero", "score", "clip+dinov2+sam") not in gaps.index
    assert ("zero", "score", "blind") in gaps.index
    assert (gaps["p_holm"] >= gaps["p"]).all()


# --- the command ---


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("study")
    simulate_study(place, 0, pool=POOL, questions=40)
    (place / "settings.json").write_text(stage().model_dump_json())
    return place


def assign(folder: Path, output: Path, **changes: Path) -> None:
    files = {
        "scores": folder / "scores.parquet",
        "ranks": folder / "ranks.csv",
        "costs": folder / "costs.csv",
    }
    assign_roles(**({"settings": folder / "settings.json"} | files | changes), output=output)


def test_the_command_writes_the_same_bytes_every_time_and_touches_no_other_file(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "scores.csv").write_text("kept")
    assign(folder, tmp_path / "a")
    assign(folder, tmp_path / "b")
    names = sorted(path.name for path in (tmp_path / "b").iterdir())
    assert names == sorted([*(f"{n}.csv" for n in OUTPUTS), "claims.json", "notes.json"])
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert (tmp_path / "a" / "scores.csv").read_text() == "kept"
    assert read_claims(tmp_path / "b" / "claims.json")[0].claim == "1a"


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        ("ranks", lambda t: pd.concat([t, t.iloc[[1]]]), "duplicate row: one per subset, seed, encoder"),
        ("ranks", lambda t: t.assign(erank=t["erank"].where(t.index != 2)), "erank is not a positive number"),
        ("ranks", lambda t: t.assign(encoder=t["encoder"].replace("sam", "mae")), "'mae' is not in subset"),
        ("costs", lambda t: t.assign(study="other"), "study is not 'simulated'"),
        ("costs", lambda t: t.drop(columns="parameters"), "no column parameters"),
        ("costs", lambda t: t.assign(subset=t["subset"].replace("sam", "mae")), "'mae' is not in the pool"),
    ],
)
def test_bad_ranks_and_costs_are_refused_in_one_line_and_nothing_is_written(
    folder: Path, tmp_path: Path, file, spoil, message
) -> None:
    bad = tmp_path / f"{file}.csv"
    spoil(pd.read_csv(folder / f"{file}.csv")).to_csv(bad, index=False)
    with pytest.raises(StudyError, match=message) as error:
        assign(folder, tmp_path / "out", **{file: bad})
    assert str(bad) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_the_analysis_imports_without_torch_shapiq_and_what_else_is_slow() -> None:
    code = (
        "import sys, encoder_roles.analysis.external.scores; "
        "slow = {'torch', 'shapiq', 'transformers', 'matplotlib', 'scipy.stats', 'statsmodels'}; "
        "assert not slow & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
