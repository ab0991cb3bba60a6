"""What encoders give each other: scores by skill, and which questions a joint model keeps of each encoder."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from encoder_roles.analysis.statistics import Array, normal_quantile
from encoder_roles.analysis.tables import check_pool, read_scores
from encoder_roles.provenance import write_table
from encoder_roles.study.names import BLIND, NO_MASK, StudyError, all_subsets, name_subset
from encoder_roles.study.stages import RoleStage, read_settings

SOLVED = 50.0  # a question counts as solved from this score on: half of the credit
ALL = "all"  # instead of a skill: every question; instead of an encoder: the sum over all pairs
CLASSES = ("only_first", "only_second", "only_one", "both", "neither")
SOLVERS = ("pair", "full", "retraining")
KEY = ["benchmark", "question"]
Questions = dict[str, dict[str, Array]]  # class of questions -> number and solved ones, (questions,)


@dataclass(frozen=True)
class SkillScores:
    """The scores of all models without masks, question by question.

    Attributes:
        questions: a row per question: benchmark, question, cluster, category.
        scores: subset -> scores 0-100 (seeds, questions).
    """

    questions: pd.DataFrame
    scores: dict[str, Array]

    def skills(self) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
        """All questions, then each skill: its name and the places of its questions."""
        yield ALL, np.arange(len(self.questions))
        category = self.questions["category"].to_numpy()
        for name in dict.fromkeys(category):
            yield str(name), np.flatnonzero(category == name)


def arrange_skills(scores: pd.DataFrame, categories: pd.DataFrame) -> SkillScores:
    """Join checked scores with the categories of the questions (benchmark, question, category).

    Raises StudyError if a question has no category.
    """
    rows = scores[scores["operator"] == NO_MASK]
    table = rows.pivot(index=KEY, columns=["subset", "seed"], values="score")
    clusters = rows.drop_duplicates(KEY).set_index(KEY)["cluster"]
    questions = categories.merge(clusters.rename("cluster"), left_on=KEY, right_index=True)
    if len(questions) != len(table):
        missing = table.index.difference(pd.MultiIndex.from_frame(categories[KEY]))
        raise StudyError(
            f"categories: {len(missing)} questions of the scores have none, first {tuple(missing[:1])}; "
            "write the requests again"
        )
    table = table.reindex(pd.MultiIndex.from_frame(questions[KEY]))
    names = table.columns.get_level_values("subset").unique()
    return SkillScores(
        questions.reset_index(drop=True),
        {name: table[name].sort_index(axis=1).to_numpy().T for name in names},
    )


def share_interval(hits: Array, number: Array, level: float) -> tuple[float, float, float]:
    """sum(hits) / sum(number) with Wilson's interval, for hits and numbers by cluster (clusters,).

    The number of independent observations is that with the variance between clusters (Korn and Graubard
    1998), at most sum(number); without variance it is the number of clusters, so that a share of zero or one
    has an interval too. NaN without observations or hits.

    >>> share, low, high = share_interval(np.zeros(250), np.ones(250), level=0.95)
    >>> share, low, round(high, 3)
    (0.0, 0.0, 0.015)
    """
    total, used = number.sum(), np.count_nonzero(number)
    share = hits.sum() / total if total else np.nan
    if np.isnan(share):
        return np.nan, np.nan, np.nan
    spread = ((hits - share * number) ** 2).sum() * used / max(1, used - 1) / total**2
    size = min(total, share * (1 - share) / spread) if spread > 0 and 0 < share < 1 else min(total, used)
    z2 = normal_quantile(level) ** 2
    centre = (share + z2 / (2 * size)) / (1 + z2 / size)
    half = np.sqrt(z2 * (share * (1 - share) / size + z2 / (4 * size**2))) / (1 + z2 / size)
    return float(share), float(max(0.0, centre - half)), float(min(1.0, centre + half))


def skill_table(data: SkillScores, pool: tuple[str, ...], level: float) -> pd.DataFrame:
    """skills.csv: the score of every subset by skill, the mean over its questions and seeds, 0-100.

    `low` and `high` hold the noise of the questions; `seed_deviation` is that of the score between seeds,
    empty with one seed.
    """
    rows = []
    for skill, places in data.skills():
        cluster = _clusters(data, places)
        benchmarks = ALL if skill == ALL else "+".join(data.questions["benchmark"].iloc[places].unique())
        for subset in (BLIND, *all_subsets(pool)):
            if subset not in data.scores:
                continue
            scores = data.scores[subset][:, places]
            hits = _sum(cluster, scores.mean(0) / 100)
            bounds = [
                100 * value for value in share_interval(hits, _sum(cluster, np.ones(places.size)), level)
            ]
            deviation = scores.mean(1).std(ddof=1) if len(scores) > 1 else np.nan
            rows.append((skill, benchmarks, subset, places.size, *bounds, len(scores), deviation))
    columns = ["skill", "benchmarks", "subset", "n", "score", "low", "high", "seeds", "seed_deviation"]
    return pd.DataFrame(rows, columns=columns)


def complementarity_table(data: SkillScores, pool: tuple[str, ...], level: float) -> pd.DataFrame:
    """complementarity.csv: for each pair of encoders and skill, a row per class of questions.

    The classes are what the models of one encoder solve: only the first, only the second, only one of them,
    both or neither. `n` is the mean number of questions over seeds, `share` their share of the skill.
    `pair`, `full` and `retraining` are the shares of them that others solve: the joint model of the pair, the
    full pool (both with the same seed), and the model of the same encoder trained with another seed. For
    `both` and `neither` the last is the mean of the two encoders. Rows of the pair (`all`, `all`) sum over
    all pairs.
    """
    pairs = {
        (first, second): classify(data.scores, first, second, pool)
        for first, second in itertools.combinations(pool, 2)
        if first in data.scores and second in data.scores
    }
    rows = []
    for skill, places in data.skills():
        cluster = _clusters(data, places)
        sums = {
            pair: {
                name: {key: _sum(cluster, values[places]) for key, values in of.items()}
                for name, of in classes.items()
            }
            for pair, classes in pairs.items()
        }
        if len(sums) > 1:
            sums = {(ALL, ALL): _add(list(sums.values())), **sums}
        for (first, second), classes in sums.items():
            for name in CLASSES:
                rows.append((skill, first, second, name, *_class_row(classes[name], level)))
    columns = ["skill", "first", "second", "questions", "n", "share", "share_low", "share_high"]
    columns += [solver + end for solver in SOLVERS for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=columns)


def classify(scores: dict[str, Array], first: str, second: str, pool: tuple[str, ...]) -> Questions:
    """For each class of questions of a pair: `n`, `of` (all questions) and the solved ones of each solver.

    All are counts per question, mean over seeds, (questions,). A solver that was not trained is NaN.
    """
    one, two = scores[first] >= SOLVED, scores[second] >= SOLVED
    classes = {
        "only_first": one & ~two,
        "only_second": two & ~one,
        "only_one": one ^ two,
        "both": one & two,
        "neither": ~(one | two),
    }
    again = (_retrained(one), _retrained(two))
    mean = (again[0] + again[1]) / 2
    retrained = {
        "only_first": again[0],
        "only_second": again[1],
        "only_one": np.where(one, *again),
        "both": mean,
        "neither": mean,
    }
    joint = {
        "pair": _solved(scores, name_subset((first, second), pool), one.shape),
        "full": _solved(scores, name_subset(pool, pool), one.shape),
    }
    return {
        name: {
            "n": inside.mean(0),
            "of": np.ones(inside.shape[1]),
            **{solver: (inside * solved).mean(0) for solver, solved in joint.items()},
            "retraining": (inside * retrained[name]).mean(0),
        }
        for name, inside in classes.items()
    }


def _solved(scores: dict[str, Array], subset: str, shape: tuple[int, ...]) -> Array:
    return (scores[subset] >= SOLVED).astype(float) if subset in scores else np.full(shape, np.nan)


def _retrained(solved: npt.NDArray[np.bool_]) -> Array:
    """For each seed, the share of the other seeds that solve a question; NaN with one seed."""
    seeds = len(solved)
    return (solved.sum(0) - solved) / (seeds - 1) if seeds > 1 else np.full(solved.shape, np.nan)


def _sum(cluster: npt.NDArray[np.int64], values: Array) -> Array:
    """The sum of the values of each cluster, (clusters,)."""
    return np.bincount(cluster, values).astype(float)


def _add(pairs: list[Questions]) -> Questions:
    """The counts of several pairs, summed."""
    return {
        name: {key: np.sum([pair[name][key] for pair in pairs], axis=0) for key in values}
        for name, values in pairs[0].items()
    }


def _class_row(counts: dict[str, Array], level: float) -> tuple[float, ...]:
    shares = [share_interval(counts["n"], counts["of"], level)]
    shares += [share_interval(counts[solver], counts["n"], level) for solver in SOLVERS]
    return (float(counts["n"].sum()), *itertools.chain(*shares))


def _clusters(data: SkillScores, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The number of each question's cluster."""
    rows = data.questions.iloc[places]
    return pd.factorize(pd.MultiIndex.from_frame(rows[["benchmark", "cluster"]]))[0].astype(np.int64)


def measure_skills(*, settings: Path, scores: Path, categories: Path, output: Path, pairs: Path) -> None:
    """Write skills.csv and complementarity.csv.

    Args:
        settings: settings/roles.json.
        scores: scores.parquet.
        categories: requests/categories.csv, the skill or category of every question.
        output: skills.csv, the score of every subset by skill.
        pairs: complementarity.csv, what the joint model of two encoders keeps of each.

    Raises:
        StudyError: the scores are not those of the study, or a question has no category.
    """
    stage = read_settings(settings, RoleStage)
    rows = read_scores(scores)
    check_pool(rows, stage.pool, stage.study, str(scores))
    data = arrange_skills(rows, pd.read_csv(categories, dtype=str))
    level = stage.statistics.level
    tables = skill_table(data, stage.pool, level), complementarity_table(data, stage.pool, level)
    write_table(output, tables[0])
    write_table(pairs, tables[1])
