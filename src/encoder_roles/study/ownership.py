"""Whose results a folder holds, so that no run writes into those of another study."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from encoder_roles.study.config_files import read_config
from encoder_roles.study.names import StudyError

STUDIES = Path("studies")
# keys that `--config` may change in a finished study: they select a target or a source, or cost only time
HARMLESS = frozenset({"study", "scores", "sources", "gates", "jobs"})


def refuse_study_folder(folder: Path) -> None:
    """Raise StudyError if a folder holds the results of a study, whose tables have the same names."""
    if (folder / "settings" / "study.json").is_file() or (folder / "scores.parquet").is_file():
        raise StudyError(f"{folder}: holds the results of a study; choose another folder")


def refuse_foreign_name(name: str, configs: Sequence[Path], changes: Mapping[str, Any]) -> None:
    """Refuse overrides without a study of their own: they would write into the results of another.

    Args:
        name: the study's name, as the merged config has it.
        configs: config.yaml and the files that override it.
        changes: the keys of `snakemake --config`.

    Raises:
        StudyError: an override names no study, or the study of another file.
    """
    overrides = configs[1:]
    naming = [path for path in overrides if _name_in(path) is not None]
    if overrides and not naming and "study" not in changes:
        raise StudyError(
            f"{overrides[-1]}: names no study, so it would write to that of {configs[0]}: add `study: <name>`"
        )
    stated = [_name_in(path) for path in configs]
    renamed = "study" in changes and name != next((n for n in reversed(stated) if n is not None), None)
    settings = Path("results", name, "settings").resolve()  # what the study itself wrote is its own
    if not renamed and all(path.resolve().parent == settings for path in naming):
        return
    others = [*(configs if renamed else configs[:1]), *_files_of(STUDIES, configs)]
    if owner := next((path for path in others if _name_in(path) == name), None):
        where = "--config study" if renamed else str(naming[-1])
        raise StudyError(
            f"{where}: {name} is the study of {owner}, so this would write into results/{name}; choose "
            "another name"
        )


def refuse_changed_results(folder: Path, settings: Mapping[str, Any], changes: Iterable[str]) -> None:
    """Refuse a `--config` that would change the results of a finished study.

    Args:
        folder: results/<study>.
        settings: the study's settings now, as its settings/study.json holds them.
        changes: the keys of `snakemake --config`.

    Raises:
        StudyError: a key of `changes` differs from the settings of the finished results.
    """
    record = folder / "settings" / "study.json"
    if not (folder / "manifest.json").is_file() or not record.is_file():
        return
    before = json.loads(record.read_text(encoding="utf-8"))
    for key in sorted(set(changes) - HARMLESS):
        if before.get(key) != settings.get(key):
            raise StudyError(
                f"--config {key}: would change {folder}, which is finished; add study=<name> for a study of "
                "its own, or edit the config file"
            )


def _files_of(folder: Path, configs: Iterable[Path]) -> list[Path]:
    """The study files of a folder that are no part of this run."""
    mine = {path.resolve() for path in configs}
    return [path for path in sorted(folder.glob("*.yaml")) if path.resolve() not in mine]


def _name_in(path: Path) -> str | None:
    """The study that a file names; None if it names none or cannot be read."""
    try:
        name = read_config(path)[0].get("study")
    except StudyError:
        return None  # whoever reads the file for its settings reports the fault
    return None if name is None else str(name)
