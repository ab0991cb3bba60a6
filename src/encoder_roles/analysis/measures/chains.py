"""What the k-th encoder adds: chains.csv.

- `best_chain`: of all n! orders of adding encoders, the one with the highest mean score over its sizes.
- `greedy_chain`: the best next encoder at every step (forward selection, as Eagle's round-robin does).
- `best_of_size`: the best subset of each size against the best of the size before, nested or not.
- `beyond_best_pair`: the steps from the best pair to the full pool, along the chain with the highest mean.
- `over_best_pair`: the best larger subset against the best pair.
- `lattice_mean`: the gain averaged over all subsets of a size and all encoders outside them.

Chains are chosen on the same questions that they are measured on. Their intervals are those of the chosen
subsets; the choice itself is not in them.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from encoder_roles.analysis.lattice import LatticeSet, all_present, of_size, singles, subset_name
from encoder_roles.analysis.statistics import Array


def chain_table(lattices: LatticeSet) -> pd.DataFrame:
    """chains.csv, overall level. A gain that needs a missing subset has no row."""
    point, n = lattices.retrained.point, len(lattices.pool)
    rows: list[tuple[str, int, str, str, float, Array]] = []
    if all_present(point, range(1, 2**n)):
        for kind, chain in (("best_chain", best_chain(point[0])), ("greedy_chain", greedy_chain(point[0]))):
            for before, after in zip([0, *chain], chain, strict=False):
                added = subset_name(before ^ after, lattices.pool)
                rows.append(_row(lattices, kind, {after: 1.0}, {before: 1.0}, added))
        if n > 2:
            for before, after in steps_beyond(point[0], best_pair(point[0])):
                added = subset_name(before ^ after, lattices.pool)
                rows.append(_row(lattices, "beyond_best_pair", {after: 1.0}, {before: 1.0}, added))
            pair, best = best_pair(point[0]), best_larger(point[0])
            rows.append(_row(lattices, "over_best_pair", {best: 1.0}, {pair: 1.0}, ""))
    for size in range(1, n + 1):
        larger, smaller = of_size(size, n), of_size(size - 1, n)
        if not all_present(point, [*larger, *smaller]):
            continue
        best, former = (max(sets, key=lambda s: float(point[0, s])) for sets in (larger, smaller))
        rows.append(_row(lattices, "best_of_size", {best: 1.0}, {former: 1.0}, ""))
        # every subset of a size has equally many edges to the size below, so means of edges are means of
        # sizes
        mean = [dict.fromkeys(sets, 1 / len(sets)) for sets in (larger, smaller)]
        rows.append(_row(lattices, "lattice_mean", mean[0], mean[1], ""))
    order = ["best_chain", "greedy_chain", "beyond_best_pair", "over_best_pair", "best_of_size"]
    order += ["lattice_mean"]
    known = [row for kind in order for row in rows if row[0] == kind and not np.isnan(row[4])]
    gains = np.array([row[4] for row in known])
    low, high = lattices.bounds(np.stack([row[5] for row in known], axis=-1)) if known else (gains, gains)
    table = pd.DataFrame([row[:4] for row in known], columns=["kind", "size", "subset", "added"])
    return table.assign(gain=gains, low=low, high=high)


def _row(
    lattices: LatticeSet, kind: str, after: dict[int, float], before: dict[int, float], added: str
) -> tuple[str, int, str, str, float, Array]:
    """A gain between two weighted means of subsets: kind, size, subset, added, gain, its resamples."""
    values, draws = lattices.retrained.point[0], lattices.retrained.draws[:, 0]
    one, other = list(after), list(before)
    weight, weight_before = np.array(list(after.values())), np.array(list(before.values()))
    name = subset_name(one[0], lattices.pool) if len(one) == 1 else ""
    gain = float(values[one] @ weight - values[other] @ weight_before)
    return (
        kind,
        one[0].bit_count(),
        name,
        added,
        gain,
        draws[:, one] @ weight - draws[:, other] @ weight_before,
    )


def best_pair(values: Array) -> int:
    """The index of the pair with the highest score; `values` is (2^n,)."""
    return max(of_size(2, _encoders(values)), key=lambda s: float(values[s]))


def best_larger(values: Array) -> int:
    """The index of the best subset of three encoders or more; `values` is (2^n,)."""
    n = _encoders(values)
    return max((s for size in range(3, n + 1) for s in of_size(size, n)), key=lambda s: float(values[s]))


def steps_beyond(values: Array, subset: int) -> list[tuple[int, int]]:
    """The steps (before, after) from a subset to the full pool along its best chain.

    >>> steps_beyond(np.array([20.0, 50.0, 40.0, 60.0, 30.0, 55.0, 45.0, 65.0]), 3)
    [(3, 7)]
    """
    chain = best_chain(values, subset)
    return list(zip([subset, *chain], chain, strict=False))


def _encoders(values: Array) -> int:
    return len(values).bit_length() - 1


def best_chain(values: Array, start: int = 0) -> list[int]:
    """The chain of subset indices whose scores have the highest sum; `values` is (2^n,).

    It begins with the first subset beyond `start` and ends with the full pool.

    >>> best_chain(np.array([20.0, 50.0, 40.0, 60.0]))  # clip, then clip+dinov2
    [1, 3]
    """
    n = _encoders(values)
    best: dict[int, tuple[float, list[int]]] = {start: (0.0, [])}
    for size in range(start.bit_count() + 1, n + 1):
        for subset in (s for s in of_size(size, n) if s & start == start):
            former = (best[subset ^ bit] for bit in singles(n) if subset & bit & ~start)
            total, chain = max(former, key=lambda candidate: candidate[0])
            best[subset] = (total + float(values[subset]), [*chain, subset])
    return best[2**n - 1][1]


def greedy_chain(values: Array) -> list[int]:
    """The chain of subset indices that adds the best encoder at every step; `values` is (2^n,).

    >>> greedy_chain(np.array([20.0, 50.0, 40.0, 60.0]))
    [1, 3]
    """
    n = _encoders(values)
    chain, subset = [], 0
    for _ in range(n):
        subset = max((subset | bit for bit in singles(n) if not subset & bit), key=lambda s: float(values[s]))
        chain.append(subset)
    return chain
