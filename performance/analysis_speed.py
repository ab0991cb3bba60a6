"""The whole analysis against a plain loop, and the import of the analysis, measured in one run.

    python performance/analysis_speed.py

By default 32 models and 4 x 31 masks, 16 benchmarks of 500 questions, 10,000 resamples.

The plain loop is what one writes first: for every resample, draw each benchmark's clusters, average the
drawn questions of every model with pandas, take roles and differences from the scores, and ask shapiq for
every lattice's Shapley and Banzhaf values, interactions and Moebius transform. It sees the same table and
computes a part of the tables only (no regressions, no rankings, no pairs), for `--loop` resamples; its time
for all resamples is that of one times their number, which is exact, because every resample of the loop
costs the same.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from lattice_simulation import POOL, Simulation, make_plan, simulate
from shapiq import ExactComputer

from encoder_roles.analysis.commands import analyse
from encoder_roles.analysis.lattice import subset_index
from encoder_roles.study.names import NO_MASK, NONE_KEPT, all_subsets
from encoder_roles.study.sections import StatisticsSettings
from encoder_roles.study.stages import RoleStage

OPERATORS = ("zero", "mean", "shuffle", "noise")
INDICES = (("SV", 1), ("BV", 1), ("SII", 2), ("Moebius", len(POOL)))
IMPORTED = "encoder_roles.analysis.external.scores"


def settings(resamples: int) -> RoleStage:
    statistics = StatisticsSettings(resamples=resamples, level=0.95, seed=0, overall="benchmarks")
    return RoleStage(study="simulated", pool=POOL, tau=0.1, statistics=statistics)


def plain_resample(scores: pd.DataFrame, random: np.random.Generator) -> dict[str, float]:
    """One resample by pandas and shapiq: overall scores of all models, roles, differences, games."""
    means = []
    for _, rows in scores.groupby("benchmark", sort=False):
        clusters = rows["cluster"].unique()
        drawn = pd.Series(random.choice(clusters, clusters.size)).value_counts()
        weight = rows["weight"] * rows["cluster"].map(drawn).fillna(0)
        sums = pd.DataFrame({"s": weight * rows["score"], "w": weight}).groupby(
            [rows["subset"], rows["mask"], rows["operator"]]
        )
        total = sums.sum()
        means.append(total["s"] / total["w"])
    overall = pd.concat(means, axis=1).mean(axis=1)
    full, found = "+".join(POOL), {}
    for operator in (NO_MASK, *OPERATORS):
        value = {0: overall["blind", NONE_KEPT, NO_MASK], 2 ** len(POOL) - 1: overall[full, full, NO_MASK]}
        for (subset, mask, of), score in overall.items():
            if of == operator and (operator == NO_MASK or subset == full):
                value[subset_index("blind" if mask == NONE_KEPT else mask, POOL)] = score
        for one, other in combinations(value, 2):
            found[f"{operator} {one} {other}"] = value[one] - value[other]
        for e in range(len(POOL)):
            found[f"capacity {operator} {e}"] = value[1 << e]
            found[f"necessity {operator} {e}"] = (
                value[2 ** len(POOL) - 1] - value[2 ** len(POOL) - 1 - (1 << e)]
            )

        def game(coalitions: np.ndarray, value: dict[int, float] = value) -> np.ndarray:
            return np.array([value[int(row @ (1 << np.arange(len(POOL))))] for row in np.asarray(coalitions)])

        computer = ExactComputer(game, len(POOL))
        for index, order in INDICES:
            for place, gain in enumerate(computer(index, order).values):
                found[f"{index} {operator} {place}"] = float(gain)
    return found


def import_seconds() -> tuple[float, float]:
    """Seconds, and seconds of processor time, that the import takes in a fresh interpreter; best of five."""
    code = (
        "import time; wall, cpu = time.perf_counter(), time.process_time(); "
        f"import {IMPORTED}; print(time.perf_counter() - wall, time.process_time() - cpu)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        for _ in range(5)
    ]
    wall, cpu = np.array([run.split() for run in runs], dtype=float).min(axis=0)
    return float(wall), float(cpu)


def make_study(questions: int) -> Simulation:
    random = np.random.default_rng(0)
    return simulate(make_plan(random), random, questions=questions, operators=OPERATORS)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--questions", type=int, default=500)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--loop", type=int, default=5, help="resamples of the plain loop that are measured")
    arguments = parser.parse_args()
    study = make_study(arguments.questions)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start, cpu = time.perf_counter(), time.process_time()
    tables, _, _ = analyse(study.scores, study.ranks, study.costs, settings(arguments.resamples))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    models = len(all_subsets(POOL)) + 1 + len(OPERATORS) * (2 ** len(POOL) - 1)
    rows = sum(map(len, tables.values()))
    print(f"{models} models, {len(study.scores):,} rows, {arguments.resamples:,} resamples -> {rows:,} rows")
    print(f"whole analysis: {seconds:.1f} s ({cpu:.1f} s of processor time), peak memory {peak:,.0f} MB")
    print(f"  of which held before it began (the table, the libraries): {before:,.0f} MB")
    random = np.random.default_rng(1)
    start = time.process_time()
    for _ in range(arguments.loop):
        plain_resample(study.scores, random)
    each = (time.process_time() - start) / arguments.loop
    whole = each * arguments.resamples
    print(f"plain pandas and shapiq loop: {each:.2f} s of processor time a resample, {whole:,.0f} s for all")
    print(f"ratio of processor times: {whole / cpu:,.0f}")
    wall, cpu = import_seconds()
    print(f"import of {IMPORTED}: {wall:.2f} s ({cpu:.2f} s of processor time)")


if __name__ == "__main__":
    main()
