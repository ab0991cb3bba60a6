"""Does effective rank explain scores at a fixed parameter count (claim 3): rank_regression.csv.

Two stages, as the claim is worded: the score v(S) is regressed on log parameters, its residual on rank terms.
With 31 subsets and a few terms a large R^2 comes for free. Every model therefore comes with controls:

- leave-one-out R^2: both stages are refitted without the subset;
- a permutation p: rank terms are shuffled over subsets;
- a relabelling p: the encoders' names are permuted in the rank table. Subsets that share an encoder stay
  dependent, which a shuffle of subsets destroys;
- the same regression with random numbers per encoder in place of its ranks. Numbers drawn per subset would be
  too weak a control: rank terms of subsets that share an encoder are alike, and so are their scores.
  `random_p` is the share of such draws whose R^2 reaches the observed one.

The strong baseline is log parameters with an indicator per encoder (model `encoders`); `ranks_over_encoders`
is what the rank terms add to its R^2.

Models ending in `_within_size` have an intercept per subset size in both stages and shuffle within a size.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from encoder_roles.analysis.lattice import LatticeSet, subset_name
from encoder_roles.analysis.measures.pairs import Ranks
from encoder_roles.analysis.statistics import Array, generator, percentile_interval
from encoder_roles.study.sections import StatisticsSettings

TERMS = ("log_erank_sum", "ratio_mean", "ratio_min", "ratio_max")
MODELS: dict[str, tuple[str, ...]] = {"ranks": TERMS} | {term: (term,) for term in TERMS}
SPARE = 3  # observations a model must have beyond its coefficients; with fewer it is not fitted
SHUFFLES = 1000  # the most shuffles and random-number controls per model; no more than the resamples
RELABELLED = 7  # encoders up to which all relabellings (7! = 5,040) are enumerated; beyond, none is given


@dataclass(frozen=True)
class Design:
    """Observations of the regression: one per measured subset with a rank row per encoder and a cost row."""

    index: npt.NDArray[np.int64]  # (n,) subset indices
    score: Array  # (n,)
    draws: Array  # (resamples, n)
    level: Array  # (n, 1) of ones, or an indicator column per subset size
    log_parameters: Array  # (n, 1)
    terms: Array  # (n, TERMS)

    @property
    def base(self) -> Array:
        """The first stage's columns."""
        return np.hstack([self.level, self.log_parameters])


def rank_terms(ranks: Ranks) -> Array:
    """(2^n, 4): log of summed effective ranks; mean, least and greatest rank ratio; NaN if unknown."""
    n = ranks.ratio.shape[1]
    terms = np.full((2**n, len(TERMS)), np.nan)
    for subset in range(1, 2**n):
        terms[subset] = _terms_of(ranks.erank[subset], ranks.ratio[subset], subset)
    return terms


def _terms_of(erank: Array, ratio: Array, subset: int) -> Array:
    """The terms (..., 4) of a subset, from the ranks and ratios (..., n) of all encoders in it."""
    inside = [e for e in range(ratio.shape[-1]) if subset >> e & 1]
    erank, ratio = erank[..., inside], ratio[..., inside]
    return np.stack([np.log(erank.sum(-1)), ratio.mean(-1), ratio.min(-1), ratio.max(-1)], axis=-1)


def random_terms(
    index: npt.NDArray[np.int64], ranks: Ranks, draws: int, random: np.random.Generator
) -> Array:
    """Rank terms (draws, subsets, 4) of random ranks: a number per encoder and draw, the same in each subset.

    Logarithms of ranks are normal with the spread of the encoders' own mean logarithms. Ratios are standard
    normal, because a regression does not depend on their scale.
    """
    n = ranks.ratio.shape[1]
    columns = [column[~np.isnan(column)] for column in ranks.erank.T]
    known = [np.log(column).mean() for column in columns if column.size]
    erank = np.exp(np.std(known) * random.standard_normal((draws, n)))
    ratio = random.standard_normal((draws, n))
    terms = np.stack([_terms_of(erank, ratio, int(subset)) for subset in index], axis=1)
    centred: Array = terms - terms.mean(1, keepdims=True)
    return centred


def build_design(lattices: LatticeSet, ranks: Ranks, costs: pd.DataFrame, within_size: bool) -> Design:
    """The observations; within sizes, a size with a single subset carries no information and is left out."""
    pool, point = lattices.pool, lattices.retrained.point[0]
    terms = rank_terms(ranks)
    parameters = (
        costs["parameters"].reindex([subset_name(i, pool) for i in range(len(point))]).to_numpy(float)
    )
    known = ~np.isnan(point) & ~np.isnan(terms).any(1) & ~np.isnan(parameters)
    known[0] = False
    index = np.flatnonzero(known)
    level = np.ones((len(index), 1))
    if within_size:
        sizes = np.array([int(i).bit_count() for i in index])
        often = np.isin(sizes, [s for s in set(sizes.tolist()) if np.count_nonzero(sizes == s) > 1])
        index, sizes = index[often], sizes[often]
        level = (sizes[:, None] == np.unique(sizes)).astype(float)
    log_parameters = np.log(parameters[index])[:, None]
    columns = terms[index]
    if len(index):  # centred: coefficients are the same, and the normal equations stay well conditioned
        log_parameters, columns = log_parameters - log_parameters.mean(), columns - columns.mean(0)
    return Design(index, point[index], lattices.retrained.draws[:, 0, index], level, log_parameters, columns)


def regression_table(
    lattices: LatticeSet, ranks: Ranks, costs: pd.DataFrame, settings: StatisticsSettings
) -> pd.DataFrame:
    """rank_regression.csv: a row per model and term, a `random` row per control. Empty without data."""
    rows: list[dict[str, Any]] = []
    for within_size in (False, True):
        design = build_design(lattices, ranks, costs, within_size)
        ending = "_within_size" if within_size else ""
        if len(design.index) >= design.base.shape[1] + SPARE:
            rows += _parameter_rows(design, ending, settings)
        for name, terms in MODELS.items():
            if len(design.index) < design.base.shape[1] + len(terms) + SPARE:
                continue
            columns = design.terms[:, [TERMS.index(t) for t in terms]]
            rows += _rank_rows(design, name + ending, terms, columns, settings)
        if len(design.index) >= design.base.shape[1] + len(TERMS) + SPARE:
            share, row = _control(design, ranks, "random" + ending, settings)
            rows.append(row)
            for of_ranks in rows:
                if of_ranks["model"] == "ranks" + ending:
                    of_ranks["random_p"] = float(np.mean(share >= of_ranks["r2"] - 1e-12))
        if not within_size:
            rows += _baseline_rows(design, lattices, settings)
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = [
    *("model", "term", "coefficient", "low", "high", "r2", "r2_low", "r2_high"),
    *("r2_leave_one_out", "r2_leave_one_out_low", "r2_leave_one_out_high"),
    *("permutation_p", "relabel_p", "random_p", "partial_correlation", "n"),
]


def project(columns: Array) -> Array:
    """Hat matrix (..., n, n) of the columns (..., n, k), also where they are collinear."""
    transposed = np.swapaxes(columns, -1, -2)
    hat: Array = columns @ np.linalg.pinv(transposed @ columns, hermitian=True) @ transposed
    return hat


def explained(residual: Array, columns: Array) -> Array:
    """R^2 of the second stage: the share of the residual (..., n) that columns (..., n, k) explain."""
    fitted = (project(columns) @ residual[..., None])[..., 0]
    share: Array = 1 - ((residual - fitted) ** 2).sum(-1) / (residual**2).sum(-1)
    return share


def leave_one_out(base: Array, second: Array) -> Array:
    """The linear map (..., n, n) from scores to predictions of each subset by the others, both stages."""
    rows = []
    for i in range(base.shape[-2]):
        keep = np.delete(np.arange(base.shape[-2]), i)
        first = _left_inverse(base[..., keep, :])
        remainder = np.eye(len(keep)) - base[..., keep, :] @ first
        weights = (
            base[..., [i], :] @ first + second[..., [i], :] @ _left_inverse(second[..., keep, :]) @ remainder
        )
        rows.append(np.insert(weights[..., 0, :], i, 0.0, axis=-1))
    return np.stack(rows, axis=-2)


def _left_inverse(columns: Array) -> Array:
    """Pseudo-inverse (..., k, n) of columns (..., n, k), n > k: for stacks faster than singular values."""
    transposed = np.swapaxes(columns, -1, -2)
    inverse: Array = np.linalg.pinv(transposed @ columns, hermitian=True) @ transposed
    return inverse


def predicted_share(score: Array, map_: Array, reference: Array) -> Array:
    """Leave-one-out R^2: 1 - squared error of a map / that of the reference map; score (..., n)."""
    wrong = (score - (map_ @ score[..., None])[..., 0]) ** 2
    reference_wrong = (score - (reference @ score[..., None])[..., 0]) ** 2
    share: Array = 1 - wrong.sum(-1) / reference_wrong.sum(-1)
    return share


def _parameter_rows(design: Design, ending: str, settings: StatisticsSettings) -> list[dict[str, Any]]:
    """The first stage alone: v on log parameters, its R^2 over the mean (or the size means)."""
    score = np.vstack([design.score, design.draws])
    centred = score - score @ project(design.level).T
    share = explained(centred, design.base)
    nothing = np.zeros_like(design.level)
    ahead = predicted_share(score, leave_one_out(design.base, nothing), leave_one_out(design.level, nothing))
    low, high = _coefficient_interval(design, design.log_parameters, False, settings)
    coefficient = np.linalg.pinv(design.base) @ design.score
    p = _shuffled_p(design, centred[0], design.log_parameters, settings, "parameters" + ending)
    correlation = partial_correlations(design.score, design.level, design.log_parameters)
    row = {"model": "parameters" + ending, "term": "log_parameters", "coefficient": coefficient[-1]}
    row |= {"low": low[0], "high": high[0]} | _shares(share, ahead, settings)
    row |= {"permutation_p": p, "partial_correlation": correlation[0], "n": len(design.index)}
    return [row]


def _rank_rows(
    design: Design, name: str, terms: tuple[str, ...], columns: Array, settings: StatisticsSettings
) -> list[dict[str, Any]]:
    """The second stage of one model: a row per term, the model's shares and p repeated in each."""
    second = np.hstack([design.level, columns])
    score = np.vstack([design.score, design.draws])
    residual = score - score @ project(design.base).T
    nothing = np.zeros_like(design.level)
    ahead = predicted_share(score, leave_one_out(design.base, second), leave_one_out(design.base, nothing))
    shares = _shares(explained(residual, second), ahead, settings)
    shares["permutation_p"] = _shuffled_p(design, residual[0], columns, settings, name)
    shares["relabel_p"] = _relabelled_p(design, residual[0], columns)
    coefficients = (np.linalg.pinv(second) @ residual[0])[-len(terms) :]
    low, high = _coefficient_interval(design, columns, True, settings)
    correlations = partial_correlations(design.score, design.base, columns)
    return [
        {"model": name, "term": term, "coefficient": coefficients[k], "low": low[k], "high": high[k]}
        | shares
        | {"partial_correlation": correlations[k], "n": len(design.index)}
        for k, term in enumerate(terms)
    ]


def _control(
    design: Design, ranks: Ranks, name: str, settings: StatisticsSettings
) -> tuple[Array, dict[str, Any]]:
    """The regression of `ranks` on random numbers per encoder: R^2 of every draw, and the table's row."""
    random = generator(settings.seed, "regression", name)
    count = min(SHUFFLES, settings.resamples)
    terms = random_terms(design.index, ranks, count, random)
    shape = terms.shape[:2]
    level = np.broadcast_to(design.level, (*shape, design.level.shape[1]))
    second = np.concatenate([level, terms], axis=-1)
    residual = design.score - project(design.base) @ design.score
    share = explained(np.broadcast_to(residual, shape), second)
    reference = leave_one_out(design.base, np.zeros_like(design.level))
    predictions = leave_one_out(design.base, second)
    ahead = predicted_share(np.broadcast_to(design.score, shape), predictions, reference)
    row = {"model": name, "term": "random numbers per encoder", "n": len(design.index)}
    return share, row | _shares(np.array([share.mean(), *share]), np.array([ahead.mean(), *ahead]), settings)


def _baseline_rows(
    design: Design, lattices: LatticeSet, settings: StatisticsSettings
) -> list[dict[str, Any]]:
    """The strong baseline, and what rank terms add to it, as shares of the scores' variance."""
    n = len(lattices.pool)
    # without the intercept: each subset's indicators, minus their means, are not collinear with it
    indicators = (design.index[:, None] >> np.arange(n) & 1).astype(float)
    base = np.hstack([design.base, indicators - indicators.mean(0)]) if len(design.index) else design.base
    if len(design.index) < base.shape[1] + len(TERMS) + SPARE:
        return []
    score = np.vstack([design.score, design.draws])
    centred = score - score @ project(design.level).T
    nothing, level = np.zeros_like(design.level), leave_one_out(design.level, np.zeros_like(design.level))
    full = np.hstack([base, design.terms])
    share, full_share = explained(centred, base), explained(centred, full)
    ahead, full_ahead = (predicted_share(score, leave_one_out(c, nothing), level) for c in (base, full))
    names = (("encoders", "log_parameters and encoders"), ("ranks_over_encoders", "what rank terms add"))
    values = ((share, ahead), (full_share - share, full_ahead - ahead))
    return [
        {"model": model, "term": term, "n": len(design.index)} | _shares(*shares, settings)
        for (model, term), shares in zip(names, values, strict=True)
    ]


def _shares(share: Array, ahead: Array, settings: StatisticsSettings) -> dict[str, Any]:
    """R^2 and leave-one-out R^2 with intervals; the first entry is the estimate, the others are resamples."""
    columns: dict[str, Any] = {}
    for name, values in (("r2", share), ("r2_leave_one_out", ahead)):
        low, high = percentile_interval(values[1:], settings.level)
        columns |= {name: values[0], f"{name}_low": low, f"{name}_high": high}
    return columns


def _coefficient_interval(
    design: Design, columns: Array, second_stage: bool, settings: StatisticsSettings
) -> tuple[Array, Array]:
    """Intervals of the columns' coefficients: subsets resampled within levels, scores as resampled."""
    random = generator(settings.seed, "regression cases")
    strata = [np.flatnonzero(indicator) for indicator in design.level.T]
    resamples = len(design.draws)
    cases = np.concatenate([s[random.integers(0, s.size, (resamples, s.size))] for s in strata], axis=1)
    score = np.take_along_axis(design.draws, cases, axis=1)[..., None]
    if second_stage:
        base = design.base[cases]
        score = score - base @ _solve(base, score)
    fit = _solve(np.concatenate([design.level[cases], columns[cases]], axis=-1), score)
    return percentile_interval(fit[:, design.level.shape[1] :, 0], settings.level)


def _solve(columns: Array, target: Array) -> Array:
    """Least squares for stacks: (B, n, k) and (B, n, 1) -> (B, k, 1), of smallest norm."""
    transposed = np.swapaxes(columns, -1, -2)
    fit: Array = np.linalg.pinv(transposed @ columns, hermitian=True) @ (transposed @ target)
    return fit


def _shuffled_p(
    design: Design, residual: Array, columns: Array, settings: StatisticsSettings, name: str
) -> float:
    """p of R^2 when the columns are shuffled over subsets (within a size, where levels are)."""
    random = generator(settings.seed, "shuffles", name)
    count = min(SHUFFLES, settings.resamples)
    order = np.tile(np.arange(len(residual)), (count, 1))
    for indicator in design.level.T:
        inside = np.flatnonzero(indicator)
        order[:, inside] = random.permuted(np.tile(inside, (count, 1)), axis=1)
    level = np.broadcast_to(design.level, (count, *design.level.shape))
    null = explained(residual, np.concatenate([level, columns[order]], axis=-1))
    observed = explained(residual, np.hstack([design.level, columns]))
    return float((1 + np.count_nonzero(null >= observed - 1e-12)) / (count + 1))


def _relabelled_p(design: Design, residual: Array, columns: Array) -> float:
    """p of R^2 when encoders exchange names in the rank table; NaN for incomplete or large lattices."""
    n = int(design.index.max()).bit_length()
    place = {int(subset): row for row, subset in enumerate(design.index)}
    if n > RELABELLED or any(_relabel(s, p) not in place for s in place for p in _swaps(n)):
        return float("nan")
    orders = np.array(
        [[place[_relabel(s, p)] for s in place] for p in itertools.permutations(range(n))], dtype=np.int64
    )
    level = np.broadcast_to(design.level, (len(orders), *design.level.shape))
    null = explained(residual, np.concatenate([level, columns[orders]], axis=-1))
    return float(np.mean(null >= explained(residual, np.hstack([design.level, columns])) - 1e-12))


def _relabel(subset: int, names: tuple[int, ...]) -> int:
    """The subset index after encoder i takes the name of encoder names[i]."""
    return sum(1 << names[i] for i in range(len(names)) if subset >> i & 1)


def _swaps(n: int) -> Iterator[tuple[int, ...]]:
    """Exchanges of neighbours: a set closed under them is closed under all permutations."""
    for i in range(n - 1):
        swapped = list(range(n))
        swapped[i], swapped[i + 1] = swapped[i + 1], swapped[i]
        yield tuple(swapped)


def partial_correlations(score: Array, base: Array, columns: Array) -> Array:
    """Correlation of the score with each column after both are cleared of `base` and of the other columns."""
    correlations = []
    for k in range(columns.shape[1]):
        others = np.hstack([base, np.delete(columns, k, axis=1)])
        clear = np.eye(len(score)) - project(others)
        y, x = clear @ score, clear @ columns[:, k]
        size = np.sqrt((y @ y) * (x @ x))
        correlations.append(float(y @ x / size) if size > 1e-12 else np.nan)
    return np.array(correlations)
