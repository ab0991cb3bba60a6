"""Scores of untrained subsets, predicted from the trained ones: a Gaussian process on subsets.

The score of S is a sum of independent Gaussian parts:

- a level;
- an effect of the number of encoders;
- an effect of each encoder and of each pair, both of which may shrink as S grows (saturation);
- a part that is more alike the fewer encoders two subsets differ in (Hamming kernel: all higher orders);
- a part of S alone (the effect of a seed);
- linear effects of covariates, if there are any.

The size of each part is not fitted but averaged over: quasi-random settings drawn from a prior are weighted
by their marginal likelihood. Few scores then give wide intervals instead of a lucky fit. Everything is in
closed form (Rasmussen and Williams 2006, chapters 2 and 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import qmc

from encoder_roles.analysis.statistics import Array, normal_quantile
from encoder_roles.study.names import BLIND, StudyError, all_subsets, name_subset, parse_subset

MOST_ENCODERS = 8  # 255 subsets: the covariances of the lattice under all settings are in memory at once
SETTINGS = 512  # quasi-random settings of the parts' sizes
LEVEL = (50.0, 50.0)  # prior mean and deviation of the level, in points: almost no information
SCALE = (np.log(6.0), 1.0)  # log of the points by which subsets differ: 1 to 40 are plausible
# part -> (log of its typical size relative to the scale, spread of that logarithm)
PARTS = {
    "encoders": (0.0, 0.5),
    "size": (0.0, 0.7),
    "pairs": (np.log(0.35), 0.6),
    "hamming": (np.log(0.25), 0.7),
    "alone": (np.log(0.15), 0.7),
    "covariates": (np.log(0.5), 0.8),
}
SHRINKAGE = (0.0, 0.25, 0.5, 0.75, 1.0)  # effects divided by size ** this: 0 additive, 1 the encoders' mean
JITTER = 1e-9  # points squared, so that scores without an error can be given
NEGLIGIBLE = 1e-5  # settings of a smaller likelihood, relative to the best, are left out
SHARED = 0.6  # what is left of the Hamming part's correlation per encoder of difference
SIZE_LENGTH = 3.0  # encoders over which the effect of size is smooth

Scores = Mapping[str, tuple[float, float]]  # subset -> (score 0-100, standard error)


@dataclass(frozen=True)
class Prediction:
    """Belief about the scores of all non-empty subsets, smallest first and in pool order.

    Attributes:
        pool: the encoders, in order.
        subsets: the subsets' names.
        measured: which subsets were given, (subsets,).
        scores: the given scores, NaN for the others, (subsets,).
        mean, covariance: of the score on infinitely many questions, (subsets,) and (subsets, subsets).
        noise: the variance of measuring one subset, in points squared.
    """

    pool: tuple[str, ...]
    subsets: tuple[str, ...]
    measured: npt.NDArray[np.bool_]
    scores: Array
    mean: Array
    covariance: Array
    noise: float

    def interval(self, level: float) -> tuple[Array, Array]:
        """(low, high) of each score, within 0-100; with the noise of a future measurement if untrained."""
        spread = np.diag(self.covariance) + np.where(self.measured, 0.0, self.noise)
        arm = normal_quantile(level) * np.sqrt(np.maximum(spread, 0))
        return (self.mean - arm).clip(0, 100), (self.mean + arm).clip(0, 100)


def predict_lattice(
    scores: Scores, pool: Sequence[str], covariates: Mapping[str, Sequence[float]] | None = None
) -> Prediction:
    """Predict the scores of all subsets of the pool from those of some; `blind` is not used.

    `covariates` gives every subset the same number of known quantities (log parameters, ranks, masked
    scores). Raises StudyError, one line, on an unknown encoder, a score outside 0-100, a negative standard
    error, a subset given twice in different orders, a subset without covariates, or a pool that is too large.

    >>> prediction = predict_lattice({"clip": (50.0, 0.5), "sam": (30.0, 0.5)}, ("clip", "sam"))
    >>> prediction.subsets
    ('clip', 'sam', 'clip+sam')
    >>> low, high = prediction.interval(0.95)
    >>> bool(high[2] - low[2] > high[0] - low[0])  # the untrained subset is less certain
    True
    """
    names, subsets = tuple(pool), all_subsets(tuple(pool))
    if not 2 <= len(names) <= MOST_ENCODERS:
        raise StudyError(f"pool {list(names)}: the advisor needs 2 to {MOST_ENCODERS} encoders")
    given = check_part(scores, names)
    place = np.array([i for i, s in enumerate(subsets) if s in given], dtype=int)
    values = np.array([given[subsets[i]][0] for i in place])
    noise = np.array([given[subsets[i]][1] for i in place]) ** 2
    prior = _prior(len(names))
    if covariates is not None:
        prior = prior + _covariate_part(_known(covariates, subsets))
    mean, covariance = _condition(prior, place, values - LEVEL[0], noise)
    measured = np.isin(np.arange(len(subsets)), place)
    typical = float(np.median(noise)) if len(noise) else 0.0
    own = np.full(len(subsets), np.nan)
    own[place] = values
    return Prediction(names, subsets, measured, own, mean + LEVEL[0], covariance, typical)


def check_part(scores: Scores, pool: tuple[str, ...]) -> dict[str, tuple[float, float]]:
    """The scores by subset in pool order, without `blind`. Raises StudyError on an impossible score."""
    by_subset: dict[str, tuple[float, float]] = {}
    for name, (score, error) in scores.items():
        subset = name_subset(parse_subset(name, pool), pool)
        if subset in by_subset:
            raise StudyError(f"scores: subset {subset!r} is given twice; keep one score")
        if not (np.isfinite(score) and 0 <= score <= 100):
            raise StudyError(f"scores: subset {name!r}: score {score} is not a number in 0-100")
        if not (np.isfinite(error) and error >= 0):
            raise StudyError(f"scores: subset {name!r}: standard error {error} is not a number >= 0")
        by_subset[subset] = (float(score), float(error))
    by_subset.pop(BLIND, None)
    return by_subset


def _known(covariates: Mapping[str, Sequence[float]], subsets: tuple[str, ...]) -> Array:
    """Standardised covariates (subsets, columns), without the constant columns."""
    missing = [s for s in subsets if s not in covariates]
    if missing:
        raise StudyError(f"covariates: no row of {missing[0]!r}; every subset needs them, trained or not")
    table = np.array([covariates[s] for s in subsets], dtype=float)
    if not np.isfinite(table).all():
        raise StudyError("covariates: a value is missing or no number")
    spread = table.std(0)
    known: Array = (table - table.mean(0))[:, spread > 0] / spread[spread > 0]
    return known


@lru_cache(maxsize=4)
def _settings() -> tuple[Array, npt.NDArray[np.int64]]:
    """(settings, parts) deviations in points and (settings,) places in SHRINKAGE, drawn from the prior."""
    uniform = qmc.Sobol(len(PARTS) + 2, scramble=True, rng=0).random(SETTINGS)
    scale = np.exp(SCALE[0] + SCALE[1] * ndtri(uniform[:, 0]))
    centre, spread = np.array(list(PARTS.values())).T
    deviations = scale[:, None] * np.exp(centre + spread * ndtri(uniform[:, 2:]))
    return deviations, (uniform[:, 1] * len(SHRINKAGE)).astype(int)


@lru_cache(maxsize=4)
def _prior(n: int) -> Array:
    """Prior covariances (settings, subsets, subsets) of the scores of all subsets of n encoders."""
    pool = tuple(f"e{i}" for i in range(n))
    inside = np.array([[e in s.split("+") for e in pool] for s in all_subsets(pool)], dtype=float)
    size = inside.sum(1)
    first, second = np.triu_indices(n, 1)
    both = inside[:, first] * inside[:, second]
    distance = np.abs(inside[:, None] - inside[None]).sum(-1)
    gap = (size[:, None] - size[None]) / SIZE_LENGTH
    parts = {"size": np.exp(-0.5 * gap**2), "hamming": SHARED**distance, "alone": np.eye(len(size))}
    deviations, shrinkage = _settings()
    prior = np.full((SETTINGS, len(size), len(size)), LEVEL[1] ** 2)
    for name, kernel in parts.items():
        prior += _variance(deviations, name) * _normed(kernel)
    for place, power in enumerate(SHRINKAGE):
        chosen = shrinkage == place
        single = inside / size[:, None] ** power
        pair = both / size[:, None] ** (2 * power)
        for name, features in (("encoders", single), ("pairs", pair)):
            prior[chosen] += _variance(deviations[chosen], name) * _normed(features @ features.T)
    return prior


def _covariate_part(known: Array) -> Array:
    return _variance(_settings()[0], "covariates") * (known @ known.T)


def _variance(deviations: Array, part: str) -> Array:
    variance: Array = deviations[:, list(PARTS).index(part), None, None] ** 2
    return variance


def _normed(kernel: Array) -> Array:
    """A kernel whose functions vary over the lattice by one point squared, on average, around their mean."""
    normed: Array = kernel / (np.diag(kernel).mean() - kernel.mean())
    return normed


def _condition(
    prior: Array, place: npt.NDArray[np.int64], values: Array, noise: Array
) -> tuple[Array, Array]:
    """Mean and covariance given scores at `place`, averaged over the settings by marginal likelihood."""
    seen = prior[:, place[:, None], place] + np.diag(noise + JITTER)
    root = np.linalg.cholesky(seen)
    across = np.linalg.solve(root, prior[:, place])  # (settings, seen, subsets)
    white = np.linalg.solve(root, values[:, None])[..., 0]
    log_likelihood = -0.5 * (white**2).sum(1) - np.log(np.diagonal(root, axis1=1, axis2=2)).sum(1)
    weight = np.exp(log_likelihood - log_likelihood.max())
    kept = weight > NEGLIGIBLE
    weight = weight[kept] / weight[kept].sum()
    across, means = across[kept], np.einsum("hts,ht->hs", across[kept], white[kept])
    mean = weight @ means
    explained = (across * np.sqrt(weight)[:, None, None]).reshape(-1, prior.shape[-1])
    apart = (means - mean) * np.sqrt(weight)[:, None]
    covariance = np.einsum("h,hst->st", weight, prior[kept])
    return mean, covariance - explained.T @ explained + apart.T @ apart
