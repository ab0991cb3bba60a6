"""Verdicts on simulated studies whose claims are true, false or on the border by construction.

    python performance/verdicts.py --output performance/results/verdicts.csv

`right` is the share of the studies of a clear case with the right verdict (empty on the border, where only
`holds` is wrong), `false_holds` the share with `holds` though the claim is not true. Every study has five
encoders, all subsets, three seeds with a deviation of 0.8 points, and the noise of 8,500 questions. The cases
are described in tests/planted_verdicts.py.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from planted_verdicts import CASES, PLANTED, verdicts

from encoder_roles.analysis.claims.claim import FAILS, HOLDS, OPEN

RIGHT = {"true": HOLDS, "false": FAILS}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=100)
    parser.add_argument("--regressions", type=int, default=40, help="studies per case of claim 3a")
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--output", type=Path, help="a CSV table of the result")
    arguments = parser.parse_args()
    rows = []
    for claim in PLANTED:
        studies = arguments.regressions if claim == "3a" else arguments.studies
        resamples = arguments.resamples // 2 if claim == "3a" else arguments.resamples
        for case in CASES:
            count = Counter(judged.verdict for judged in verdicts(claim, case, studies, resamples))
            share = {verdict: count[verdict] / studies for verdict in (HOLDS, FAILS, OPEN)}
            row = {"claim": claim, "case": case, "studies": studies, "holds": share[HOLDS]}
            row |= {"does_not_hold": share[FAILS], "open": share[OPEN]}
            row["right"] = share[RIGHT[case]] if case in RIGHT else None
            row["false_holds"] = None if case == "true" else share[HOLDS]
            rows.append(row)
            print(row, flush=True)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).to_csv(arguments.output, index=False)


if __name__ == "__main__":
    main()
