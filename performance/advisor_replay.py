"""The design advisor replayed on simulated lattices of several families, beside other orders of training.

Run from the repository root: `python performance/advisor_replay.py --output
performance/results/advisor_replay.csv`. One replay per lattice. Settings of the advisor were chosen on
lattices 0-299 of the family `skills` and on nothing else; the lattices here are others. Questions: the best
pair or single, and a proper subset within half a point of the full pool, in place of which the nearest has to
be found where there is none. Rows: `family, lattices, possible` (share of lattices with such a subset),
`strategy, trainings, found_best, found_match, found_both` (shares), `found_both_possible` (of the lattices
with such a subset), `regret_best, regret_match` (mean points), and of the advisor's 95% intervals `coverage`
(of subsets left out of random parts of that size; empty for other strategies).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from subset_families import FAMILIES, POOL, draw_lattice

from encoder_roles.analysis.advisor.advisor import Goal
from encoder_roles.analysis.advisor.replay import FOUND, KnownLattice, coverage_table, replay
from encoder_roles.provenance import atomic_file

QUESTIONS = (Goal(2), Goal(len(POOL) - 1, 0.5))
SHOWN = (6, 8, 10, 12, 15, 20)  # trainings
FIRST = 1000  # lattice; those before are for choosing settings


def campaign(family: str, lattices: int) -> pd.DataFrame:
    """The rows of one family."""
    regrets: dict[str, list[np.ndarray]] = {}
    covered: list[pd.Series] = []
    possible = []
    for seed in range(FIRST, FIRST + lattices):
        lattice = KnownLattice(draw_lattice(family, seed), POOL)
        possible.append(lattice.values[:-1].max() >= lattice.values[-1] - (QUESTIONS[1].margin or 0.0))
        for strategy, found in replay(lattice, QUESTIONS, 1, seed).items():
            regrets.setdefault(strategy, []).append(found[0])
        table = coverage_table(lattice, 1, seed, 0.95)
        covered.append(table.set_index("trained")["coverage"])
    coverage = pd.concat(covered, axis=1).mean(axis=1)
    rows = []
    for strategy, found in regrets.items():
        regret = np.array(found)[:, :, [t - 1 for t in SHOWN]]  # (lattices, questions, trainings)
        share = np.concatenate([regret <= FOUND, (regret <= FOUND).all(1, keepdims=True)], axis=1)
        of_possible = share[np.array(possible), 2].mean(0) if any(possible) else np.full(len(SHOWN), np.nan)
        share, mean = share.mean(0), regret.mean(0)
        for place, trainings in enumerate(SHOWN):
            held = coverage.get(trainings, np.nan) if strategy == "advisor" else np.nan
            key = (family, lattices, np.mean(possible), strategy, trainings)
            rows.append((*key, *share[:, place], of_possible[place], *mean[:, place], held))
    columns = ["family", "lattices", "possible", "strategy", "trainings"]
    columns += ["found_best", "found_match", "found_both", "found_both_possible"]
    return pd.DataFrame(rows, columns=[*columns, "regret_best", "regret_match", "coverage"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lattices", type=int, default=200)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    start = time.process_time()
    table = pd.concat([campaign(family, arguments.lattices) for family in FAMILIES], ignore_index=True)
    third = table[table["trainings"] == 10].drop(columns=["trainings", "coverage", "lattices"])
    print("After 10 of 31 trainings:")
    print(third.to_string(index=False, float_format="{:.2f}".format))
    print("Coverage of 95% intervals:")
    held = table.dropna(subset="coverage").pivot(index="family", columns="trainings", values="coverage")
    print(held.to_string(float_format="{:.3f}".format))
    print(f"{time.process_time() - start:.0f} s of processor time")
    if arguments.output:
        with atomic_file(arguments.output) as temporary:
            table.to_csv(temporary, index=False, float_format="%.4g", lineterminator="\n")


if __name__ == "__main__":
    main()
