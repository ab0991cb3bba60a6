"""Noise between training seeds: measured by a study with several seeds, used by one-seed studies.

A study with several seeds estimates the covariance of its benchmarks' scores between seeds, and writes it as
seed_covariance.csv. A study with one seed cannot estimate it. It reads the committed table of the reference
study, if the recipes are the same (`RoleStage.recipe`). `statistics.seed_deviation` replaces both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from encoder_roles.analysis.statistics import Array, ScoreArrays, generator
from encoder_roles.analysis.tables import PRETRAINED, number
from encoder_roles.study.names import NO_MASK, StudyError
from encoder_roles.study.sections import StatisticsSettings

COLUMNS: Final = (
    "study",
    "recipe",
    "seeds",
    "operator",
    "degrees_of_freedom",
    "first",
    "second",
    "covariance",
)
RANK_RATIO: Final = "log rank ratio"  # the `first` and `second` of the variance of a rank ratio's logarithm


@dataclass(frozen=True)
class SeedNoise:
    """What a study with several seeds measured, and where it comes from.

    Attributes:
        study, recipe, seeds: the study, the hash of its recipe's settings, and its number of seeds.
        benchmarks: the names along both axes of the covariances.
        covariance: by operator, (benchmarks, benchmarks) in points squared, of one training seed.
        freedom: by operator, the degrees of freedom of its covariance.
        ratio_variance: of the logarithm of a rank ratio between seeds; NaN if not measured.
    """

    study: str
    recipe: str
    seeds: int
    benchmarks: tuple[str, ...]
    covariance: dict[str, Array]
    freedom: dict[str, float]
    ratio_variance: float = float("nan")

    def of(self, operator: str, benchmarks: list[str]) -> tuple[Array, float]:
        """The covariance of some benchmarks, and its degrees of freedom.

        An operator that was not measured gets the noise of unmasked models. Raises StudyError if a benchmark
        was not measured.
        """
        known = operator if operator in self.covariance else NO_MASK
        if lacking := [name for name in benchmarks if name not in self.benchmarks]:
            raise StudyError(
                f"seed covariance of study {self.study!r}: no benchmark {', '.join(lacking)}; "
                "measure it with a study of these benchmarks and several seeds"
            )
        places = [self.benchmarks.index(name) for name in benchmarks]
        return self.covariance[known][np.ix_(places, places)], self.freedom[known]


def join_seeds(
    arrays: ScoreArrays, settings: StatisticsSettings, measured: SeedNoise | None = None
) -> ScoreArrays:
    """The mean over seeds of every model, its resamples widened by the noise of training seeds.

    Three seeds have only ten distinct resamples, so seeds are not resampled. Their noise is Gaussian, with a
    covariance between benchmarks that is pooled over the models of an operator. That covariance is an
    estimate from few degrees of freedom: every resample draws its scale anew (inverse chi-squared). The noise
    of any average is then Student's t; a normal would be too narrow.

    With one seed the noise is that of `measured`. Without it nothing is added: the interval then holds for
    the trained checkpoints, not for the recipe. Masks of one checkpoint get independent noise. This can only
    widen the differences between masks whose scores rise and fall together.
    """
    units, members = _units(arrays)
    point = np.stack([arrays.point[m].mean(0) for m in members])
    draws = np.stack([arrays.draws[:, m].mean(1) for m in members], axis=1)
    for operator, (covariance, freedom) in seed_covariances(arrays, settings, measured).items():
        places = np.flatnonzero(units["operator"] == operator)
        if not len(draws):
            continue
        values, vectors = np.linalg.eigh(covariance)
        root = vectors * np.sqrt(np.clip(values, 0, None))
        random = generator(settings.seed, "seeds", operator)
        noise = random.standard_normal((len(draws), places.size, len(values)))
        if np.isfinite(freedom):
            noise *= np.sqrt(freedom / random.chisquare(freedom, len(draws)))[:, None, None]
        draws[:, places] += noise @ root.T / np.sqrt(units["seeds"].to_numpy()[places, None])
    unparsable = np.stack([arrays.unparsable[m].mean(0) for m in members])
    return ScoreArrays(units, arrays.benchmarks, (), unparsable, point, draws)


def seed_covariances(
    arrays: ScoreArrays, settings: StatisticsSettings, measured: SeedNoise | None = None
) -> dict[str, tuple[Array, float]]:
    """By operator, the covariance of one training seed's scores and its degrees of freedom.

    Stated, or estimated from the study's own seeds, or measured by another study. An operator without any of
    them is left out.
    """
    units, members = _units(arrays)
    names, size = list(arrays.benchmarks["benchmark"]), len(arrays.benchmarks)
    known = {}
    for operator in units["operator"].unique():
        places = np.flatnonzero(units["operator"] == operator)
        if settings.seed_deviation is not None:
            # fully correlated between benchmarks, so that every average has the stated deviation too
            known[operator] = np.full((size, size), settings.seed_deviation**2), np.inf
        elif (own := estimate_covariance(arrays, [members[p] for p in places])) is not None:
            known[operator] = own
        elif measured is not None:
            known[operator] = measured.of(operator, names)
    return known


def estimate_covariance(
    arrays: ScoreArrays, members: list[npt.NDArray[np.int64]]
) -> tuple[Array, float] | None:
    """Covariance of one trained seed's scores around its model's mean, and its degrees of freedom.

    The covariance is (benchmarks, benchmarks), in points squared, pooled over the models whose rows are
    `members`. The part that comes from answering the same questions differently by chance is subtracted: the
    bootstrap over clusters already has it. None with one seed.
    """
    size = len(arrays.benchmarks)
    freedom, between, chance = 0, np.zeros((size, size)), np.zeros(size)
    for rows in members:
        if rows.size < 2:
            continue
        residual = arrays.point[rows] - arrays.point[rows].mean(0)
        between += residual.T @ residual
        freedom += rows.size - 1
        for b, cluster in enumerate(arrays.clusters):
            sums, weights = cluster.sums[:, rows], cluster.weights[:, rows]
            deviation = sums - sums.mean(1, keepdims=True) - residual[:, b] * weights
            chance[b] += (deviation**2).sum() / weights[:, 0].sum() ** 2
    return ((between - np.diag(chance)) / freedom, freedom) if freedom else None


def ratio_variance(ranks: pd.DataFrame) -> tuple[float, int]:
    """Variance of a rank ratio's logarithm between seeds, pooled, and its degrees of freedom; NaN with one.

    `ranks` has the columns of ranks.csv.
    """
    trained = ranks[ranks["subset"] != PRETRAINED]
    logs = trained.assign(log=np.log(trained["ratio"].to_numpy(float)))
    groups = logs.groupby(["subset", "encoder"])["log"]
    freedom = int((groups.count() - 1).sum())
    squares = float(((groups.count() - 1) * groups.var().fillna(0)).sum())
    return (squares / freedom if freedom else float("nan")), freedom


def measure_seed_noise(arrays: ScoreArrays, ranks: pd.DataFrame, study: str, recipe: str) -> pd.DataFrame:
    """seed_covariance.csv of a study with several seeds: a row per operator and pair of benchmarks.

    A last row has the variance of the logarithm of a rank ratio. Empty for one seed.
    """
    units, members = _units(arrays)
    names, seeds, rows = list(arrays.benchmarks["benchmark"]), int(units["seeds"].max()), []
    for operator in units["operator"].unique():
        places = np.flatnonzero(units["operator"] == operator)
        own = estimate_covariance(arrays, [members[p] for p in places]) if arrays.clusters else None
        if own is None:
            continue
        for i, j in zip(*np.triu_indices(len(names)), strict=True):
            rows.append((study, recipe, seeds, operator, own[1], names[i], names[j], own[0][i, j]))
    variance, freedom = ratio_variance(ranks)
    if rows and freedom:
        rows.append((study, recipe, seeds, NO_MASK, freedom, RANK_RATIO, RANK_RATIO, variance))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def read_seed_noise(path: Path, recipe: str) -> SeedNoise | None:
    """The noise in a seed_covariance.csv; None if it was measured with another recipe.

    Raises StudyError if the file is not such a table.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: not a readable CSV file: {error}") from error
    if lacking := [column for column in COLUMNS if column not in table.columns]:
        raise StudyError(f"{path}: no column {', '.join(lacking)}; copy seed_covariance.csv of a study again")
    if table.empty or not recipe or str(table["recipe"].iloc[0]) != recipe:
        return None
    return seed_noise_of(table, str(path))


def seed_noise_of(table: pd.DataFrame, where: str = "seed_covariance.csv") -> SeedNoise:
    """The rows of a seed_covariance.csv as matrices. Raises StudyError if a pair of benchmarks is lacking."""
    of_scores = table[table["first"] != RANK_RATIO]
    benchmarks = tuple(dict.fromkeys(of_scores["first"]))
    place = {name: i for i, name in enumerate(benchmarks)}
    covariance, freedom = {}, {}
    for operator, rows in of_scores.groupby("operator"):
        matrix = np.full((len(benchmarks), len(benchmarks)), np.nan)
        i, j = ([place.get(name, -1) for name in rows[column]] for column in ("first", "second"))
        matrix[i, j] = matrix[j, i] = rows["covariance"].to_numpy(float)
        if np.isnan(matrix).any() or -1 in j:
            raise StudyError(f"{where}: operator {operator}: a pair of benchmarks has no covariance")
        covariance[str(operator)], freedom[str(operator)] = matrix, float(rows["degrees_of_freedom"].iloc[0])
    if NO_MASK not in covariance:
        raise StudyError(f"{where}: no rows of operator {NO_MASK!r}; copy the table of a study again")
    first = table.iloc[0]
    ratio = table.loc[table["first"] == RANK_RATIO, "covariance"]
    variance = float(ratio.iloc[0]) if len(ratio) else float("nan")
    study, recipe, seeds = str(first["study"]), str(first["recipe"]), int(first["seeds"])
    return SeedNoise(study, recipe, seeds, benchmarks, covariance, freedom, variance)


def _units(arrays: ScoreArrays) -> tuple[pd.DataFrame, list[npt.NDArray[np.int64]]]:
    """The models without their seeds (with the number of `seeds`), and the rows of each."""
    unit, units = number(arrays.models, ["subset", "mask", "operator"])
    members = [np.flatnonzero(unit == u) for u in range(len(units))]
    units["seeds"] = [m.size for m in members]
    return units, members
