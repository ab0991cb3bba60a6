"""How far masking is from retraining, item by item: mask_gaps.csv.

A gap is the retrained value minus the masked one, in points, on the same draw of questions. `p_holm` corrects
over the items of one level, operator and measure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from encoder_roles.analysis.lattice import LatticeSet, subset_name
from encoder_roles.analysis.measures.games import shapley
from encoder_roles.analysis.measures.roles import Measure, capacity, necessity
from encoder_roles.analysis.statistics import holm, two_sided_p
from encoder_roles.analysis.tables import long_table

COLUMNS = [
    *("level", "group", "operator", "measure", "item", "retrained", "masked"),
    *("difference", "low", "high", "p", "p_holm"),
]


def gap_table(lattices: LatticeSet) -> pd.DataFrame:
    """mask_gaps.csv: subsets by score, encoders by Capacity, Necessity and Shapley value; overall and groups.

    The full pool has no row: it is one model on both sides. Nor has a value that needs a missing subset.
    """
    n, retrained = len(lattices.pool), lattices.retrained
    subsets = np.arange(2**n - 1)
    families: dict[str, tuple[Measure, Sequence[str]]] = {
        "score": (lambda v: v[..., subsets], [subset_name(int(s), lattices.pool) for s in subsets]),
        "capacity": (capacity, lattices.pool),
        "necessity": (necessity, lattices.pool),
        "shapley": (shapley, lattices.pool),
    }
    tables = []
    for place, level in lattices.levels[lattices.levels["level"] != "benchmark"].iterrows():
        at = int(str(place))
        for masked in lattices.masked:
            for name, (measure, items) in families.items():
                values, draws = (
                    [measure(getattr(side, kind)[..., at, :]) for side in (retrained, masked)]
                    for kind in ("point", "draws")
                )
                difference, drawn = values[0] - values[1], draws[0] - draws[1]
                low, high = lattices.bounds(drawn)
                p = np.where(np.isnan(difference), np.nan, two_sided_p(difference, drawn))
                columns = {"retrained": values[0], "masked": values[1], "difference": difference}
                columns |= {"low": low, "high": high, "p": p, "p_holm": holm(p)}
                table = long_table([{"item": items}], columns)
                table = table.assign(**level[["level", "group"]], operator=masked.operator, measure=name)
                tables.append(table.dropna(subset="difference"))
    return pd.concat(tables, ignore_index=True)[COLUMNS] if tables else pd.DataFrame(columns=COLUMNS)
