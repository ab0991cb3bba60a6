"""Coverage of the intervals over simulated studies with known truth, and the time of the whole analysis.

Run from the repository root: `python benchmarks/analysis_coverage.py --studies 1000`. Prints, for one and for
three training seeds, the share of 95% intervals of scores, Capacity, Necessity, Shapley values and of
differences that hold the truth.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from lattice_simulation import FIVE_BENCHMARKS, POOL, Simulation, make_plan, simulate

from encoder_roles.analysis.commands import analyse
from encoder_roles.analysis.games import shapley
from encoder_roles.analysis.lattice import build_lattices, subset_name
from encoder_roles.analysis.roles import capacity, necessity
from encoder_roles.analysis.statistics import interval
from encoder_roles.study import NO_MASK, RoleStage, StatisticsSettings

SMALL = POOL[:3]
MEASURES = {
    "score": lambda v: v,
    "capacity": capacity,
    "necessity": necessity,
    "shapley": shapley,
    "difference": lambda v: v[..., 1:7] - v[..., 2:8],
}


def settings(pool: tuple[str, ...], resamples: int) -> RoleStage:
    statistics = StatisticsSettings(resamples=resamples, level=0.95, seed=0, overall="benchmarks")
    return RoleStage(study="simulated", pool=pool, tau=0.1, statistics=statistics)


def true_values(found: Simulation, pool: tuple[str, ...]) -> np.ndarray:
    """Overall true scores (2^n,) of the retrained lattice."""
    mean = found.truth[found.truth["operator"] == NO_MASK].groupby("subset")["score"].mean()
    return mean[[subset_name(i, pool) for i in range(2 ** len(pool))]].to_numpy()


def coverage(studies: int, seeds: int, questions: int) -> dict[str, float]:
    """Share of 95% intervals that hold the truth, by measure."""
    held = dict.fromkeys(MEASURES, 0.0)
    for study in range(studies):
        random = np.random.default_rng([seeds, study])
        plan = make_plan(random, SMALL, FIVE_BENCHMARKS, seed_noise=0.3)
        found = simulate(plan, random, range(seeds), questions, operators=())
        lattice = build_lattices(found.scores, settings(SMALL, 1000)).retrained
        truth = true_values(found, SMALL)
        for name, measure in MEASURES.items():
            low, high = interval(measure(lattice.draws[:, 0]), 0.95)
            held[name] += float(np.mean((low <= measure(truth)) & (measure(truth) <= high)))
    return {name: total / studies for name, total in held.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=10_000)
    arguments = parser.parse_args()
    for seeds in (1, 3):
        found = coverage(arguments.studies, seeds, arguments.questions)
        print(f"{seeds} seed(s): " + ", ".join(f"{name} {100 * share:.1f}%" for name, share in found.items()))
    random = np.random.default_rng(0)
    study = simulate(make_plan(random), random, questions=500, operators=("zero", "mean", "shuffle", "noise"))
    start, cpu = time.perf_counter(), time.process_time()
    analyse(study.scores, study.ranks, study.costs, settings(POOL, arguments.resamples))
    print(
        f"whole analysis, {len(study.scores):,} rows, {arguments.resamples:,} resamples: "
        f"{time.perf_counter() - start:.1f} s ({time.process_time() - cpu:.1f} s of processor time)"
    )


if __name__ == "__main__":
    main()
