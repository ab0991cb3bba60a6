"""The cost of every subset against its score: pareto.csv."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from encoder_roles.analysis.lattice import LatticeSet, subset_name
from encoder_roles.analysis.statistics import Array
from encoder_roles.study.names import BLIND

# cost columns a front is drawn against, where costs.csv has them: lower is better
FRONTS = ("parameters", "flops", "core_hours", "gpu_hours", "predict_seconds")
# points per unit of cost: column -> (cost column, how many of its units make one)
RATES = {
    "points_per_million_parameters": ("parameters", 1e6),
    "points_per_billion_parameters": ("parameters", 1e9),
    "points_per_core_hour": ("core_hours", 1.0),
    "points_per_gpu_hour": ("gpu_hours", 1.0),
}


def mean_costs(costs: pd.DataFrame) -> pd.DataFrame:
    """Costs per subset (index), mean over seeds; `flops` is the training of both stages."""
    table = costs.drop(columns=["study", "seed"], errors="ignore").groupby("subset").mean(numeric_only=True)
    if {"align_flops", "tune_flops"} <= set(table.columns):
        table["flops"] = table["align_flops"] + table["tune_flops"]
    return table


def pareto_table(lattices: LatticeSet, costs: pd.DataFrame) -> pd.DataFrame:
    """pareto.csv: every measured subset with its costs, points over blind per cost, and the fronts it is on.

    `costs` is what `mean_costs` returns. Subsets without a cost row are left out.
    """
    pool, point, draws = lattices.pool, lattices.retrained.point[0], lattices.retrained.draws[:, 0]
    places = [i for i in range(len(point)) if not np.isnan(point[i]) and subset_name(i, pool) in costs.index]
    names = [subset_name(i, pool) for i in places]
    low, high = lattices.bounds(draws[:, places])
    gain_low, gain_high = lattices.bounds(draws[:, places] - draws[:, [0]])
    table = pd.DataFrame(
        {
            "subset": names,
            "size": [i.bit_count() for i in places],
            "score": point[places],
            "low": low,
            "high": high,
            "gain_over_blind": point[places] - point[0],
            "gain_low": gain_low,
            "gain_high": gain_high,
        }
    )
    rows = costs.reindex(names)
    kept = ["parameters", "encoder_parameters", "flops", "core_hours", "gpu_hours", "predict_seconds"]
    for column in [*kept, "peak_memory_mb"]:
        if column in rows.columns:
            table[column] = rows[column].to_numpy()
    for column, (cost, unit) in RATES.items():
        if cost in table.columns:
            table[column] = table["gain_over_blind"] / (table[cost] / unit)
    for cost in FRONTS:
        if cost in table.columns:
            table[f"front_{cost}"] = on_front(table["score"].to_numpy(float), table[cost].to_numpy(float))
    return table


def on_front(score: Array, cost: Array) -> npt.NDArray[np.bool_]:
    """Which points are on the Pareto front: no other scores as much for less, or more for no more.

    >>> on_front(score=np.array([50.0, 60.0, 55.0]), cost=np.array([1.0, 2.0, 3.0])).tolist()
    [True, True, False]
    """
    no_worse = (score[None] >= score[:, None]) & (cost[None] <= cost[:, None])
    better = (score[None] > score[:, None]) | (cost[None] < cost[:, None])
    front: npt.NDArray[np.bool_] = ~(no_worse & better).any(1) & ~np.isnan(cost)
    return front


def points_per_doubling(
    lattices: LatticeSet, costs: pd.DataFrame, cost: str
) -> tuple[str, float, Array] | None:
    """Points the full pool gains over the best single encoder per doubling of a cost (claim 7).

    Returns (best single's name, estimate, resamples (B,)); None where a score or cost is missing or the full
    pool does not cost more.
    """
    pool, point, draws = lattices.pool, lattices.retrained.point[0], lattices.retrained.draws[:, 0]
    alone = [1 << i for i in range(len(pool))]
    if np.isnan(point[[*alone, -1]]).any() or cost not in costs.columns:
        return None
    best = max(alone, key=lambda i: float(point[i]))
    single, full = subset_name(best, pool), subset_name(len(point) - 1, pool)
    if single not in costs.index or full not in costs.index or single == BLIND:
        return None
    price = costs[cost].to_dict()
    doublings = float(np.log2(price[full] / price[single]))
    if not doublings > 0:
        return None
    return single, float(point[-1] - point[best]) / doublings, (draws[:, -1] - draws[:, best]) / doublings
