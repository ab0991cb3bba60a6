"""The benchmarks' own questions about a picture, and their true answers, for `encoder-roles chat`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from encoder_roles.benchmarks.table import find_benchmark
from encoder_roles.evaluation.requests import (
    MANIFEST,
    Request,
    benchmark_file,
    encode_picture,
    read_manifest,
    read_requests,
)

if TYPE_CHECKING:
    from encoder_roles.evaluation.harness import Task


@dataclass(frozen=True)
class KnownQuestion:
    """A benchmark's question about one picture."""

    benchmark: str
    request: Request

    def is_asked_by(self, question: str) -> bool:
        """Whether the text is this question, with or without the line that says how to answer."""
        first = self.request.prompt.rsplit("\n", 1)[0]
        return question.strip() in (self.request.prompt.strip(), first.strip())


def study_of(folder: Path) -> Path | None:
    """The study's folder that holds a model or a folder of models; None if it is none of a study."""
    parents = folder.resolve().parents
    return next((parent for parent in parents if (parent / "requests" / MANIFEST).is_file()), None)


def questions_about(picture: Path, study: Path) -> list[KnownQuestion]:
    """The questions of a study's benchmarks that show this picture alone.

    Pictures are compared by their pixels, under whatever name.

    Args:
        picture: a picture file.
        study: results/<study>.
    """
    requests = study / "requests"
    with Image.open(picture) as opened:
        name, _ = encode_picture(opened)
    shown = (f"images/{name}",)
    return [
        KnownQuestion(benchmark, request)
        for benchmark in read_manifest(requests)
        for request in read_requests(requests, benchmark)
        if request.images == shown
    ]


def true_answer(known: KnownQuestion, study: Path) -> str:
    """The answer that the benchmark's rows hold; of several accepted answers, each once.

    Raises StudyError if the study has no rows of the benchmark.
    """
    from encoder_roles.evaluation.harness import load_task  # imports lmms-eval, which takes seconds

    entry = read_manifest(study / "requests")[known.benchmark]
    folder = next(
        (study / name for name in ("data", "fetched") if (study / name / "benchmarks").is_dir()), study
    )
    parquet = benchmark_file(folder, known.benchmark, entry["split"])
    task = load_task(find_benchmark(known.benchmark), parquet, with_pictures=False)
    return " / ".join(dict.fromkeys(_answers(task, known.request.id)))


def _answers(task: Task, id: str) -> Iterator[str]:
    """What lmms-eval compares an answer with; TextVQA's task names a column that its rows do not have."""
    row: dict[str, Any] = task.rows[task.ids.index(id)]
    target = task.lmms.doc_to_target(row)
    if target == "answer" and "answers" in row:
        target = row["answers"]
    yield from map(str, target if isinstance(target, list) else [target])
