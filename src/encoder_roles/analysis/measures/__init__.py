"""One file per measure: Capacity and Necessity, pairs, chains, games, rankings, regressions, fronts."""
