"""The sixteen benchmarks as data: lmms-eval's task for each, its data, its metric and what differs here.

The rows are in table.yaml. Nothing here imports lmms-eval: every stage reads the table, but the task code is
needed only where prompts are rendered and answers are scored (`evaluation.harness`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from encoder_roles.study.names import BENCHMARKS, GROUPS, StudyError
from encoder_roles.study.sections import HubSource, Positive, Settings

LMMS_EVAL = "0.7.3"  # another version has other prompts and parsers: it is an error, not a warning
ANSWER_TOKENS = 128  # the most tokens an answer may have, and the limit where a task sets none
IMAGES = "images"  # last part of the name of a data set that holds only a benchmark's pictures
SKILL = "skill"  # a column of the procedural world alone: the kind of question, the same in all benchmarks
TABLE = Path(__file__).with_suffix(".yaml")


class Benchmark(Settings):
    """One benchmark: where its questions come from, and how lmms-eval asks and scores them.

    Attributes:
        name: its name in the study.
        task: lmms-eval's name of the task.
        file: the task's YAML file below lmms_eval/tasks.
        metric: the key of the score in the task's results.
        source, config, split, revision: the public data set; a study's lock has the commit of `revision`.
        images: the configuration that has the pictures, if `config` has only the questions.
        questions: rows of the public data set after `keep`.
        cluster: the columns that identify what questions share; or `picture`, MMBench's `circle`, MMVP's
            `pair`.
        category: the column, or the column and the key inside it, with the benchmark's own category of a
            question; empty if its rows have none.
        suffix: the text at the end of every prompt; empty if the question itself says how to answer.
        keep: a column and its allowed values: rows with other values are not part of the benchmark.
        overlay: how the score differs from lmms-eval's figure; empty if it does not.
    """

    name: str
    task: str
    file: str
    metric: str
    source: str
    config: str = ""
    split: str
    questions: Positive
    cluster: tuple[str, ...] = ("picture",)
    category: tuple[str, ...] = ()
    suffix: str = ""
    keep: tuple[str, tuple[str, ...]] | None = None
    overlay: str = ""
    revision: str = "main"
    images: str = ""

    @property
    def hub_sources(self) -> dict[str, HubSource]:
        """Its data sets on the hub, by name in a lock: the questions, and the pictures if they are apart."""
        questions = HubSource(
            kind="dataset",
            repository=self.source,
            revision=self.revision,
            config=self.config,
            split=self.split,
        )
        sources = {f"benchmarks/{self.name}": questions}
        if self.images:
            sources[f"benchmarks/{self.name}/{IMAGES}"] = questions.model_copy(update={"config": self.images})
        return sources

    @property
    def group(self) -> str:
        """The group of Cambrian-1 (arXiv 2406.16860) the benchmark belongs to."""
        return next(group for group, names in GROUPS.items() if self.name in names)


def read_table(path: Path) -> dict[str, Benchmark]:
    """The benchmarks of a table, by name, in the file's order."""
    rows: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {name: Benchmark.model_validate({"name": name, **row}) for name, row in rows.items()}


TASKS = read_table(TABLE)
assert tuple(TASKS) == BENCHMARKS


def find_benchmark(name: str) -> Benchmark:
    """The row of a benchmark. Raises StudyError if the name belongs to no group."""
    if name not in TASKS:
        raise StudyError(f"benchmark {name!r} belongs to no group (known: {', '.join(TASKS)})")
    return TASKS[name]


def cluster_of(benchmark: Benchmark, row: Mapping[str, Any], pictures: tuple[str, ...]) -> str:
    """The name of a question's cluster, the unit that the bootstrap draws.

    `pictures` are the names of the question's pictures; equal names are equal pictures.
    """
    if benchmark.cluster == ("picture",):
        return "+".join(pictures) or "no picture"
    if benchmark.cluster == ("circle",):  # MMBench: the same question with its options rotated, 1e6 apart
        return str(int(row["index"]) % 1_000_000)
    if benchmark.cluster == ("pair",):  # MMVP: rows 1-2, 3-4, ... ask the same about two pictures
        return str((int(row["Index"]) - 1) // 2)
    return "/".join(str(row[column]) for column in benchmark.cluster)


def category_of(benchmark: Benchmark, row: Mapping[str, Any]) -> str:
    """The kind of a question: the skill that the procedural world wrote, or `<benchmark>: <category>`.

    A benchmark without categories is one category, named after it.
    """
    if skill := row.get(SKILL):
        return str(skill)
    value: Any = row
    for key in benchmark.category:
        value = value.get(key) if value else None
    return f"{benchmark.name}: {value}" if benchmark.category and value is not None else benchmark.name
