"""Coverage of the 95% intervals over simulated studies whose truth is known.

    python performance/analysis_coverage.py --output performance/results/analysis_coverage.csv

Every study has three encoders, all eight subsets, five benchmarks of 200 questions in clusters of two,
items of unequal difficulty, encoder effects with interactions, and trained seeds that differ, with jumps of
a group of benchmarks between two states: by as many points of the overall score as the reference study's
seeds (`studies/reference/scores.csv`), and by 2.7 as those of the first recipe did. The truth is the
expectation over questions and seeds. A study with one seed takes the noise between seeds from another study
of its recipe that has three.

`coverage` is the share of all intervals of a measure that hold the truth, `least` that of its worst item
(encoder, subset, difference), `error` the standard error of the coverage over studies (the items of a study
are not independent), `z` the spread of (estimate - truth) / the spread of the resamples, 1 where intervals
have the right width.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from lattice_simulation import NOISE, coverage_of

SCORES = Path(__file__).parents[1] / "studies/reference/scores.csv"
COLUMNS = ("noise", "seeds", "studies", "measure", "coverage", "error", "least", "z")


def measured_noise() -> float:
    """The standard deviation between seeds of the reference study's overall scores, pooled over subsets."""
    rows = pd.read_csv(SCORES).query("level == 'overall' and operator == 'unmasked' and subset != 'blind'")
    return float(np.sqrt(rows.groupby("subset")["score"].var(ddof=1).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--output", type=Path, help="a CSV table of the result")
    arguments = parser.parse_args()
    rows = []
    sizes = arguments.studies, arguments.questions, arguments.resamples
    for noise, seeds in itertools.product((round(measured_noise(), 2), NOISE), (1, 3)):
        start = time.perf_counter()
        found, deviation = coverage_of(sizes[0], seeds, *sizes[1:], noise=noise)
        print(f"{seeds} seed(s), {noise} points between seeds (measured in the simulation: {deviation:.2f})")
        for measure, (held, z) in found.items():
            each = held.mean(axis=1)  # of a study
            row = (held.mean(), each.std(ddof=1) / np.sqrt(len(each)), held.mean(axis=0).min(), z.std())
            rows.append(
                (noise, seeds, arguments.studies, measure, *(round(float(value), 4) for value in row))
            )
            print(f"{seeds} seed(s), {measure:10s}: {100 * row[0]:.1f}% (±{100 * row[1]:.1f}), ", end="")
            print(f"worst item {100 * row[2]:.1f}%, z {row[3]:.3f}")
        print(f"  {time.perf_counter() - start:.0f} s")
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
