"""Complete studies with a known truth, as the files the analysis reads: scores, ranks, costs.

A question's answer is right with probability chance + (1 - chance) sigmoid(skill - difficulty): the
difficulty belongs to the question's cluster, the skill is the model's on that benchmark (encoder effects,
their interactions, and a deviation of the trained seed). The true score is the expectation over difficulties,
and over seeds where a study has several; with one seed it is the trained checkpoint's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from encoder_roles.analysis.lattice import subset_name
from encoder_roles.analysis.measures.games import shapley
from encoder_roles.analysis.measures.roles import capacity, necessity
from encoder_roles.analysis.seed_noise import SeedNoise, estimate_covariance, join_seeds, seed_covariances
from encoder_roles.analysis.statistics import (
    ClusterSums,
    ScoreArrays,
    percentile_interval,
    resample_clusters,
    score_intervals,
)
from encoder_roles.effective_rank.tables import COLUMNS, PER_WIDTH
from encoder_roles.study.names import BLIND, GROUPS, NO_MASK, NONE_KEPT, all_subsets
from encoder_roles.study.sections import StatisticsSettings

POOL = ("clip", "siglip", "dinov2", "convnext", "sam")
CHANCE = 0.25
DIFFICULTY = 1.0  # standard deviation of a cluster's difficulty, in logits
FIVE_BENCHMARKS = {"General": ("mme", "gqa"), "Knowledge": ("ai2d",), "OCR & Chart": ("chartqa", "docvqa")}
SETTINGS = StatisticsSettings(resamples=200, level=0.95, seed=0, overall="benchmarks")
WIDTHS = {"clip": 64, "siglip": 64, "dinov2": 64, "convnext": 96, "sam": 48}
NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(41)


@dataclass(frozen=True)
class Plan:
    """The truth behind a study, in logits: `main` (encoders, benchmarks), `pairs` (encoders, encoders)."""

    pool: tuple[str, ...]
    benchmarks: tuple[tuple[str, str], ...]  # (benchmark, group)
    base: np.ndarray
    main: np.ndarray
    pairs: np.ndarray
    masked_loss: np.ndarray  # (encoders, benchmarks): what masking an encoder of the full checkpoint takes
    ratio: dict[tuple[str, str], float]  # (subset, encoder) -> rank ratio
    rank_effect: float  # logits per unit of a subset's mean rank ratio
    seed_noise: float  # standard deviation of a trained seed's skill, in logits, apart for every benchmark

    def skill(self, subset: str, mask: str, operator: str) -> np.ndarray:
        """Skill (benchmarks,) of a model, without its seed's deviation."""
        inside = np.array([e in subset.split("+") for e in self.pool], dtype=float)
        value = self.base + inside @ self.main + 0.5 * (inside @ self.pairs @ inside)
        if subset != BLIND:
            value = value + self.rank_effect * (
                np.mean([self.ratio[subset, e] for e in subset.split("+")]) - 1
            )
        if operator != NO_MASK:
            removed = np.array([e not in mask.split("+") for e in self.pool], dtype=float)
            value = value - {"zero": 1.0, "mean": 0.8}.get(operator, 0.9) * (removed @ self.masked_loss)
        return value


@dataclass(frozen=True)
class Simulation:
    """A study's tables; `truth` has a row per model and benchmark with the true `score`."""

    plan: Plan
    scores: pd.DataFrame
    ranks: pd.DataFrame
    costs: pd.DataFrame
    truth: pd.DataFrame


def make_plan(
    random: np.random.Generator,
    pool: Sequence[str] = POOL,
    groups: dict[str, tuple[str, ...]] = GROUPS,
    seed_noise: float = 0.1,
    rank_effect: float = 0.0,
) -> Plan:
    """Draw a truth: encoder effects by group, interactions (mostly redundancy), rank ratios."""
    benchmarks = tuple((b, g) for g, names in groups.items() for b in names)
    n, m = len(pool), len(benchmarks)
    place = [list(groups).index(g) for _, g in benchmarks]
    speciality = random.gamma(1.5, 0.5, size=(n, len(groups)))[:, place]
    pairs = np.triu(random.normal(-0.2, 0.12, size=(n, n)), 1)
    tendency = random.uniform(-0.3, 0.35, size=n)
    ratio = {
        (subset, e): float(np.exp(tendency[i] * len(subset.split("+")) / n + random.normal(0, 0.03)))
        for subset in all_subsets(tuple(pool))
        for i, e in enumerate(pool)
        if e in subset.split("+")
    }
    return Plan(
        pool=tuple(pool),
        benchmarks=benchmarks,
        base=random.normal(-1.2, 0.3, size=m),
        main=speciality * random.uniform(0.7, 1.3, size=(n, m)),
        pairs=pairs + pairs.T,
        masked_loss=random.gamma(2.0, 0.5, size=(n, 1)) * random.uniform(0.7, 1.3, size=(n, m)),
        ratio=ratio,
        rank_effect=rank_effect,
        seed_noise=seed_noise,
    )


def simulate(
    plan: Plan,
    random: np.random.Generator,
    seeds: Sequence[int] = (0,),
    questions: int = 100,
    operators: Sequence[str] = ("zero", "mean"),
    subsets: Sequence[str] | None = None,
    study: str = "simulated",
) -> Simulation:
    """Draw one study: seeds' deviations, difficulties (one per two questions), answers."""
    chosen = all_subsets(plan.pool) if subsets is None else tuple(subsets)
    models = list(_models(plan.pool, chosen, seeds, operators))
    skill = np.array([plan.skill(subset, mask, operator) for subset, _, mask, operator in models])
    trained = {(s, k): random.normal(0, plan.seed_noise, len(plan.benchmarks)) for s, k, _, _ in models}
    actual = skill + np.array([trained[subset, seed] for subset, seed, _, _ in models])
    several = len(seeds) > 1
    truth = true_score(skill, plan.seed_noise) if several else true_score(actual, 0.0)
    rows = pd.DataFrame(models, columns=["subset", "seed", "mask", "operator"])
    known = rows.loc[rows.index.repeat(len(plan.benchmarks))].reset_index(drop=True)
    known["benchmark"] = np.tile([b for b, _ in plan.benchmarks], len(rows))
    known["score"] = truth.ravel()
    return Simulation(
        plan=plan,
        scores=_answers(plan, rows, actual, random, questions, study),
        ranks=_ranks(plan, chosen, seeds, random, study),
        costs=_costs(plan, chosen, seeds, study),
        truth=known,
    )


def simulate_study(
    folder: Path,
    seed: int,
    *,
    pool: Sequence[str] = POOL,
    seeds: Sequence[int] = (0,),
    questions: int = 100,
    study: str = "simulated",
    rank_effect: float = 0.0,
) -> Simulation:
    """Write a complete simulated study into `folder` (scores.parquet, scores.csv, ranks.csv, costs.csv)."""
    random = np.random.default_rng(seed)
    simulation = simulate(
        make_plan(random, pool, rank_effect=rank_effect), random, seeds, questions, study=study
    )
    folder.mkdir(parents=True, exist_ok=True)
    simulation.scores.to_parquet(folder / "scores.parquet", index=False)
    table = score_intervals(simulation.scores, SETTINGS)
    metric = np.where(table["level"] == "benchmark", "accuracy", "mean")
    table.insert(table.columns.get_loc("score"), "metric", metric)
    for name, frame in (("scores", table), ("ranks", simulation.ranks), ("costs", simulation.costs)):
        frame.to_csv(folder / f"{name}.csv", index=False)
    return simulation


MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {  # of values (..., 8)
    "score": lambda v: v,
    "capacity": capacity,
    "necessity": necessity,
    "shapley": shapley,
    "difference": lambda v: v[..., 1:7] - v[..., 2:8],
}


SHARED, JUMP, APART = 0.12, 0.4, 0.1  # logits, together NOISE points of the overall score between seeds
NOISE = 2.7
JUMPS = np.array([0.0, 0.0, 0.0, 1.0, 1.0])  # OCR & Chart is in one of two states, as reading bars was


def coverage_of(
    studies: int, seeds: int, questions: int, resamples: int, noise: float = NOISE
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], float]:
    """Of complete studies of three encoders on five benchmarks, how often intervals hold the expected score.

    The expectation is over questions and training seeds, which differ by about `noise` points of the overall
    score (standard deviation). With one seed that noise comes from a study of the same recipe with three.

    Returns, by measure, whether each 95% interval holds the truth (studies, items) and the error over the
    spread of the resamples (studies, items); and the deviation between seeds of the overall score, in points.
    """
    pool, scale = POOL[:3], noise / NOISE
    settings = StatisticsSettings(resamples=resamples, level=0.95, seed=0, overall="benchmarks")
    held: dict[str, list[np.ndarray]] = {name: [] for name in MEASURES}
    errors: dict[str, list[np.ndarray]] = {name: [] for name in MEASURES}
    variances = []
    for study in range(studies):
        random = np.random.default_rng([seeds, study])
        plan = make_plan(random, pool, FIVE_BENCHMARKS)
        subsets = [subset_name(i, pool) for i in range(2 ** len(pool))]
        skill = np.array([plan.skill(subset, "", NO_MASK) for subset in subsets])
        spread = scale * float(np.hypot(SHARED, APART))
        expected = np.mean(
            [true_score(skill + scale * side * JUMP * JUMPS, spread) for side in (-1, 1)], axis=0
        ).mean(1)
        measured = None
        if seeds == 1:
            reference = _trained(plan, skill, 3, questions, 0, random, scale)
            members = [np.arange(row, row + 3) for row in range(0, len(reference.models), 3)]
            covariance, freedom = estimate_covariance(reference, members) or (np.empty(0), np.nan)
            names = tuple(benchmark for benchmark, _ in plan.benchmarks)
            noise = {NO_MASK: covariance}, {NO_MASK: freedom}
            measured = SeedNoise("reference", "same", 3, names, *noise)
        arrays = _trained(plan, skill, seeds, questions, resamples, random, scale)
        covariance = seed_covariances(arrays, settings, measured)[NO_MASK][0]
        variances.append(covariance.mean())
        joined = join_seeds(arrays, settings, measured)
        point, drawn = joined.point.mean(-1), joined.draws.mean(-1)
        for name, measure in MEASURES.items():
            truth, draws = measure(expected), measure(drawn)
            low, high = percentile_interval(draws, 0.95)
            held[name].append((low <= truth) & (truth <= high))
            errors[name].append((measure(point) - truth) / draws.std(0))
    deviation = float(np.sqrt(max(0.0, np.mean(variances))))  # an estimate of a variance may be negative
    return {name: (np.array(held[name]), np.array(errors[name])) for name in MEASURES}, deviation


def _trained(
    plan: Plan,
    skill: np.ndarray,
    seeds: int,
    questions: int,
    resamples: int,
    random: np.random.Generator,
    scale: float,
) -> ScoreArrays:
    """Answers of models (subsets, benchmarks) trained with several seeds, two questions to a cluster."""
    rows = np.repeat(skill, seeds, axis=0)
    noise = SHARED * random.standard_normal((len(rows), 1)) + APART * random.standard_normal(rows.shape)
    rows = rows + scale * (noise + JUMP * JUMPS * random.choice([-1.0, 1.0], (len(rows), 1)))
    names = [subset_name(i, plan.pool) for i in range(len(skill))]
    models = pd.DataFrame({"subset": np.repeat(names, seeds), "seed": np.tile(np.arange(seeds), len(names))})
    models = models.assign(mask=models["subset"], operator=NO_MASK)
    clusters, draws = [], []
    count = questions // 2
    weight = np.where(np.arange(count) % 2, 1.0, 1.5)[:, None] * np.ones((1, len(rows)))
    for b in range(len(plan.benchmarks)):
        difficulty = random.normal(0, DIFFICULTY, (count, 1))
        right = CHANCE + (1 - CHANCE) / (1 + np.exp(-(rows[:, b] - difficulty)))
        clusters.append(ClusterSums(100 * weight * random.binomial(2, right), 2 * weight))
        draws.append(resample_clusters(clusters[b], resamples, random))
    point = np.stack([c.sums.sum(0) / c.weights.sum(0) for c in clusters], axis=-1)
    table = pd.DataFrame(plan.benchmarks, columns=["benchmark", "group"]).assign(n=questions)
    return ScoreArrays(models, table, tuple(clusters), point * 0, point, np.stack(draws, axis=-1))


def true_lattice(result: Simulation, pool: Sequence[str]) -> np.ndarray:
    """Overall true scores (2^n,) of the retrained lattice."""
    mean = result.truth[result.truth["operator"] == NO_MASK].groupby("subset")["score"].mean()
    return mean[[subset_name(i, tuple(pool)) for i in range(2 ** len(pool))]].to_numpy()


def true_score(skill: np.ndarray, seed_noise: float) -> np.ndarray:
    """Expected score 0-100 of a skill over difficulties (and seeds): Gauss-Hermite quadrature."""
    spread = np.hypot(DIFFICULTY, seed_noise)
    right = 1 / (1 + np.exp(-(skill[..., None] + spread * NODES)))
    return 100 * (CHANCE + (1 - CHANCE) * (right @ NODE_WEIGHTS) / NODE_WEIGHTS.sum())


def _models(
    pool: tuple[str, ...], subsets: Sequence[str], seeds: Sequence[int], operators: Sequence[str]
) -> Iterator[tuple[str, int, str, str]]:
    full = "+".join(pool)
    for seed in seeds:
        yield BLIND, seed, NONE_KEPT, NO_MASK
        yield from ((subset, seed, subset, NO_MASK) for subset in subsets)
        masks = (NONE_KEPT, *all_subsets(pool)[:-1])
        yield from ((full, seed, mask, operator) for operator in operators for mask in masks)


def _answers(
    plan: Plan,
    models: pd.DataFrame,
    skill: np.ndarray,
    random: np.random.Generator,
    questions: int,
    study: str,
) -> pd.DataFrame:
    tables = []
    for b, (benchmark, group) in enumerate(plan.benchmarks):
        cluster = np.arange(questions) // 2
        difficulty = random.normal(0, DIFFICULTY, cluster[-1] + 1)[cluster]
        right = CHANCE + (1 - CHANCE) / (1 + np.exp(-(skill[:, b, None] - difficulty)))
        table = models.loc[models.index.repeat(questions)].reset_index(drop=True)
        table["benchmark"], table["group"] = benchmark, group
        table["question"] = np.tile(np.char.add("q", np.arange(questions).astype(str)), len(models))
        table["cluster"] = np.tile(np.char.add("c", cluster.astype(str)), len(models))
        table["score"] = np.where(random.random(right.shape) < right, 100.0, 0.0).ravel()
        # unequal weights, as CV-Bench 2D's two sources have
        table["weight"] = np.tile(np.where(cluster % 2, 1.0, 1.5), len(models))
        table["unparsable"] = random.random(len(table)) < 0.01
        tables.append(table)
    scores = pd.concat(tables, ignore_index=True)
    scores.insert(0, "study", study)
    return scores


def _ranks(
    plan: Plan, subsets: Sequence[str], seeds: Sequence[int], random: np.random.Generator, study: str
) -> pd.DataFrame:
    start = {e: WIDTHS.get(e, 64) * float(random.uniform(0.3, 0.7)) for e in plan.pool}
    rows = [("pretrained", seeds[0], e, start[e], 1.0, np.nan) for e in plan.pool]
    for subset in subsets:
        for seed in seeds:
            for e in subset.split("+"):
                ratio = plan.ratio[subset, e] * float(np.exp(random.normal(0, 0.01)))
                rows.append((subset, seed, e, start[e] * ratio, ratio, ratio / plan.ratio[e, e]))
    table = pd.DataFrame(rows, columns=["subset", "seed", "encoder", "erank", "ratio", "ratio_solo"])
    width = table["encoder"].map(lambda e: WIDTHS.get(e, 64))
    table.insert(0, "study", study)
    table["width"], table["pictures"], table["tokens"] = width, 1024, 16384
    table["erank_low"], table["erank_high"] = table["erank"] * 0.98, table["erank"] * 1.02
    for column, factor in (("erank_uncentred", 0.9), ("erank_energy", 0.5), ("participation_ratio", 0.3)):
        table[column] = table["erank"] * factor
    table["stable_rank"] = table["erank"] * 0.1
    for name in PER_WIDTH:
        table[f"{name}_per_width"] = table[name] / width
    table["ratio_low"], table["ratio_high"] = table["ratio"] * 0.97, table["ratio"] * 1.03
    return table[list(COLUMNS)]


def _costs(plan: Plan, subsets: Sequence[str], seeds: Sequence[int], study: str) -> pd.DataFrame:
    rows = []
    for subset in subsets:
        encoders = subset.split("+")
        of_encoders = sum(150_000 + 10_000 * plan.pool.index(e) for e in encoders)
        connector, language_model = 70 * sum(WIDTHS.get(e, 64) for e in encoders) + 5_000, 204_000
        parameters = of_encoders + connector + language_model
        for seed in seeds:
            seconds = 10.0 + parameters / 2e4
            rows.append(
                {
                    "study": study,
                    "subset": subset,
                    "seed": seed,
                    "encoders": len(encoders),
                    "parameters": parameters,
                    "encoder_parameters": of_encoders,
                    "connector_parameters": connector,
                    "language_model_parameters": language_model,
                    "align_flops": parameters * 10**6,
                    "tune_flops": parameters * 6 * 10**6,
                    "align_seconds": 15.0,
                    "tune_seconds": seconds,
                    "predict_seconds": 2.0 + len(encoders),
                    "peak_memory_mb": 800.0 + 40 * len(encoders),
                    "core_hours": (15.0 + seconds) / 3600,
                }
            )
    return pd.DataFrame(rows)
