"""Peak memory of the two largest computations of the analysis, each in a process of its own.

Run from the root: `python performance/memory.py`. `effective_rank` adds a million rows of 5,760 channels to
`PictureGrams` and solves for the spectrum. The sums over groups of pictures do not fit the memory and lie in
a file; 110,592 rows (`--rows`) fill all of them too. `bootstrap` resamples 16 benchmarks of 10,000 questions
about 5,000 pictures for 1,000 models and holds all resamples, as the analysis does. Values are random: only
shapes matter.
Writes performance/results/memory.json.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "performance/results/memory.json"
WIDTH, TOKENS, AT_A_TIME = 5_760, 576, 4  # channels; tokens of a picture; pictures of a batch
MODELS, BENCHMARKS, QUESTIONS, CLUSTERS = 1_000, 16, 10_000, 5_000


def effective_rank(rows: int) -> dict[str, float]:
    """The effective rank of random rows, of which TOKENS are a picture."""
    import numpy as np

    from encoder_roles.effective_rank.spectra import PictureGrams
    from encoder_roles.effective_rank.spectra import effective_rank as rank_of

    random = np.random.default_rng(0)
    pictures = -(-rows // TOKENS)
    grams = PictureGrams(WIDTH, pictures)
    for start in range(0, pictures, AT_A_TIME):
        shape = (min(AT_A_TIME, pictures - start), TOKENS, WIDTH)
        grams.add(random.standard_normal(shape, dtype=np.float32))
    sums = len(grams.counts)
    return {"rows": grams.tokens, "sums_held": sums, "erank": round(float(rank_of(grams.spectra()[0])), 1)}


def bootstrap(resamples: int) -> dict[str, float]:
    """Resampled scores of MODELS models on BENCHMARKS benchmarks, and their spread."""
    import numpy as np

    from encoder_roles.analysis.statistics import ClusterSums, resample_clusters

    random = np.random.default_rng(0)
    draws = np.empty((resamples, MODELS, BENCHMARKS))
    clusters = []
    for benchmark in range(BENCHMARKS):
        weights = np.full((CLUSTERS, MODELS), QUESTIONS / CLUSTERS)
        correct = random.binomial(QUESTIONS // CLUSTERS, 0.5, size=(CLUSTERS, MODELS))
        clusters.append(ClusterSums(100.0 * correct, weights))
        draws[..., benchmark] = resample_clusters(clusters[-1], resamples, random)
    return {"resamples": resamples, "spread": round(float(draws.mean(-1).std(0).mean()), 3)}


MEASURED: dict[str, Callable[[int], dict[str, float]]] = {
    "effective_rank": effective_rank,
    "bootstrap": bootstrap,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--only", choices=list(MEASURED), help="measure one, and print it")
    chosen = parser.parse_args()
    sizes = {"effective_rank": chosen.rows, "bootstrap": chosen.resamples}
    if chosen.only:
        row = MEASURED[chosen.only](sizes[chosen.only])
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps(row | {"peak_gb": round(peak, 2)}))
        return
    measured = {}
    for name, size in sizes.items():
        option = "--rows" if name == "effective_rank" else "--resamples"
        command = [sys.executable, __file__, "--only", name, option, str(size)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        text = subprocess.run(command, check=True, env=environment, capture_output=True, text=True).stdout
        measured[name] = json.loads(text)
    from encoder_roles.provenance import write_json

    write_json(RESULTS, measured)
    print(json.dumps(measured, indent=2))


if __name__ == "__main__":
    main()
