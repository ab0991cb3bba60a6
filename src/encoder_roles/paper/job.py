"""What a script of workflow/scripts reads and writes, run by Snakemake or opened as a notebook."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from encoder_roles.analysis.claims.claim import Claim, read_claims
from encoder_roles.manifest.job import LOCKS_VARIABLE, announce
from encoder_roles.paper.catalogue import (
    COLUMNS,
    FIGURES,
    FILES,
    MASK_FIGURES,
    RECORD_COUNTS,
    TABLES,
    VALUES,
    VARIANT_FIGURES,
    VARIANT_TABLES,
)
from encoder_roles.study.names import StudyError
from encoder_roles.study.stages import RoleStage, Stage, read_settings

if TYPE_CHECKING:
    import pandas as pd

RESULTS_VARIABLE = "ENCODER_ROLES_RESULTS"  # the study a notebook reads; results/laptop if unset


@dataclass(frozen=True)
class Job:
    """The files of one script: `inputs` by name (one or several files each), `outputs` by name."""

    name: str
    inputs: Mapping[str, tuple[Path, ...]]
    outputs: Mapping[str, Path]

    def table(self, name: str) -> pd.DataFrame:
        """The rows of a CSV input, possibly none; several files under one name are concatenated in order.

        Raises StudyError when a file is missing or is no table.
        """
        import pandas as pd

        frames = [pd.DataFrame(columns=list(COLUMNS.get(name, ())))] if not self.inputs[name] else []
        for path in self.inputs[name]:
            try:
                # "none" is the name of a mask here, so only an empty cell is a missing value
                frames.append(pd.read_csv(path, keep_default_na=False, na_values=[""]))
            except pd.errors.EmptyDataError:
                frames.append(pd.DataFrame(columns=list(COLUMNS.get(name, ()))))
            except (OSError, pd.errors.ParserError) as error:
                raise StudyError(f"{path}: not a table ({error}); run the rule that writes it") from None
        return pd.concat(frames, ignore_index=True)

    def json(self, name: str) -> Any:
        """The value of a JSON input. Raises StudyError when it is missing or damaged."""
        (path,) = self.inputs[name]
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise StudyError(f"{path}: not JSON ({error}); run the rule that writes it") from None

    def claims(self, name: str) -> list[Claim]:
        """The claims of an input. Raises StudyError when it is missing or damaged."""
        (path,) = self.inputs[name]
        return read_claims(path)

    @property
    def settings(self) -> RoleStage:
        """The pool, the statistics settings and tau of the study."""
        return self.stage("settings", RoleStage)

    def stage(self, name: str, kind: type[Stage]) -> Stage:
        """The settings of one stage, from the input `name`."""
        (path,) = self.inputs[name]
        return read_settings(path, kind)


def open_figure(name: str, scope: Mapping[str, Any]) -> Job:
    """The job of draw_<name>.py; `scope` is the script's globals(), where Snakemake puts itself."""
    outputs = {kind: f"figures/{name}.{kind}" for kind in ("pdf", "svg", "png")}
    return _open(name, (FIGURES | MASK_FIGURES | VARIANT_FIGURES)[name], outputs, scope)


def open_table(name: str, scope: Mapping[str, Any]) -> Job:
    """The job of table_<name>.py."""
    return _open(name, (TABLES | VARIANT_TABLES)[name], {"tex": f"tables/{name}.tex"}, scope)


def open_values(scope: Mapping[str, Any]) -> Job:
    """The job of collect_values.py; its input `records` is empty in a study of the procedural world."""
    job = _open("values", VALUES, {"json": "values.json"}, scope)
    if "snakemake" in scope:
        counts = _paths(scope["snakemake"].input.records)
    else:
        counts = tuple(sorted(_results_folder().glob(RECORD_COUNTS)))
    return replace(job, inputs={**job.inputs, "records": counts})


def _open(name: str, inputs: Sequence[str], outputs: Mapping[str, str], scope: Mapping[str, Any]) -> Job:
    if "snakemake" in scope:
        given = scope["snakemake"]
        _announce(Path(scope["__file__"]), given)
        return Job(
            name,
            {key: _paths(getattr(given.input, key)) for key in inputs},
            {key: Path(getattr(given.output, key)) for key in outputs if hasattr(given.output, key)},
        )
    folder = _results_folder()
    return Job(
        name,
        {key: (folder / FILES[key],) for key in inputs},
        {key: folder / path for key, path in outputs.items()},
    )


def _announce(script: Path, given: Any) -> None:
    """Write into the job's log which script runs: Snakemake does not redirect the stderr of a script."""
    if LOCKS_VARIABLE not in os.environ:
        return
    path = script.relative_to(Path.cwd())
    with Path(given.log[0]).open("w", encoding="utf-8") as stream:
        announce(path.stem, script=path, stream=stream)


def _paths(value: str | Sequence[str]) -> tuple[Path, ...]:
    return (Path(value),) if isinstance(value, str) else tuple(Path(path) for path in value)


def _results_folder() -> Path:
    """The study a notebook reads: the variable's folder, else results/laptop of the repository around us."""
    if chosen := os.environ.get(RESULTS_VARIABLE):
        return Path(chosen)
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "config.yaml").is_file():
            return folder / "results" / "laptop"
    raise StudyError(f"{here}: not inside the repository; open the notebook there or set {RESULTS_VARIABLE}")
