"""lmms-eval's command line with a study's own data, and with faults that are one line and an exit code.

lmms-eval itself prints an error's traceback and ends with 0.
"""

from __future__ import annotations

import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

import encoder_roles.encoders._torchvision  # first: lmms-eval imports torchvision
import encoder_roles.evaluation._evaluate  # noqa: F401  # and evaluate

# isort: split

import lmms_eval.__main__ as lmms_main
import lmms_eval.tasks
from lmms_eval.cli.dispatch import main
from lmms_eval.utils import load_yaml_config

from encoder_roles.benchmarks.table import TASKS
from encoder_roles.study.names import StudyError

STUDY = "--study"
OWN_DATA = "results/<study> with --study has its own data, offline"
NO_LOGIN = ("LocalTokenNotFoundError", "GatedRepoError", "RepositoryNotFoundError", "DatasetNotFoundError")
NO_HUB = ("ConnectionError", "OfflineModeIsEnabled", "LocalEntryNotFoundError", "ConnectTimeout")


def run(arguments: Sequence[str]) -> None:
    """Run lmms-eval's command line. Beside its options, `--study results/<study>` adds the study's benchmarks
    as tasks `<study>_<benchmark>` that read the study's own data. A fault ends with exit code 1."""
    lmms_main.cli_evaluate_single = ended_by_faults(lmms_main.cli_evaluate_single)
    with tempfile.TemporaryDirectory() as folder:
        try:
            sys.argv = [sys.argv[0], *with_study(arguments, Path(folder))]
        except StudyError as error:
            sys.exit(f"lmms-eval: {error}")
        main()


def with_study(arguments: Sequence[str], folder: Path) -> list[str]:
    """The arguments without `--study`, whose tasks are written to `folder`. Raises StudyError."""
    rest = list(arguments)
    if STUDY not in rest:
        return rest
    place = rest.index(STUDY)
    if place + 1 == len(rest):
        raise StudyError(f"{STUDY}: name a study's folder, as results/laptop")
    if "--include_path" in rest:
        raise StudyError(f"{STUDY} and --include_path: give one of them")
    write_tasks(Path(rest[place + 1]), folder)
    return [*rest[:place], *rest[place + 2 :], "--include_path", str(folder)]


def write_tasks(study: Path, folder: Path) -> None:
    """Write lmms-eval's task of each benchmark of a study, with the study's rows as its data.

    Raises StudyError if the study has no rows of any benchmark.
    """
    tasks = Path(lmms_eval.tasks.__file__).parent
    files = [
        file for data in ("data", "fetched") for file in (study / data).glob("benchmarks/*/test.parquet")
    ]
    if not files:
        raise StudyError(f"{study}: has no data of benchmarks (data/benchmarks); name results/<study>")
    for file in files:
        shipped = tasks / TASKS[file.parent.name].file
        split = load_yaml_config(str(shipped))["test_split"]
        name = f"{study.resolve().name}_{file.parent.name}"
        rows = {"data_files": {split: str(file.resolve())}, "token": False}
        task: dict[str, Any] = {"include": str(shipped), "task": name, "tag": []}
        task |= {"dataset_path": "parquet", "dataset_name": None, "dataset_kwargs": rows}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")


def ended_by_faults(evaluate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function, with an exception as the end of the process: one line if its cause is known."""

    def checked(arguments: Any) -> Any:
        try:
            return evaluate(arguments)
        except Exception as error:
            line = fault_line(error)
            if line is None:
                traceback.print_exc()
            sys.exit(f"lmms-eval: {line or error}")

    return checked


def fault_line(error: BaseException) -> str | None:
    """What a person can do about an error that lmms-eval raised; None if its cause is not known."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, StudyError):
            return str(cause)
    kinds = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    if kinds & set(NO_LOGIN):
        return f"the task's data need a login to their hub: `hf auth login`, or HF_TOKEN; {OWN_DATA}"
    if kinds & set(NO_HUB):
        return f"the hub with the task's data cannot be reached; {OWN_DATA}"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what raised it, and what a retry gave up on."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        attempt = getattr(error, "last_attempt", None)  # tenacity's RetryError
        error = error.__cause__ or (attempt.exception() if attempt else None) or error.__context__
