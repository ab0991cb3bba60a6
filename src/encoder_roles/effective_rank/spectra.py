"""Effective rank of features, from streamed Gram matrices, with a bootstrap over pictures.

The matrix X has a row per grid token of N probe pictures and a column per channel. Its effective rank
(Roy & Vetterli 2007) is exp(-sum p_k ln p_k), p_k = sigma_k / sum sigma, of the centred X. The rows are never
kept: the singular values are the square roots of the eigenvalues of X'X, a sum over pictures in fp64
(`gram_sums`).

Tokens of one picture are correlated, so the bootstrap draws pictures. A resample's Gram matrix is a weighted
sum of the pictures' Gram matrices, so all resamples are one matrix product. A resample has fewer distinct
pictures than the sample, and effective rank grows with N. Resamples are therefore slightly low: intervals use
their spread around their mean.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoder_roles.effective_rank.gram_sums import Array, GramSums
from encoder_roles.study.names import StudyError

GRAM_BYTES = 2**30  # most memory that the Gram matrices of one encoder's pictures take
CHUNK_BYTES = 2**27  # most memory of the whole Gram matrices that are held at a time, if one fits in it
FEWEST_GROUPS = 32  # of pictures: a bootstrap over fewer is not reliable; a file holds what memory cannot
ROWS = 512  # of a Gram matrix, whose mean is subtracted at a time


@dataclass(frozen=True)
class RankMeasures:
    """The measures of one spectrum, of the centred X except `erank_uncentred`.

    Scale and rotation of X change none of them.

    Attributes:
        erank, erank_uncentred: exp of the entropy of sigma / sum(sigma).
        erank_energy: exp of the entropy of sigma^2 / sum(sigma^2).
        participation_ratio: (sum sigma^2)^2 / sum sigma^4.
        stable_rank: sum sigma^2 / sigma_1^2.
    """

    erank: float
    erank_uncentred: float
    erank_energy: float
    participation_ratio: float
    stable_rank: float


class PictureGrams:
    """Sums over the tokens of each picture, or group of pictures: count, sum (D,), Gram matrix (D, D); fp64.

    Args:
        width: channels D.
        pictures: the number of pictures to come. Above what GRAM_BYTES can hold, several share a sum.
    """

    def __init__(self, width: int, pictures: int) -> None:
        self.width, self.pictures = width, 0
        most = max(FEWEST_GROUPS, GRAM_BYTES // (4 * width * (width + 1)))
        self.pictures_per_group = -(-pictures // most)
        groups = -(-pictures // self.pictures_per_group)
        self.counts = np.zeros(groups)
        self.sums = np.zeros((groups, width))
        self.grams = GramSums(groups, width, GRAM_BYTES)

    def add(self, features: NDArray[np.floating]) -> None:
        """Add a batch of pictures, features (B, ..., D), in order. Raises StudyError if one is not finite."""
        batch = features.reshape(len(features), -1, self.width).astype(np.float64)
        if not np.isfinite(batch).all():
            where = self.pictures + int(np.flatnonzero(~np.isfinite(batch).all(axis=(1, 2)))[0])
            raise StudyError(
                f"effective rank: picture {where} has features that are not finite; training diverged"
            )
        group = np.arange(self.pictures, self.pictures + len(batch)) // self.pictures_per_group
        np.add.at(self.counts, group, batch.shape[1])
        np.add.at(self.sums, group, batch.sum(axis=1))
        step = max(1, CHUNK_BYTES // (8 * self.width**2))  # pictures whose whole Gram matrices are held
        for start in range(0, len(batch), step):
            some = batch[start : start + step]
            self.grams.add(group[start : start + step], np.matmul(some.transpose(0, 2, 1), some))
        self.pictures += len(batch)

    @property
    def tokens(self) -> int:
        """Rows of X so far."""
        return int(self.counts.sum())

    def measures(self) -> RankMeasures:
        """All measures of the pictures added so far."""
        return measure_spectra(*self.spectra())

    def spectra(self) -> tuple[Array, Array]:
        """Singular values, largest first, of the centred and of the uncentred X."""
        ones = np.ones((1, len(self.counts)))
        return self._singular_values(ones)[0], self._singular_values(ones, centred=False)[0]

    def curve(self, steps: int = 6) -> list[tuple[int, float]]:
        """Effective rank of the first n pictures: [(n, erank)], n halved `steps` - 1 times from all."""
        groups_in_all, sizes = len(self.counts), []
        for step in reversed(range(steps)):
            if (groups := groups_in_all >> step) >= 1:
                sizes.append(groups)
        weights = np.array([np.arange(groups_in_all) < size for size in sizes], dtype=np.float64)
        pictures = [min(size * self.pictures_per_group, self.pictures) for size in sizes]
        return list(zip(pictures, effective_rank(self._singular_values(weights)).tolist(), strict=True))

    def bootstrap(self, resamples: int, seed: int) -> Array:
        """Effective rank of each bootstrap resample of the pictures (resamples,).

        The draws depend on the seed and the number of pictures alone: equal seeds pair two encoders, or one
        encoder before and after training, on the same pictures.
        """
        groups = len(self.counts)
        drawn = np.random.default_rng(seed).multinomial(groups, np.full(groups, 1 / groups), size=resamples)
        return effective_rank(self._singular_values(drawn.astype(np.float64)))

    def _singular_values(self, weights: Array, centred: bool = True) -> Array:
        """Singular values (R, D) of X with pictures weighted by each row of `weights` (R, groups)."""
        chunk = max(1, CHUNK_BYTES // (8 * self.width**2))
        parts = [self._solve(weights[i : i + chunk], centred) for i in range(0, len(weights), chunk)]
        return np.concatenate(parts)

    def _solve(self, weights: Array, centred: bool) -> Array:
        gram = self.grams.weighted(weights)
        # rounding error in a direction without variance, before the mean is subtracted
        noise = self.width * np.finfo(np.float64).eps * np.trace(gram, axis1=1, axis2=2)
        if centred:
            total, count = weights @ self.sums, (weights @ self.counts)[:, None, None]
            for start in range(0, self.width, ROWS):
                some = slice(start, start + ROWS)
                gram[:, some] -= total[:, some, None] * total[:, None, :] / count
        energy = np.linalg.eigvalsh(gram)[:, ::-1]  # reads what lies on and below the diagonal
        return np.sqrt(np.where(energy > noise[:, None], energy, 0))


def effective_rank(sigma: Array) -> Array:
    """exp of the entropy of sigma / sum(sigma) over the last axis (Roy & Vetterli 2007); 0 of zeros.

    >>> effective_rank(np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 0.0, 0.0, 0.0]])).round(6).tolist()
    [4.0, 1.0]
    """
    total = sigma.sum(axis=-1, keepdims=True)
    share = np.divide(sigma, total, out=np.zeros_like(sigma), where=total > 0)
    logarithm = np.log(share, out=np.zeros_like(share), where=share > 0)
    rank: Array = np.where(total[..., 0] > 0, np.exp(-(share * logarithm).sum(axis=-1)), 0.0)
    return rank


def measure_spectra(centred: Array, uncentred: Array) -> RankMeasures:
    """All measures from the two spectra (D,). Raises StudyError if X has no variance at all."""
    energy = centred**2
    if not energy.any():
        raise StudyError(
            "effective rank: the features are the same at every token; the encoder has collapsed"
        )
    return RankMeasures(
        erank=float(effective_rank(centred)),
        erank_uncentred=float(effective_rank(uncentred)),
        erank_energy=float(effective_rank(energy)),
        participation_ratio=float(energy.sum() ** 2 / (energy**2).sum()),
        stable_rank=float(energy.sum() / energy.max()),
    )


def scaled_interval(point: float, draws: Array, level: float) -> tuple[float, float]:
    """A percentile interval of positive draws, scaled so that their mean is `point`.

    >>> low, high = scaled_interval(10.0, np.linspace(8.0, 10.0, 101), level=0.9)
    >>> round(low, 2), round(high, 2)
    (9.0, 11.0)
    """
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]) / draws.mean()
    return point * float(low), point * float(high)
