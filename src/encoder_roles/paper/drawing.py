"""One figure of a result in Python: what `.figure(name)` of an analysis or of an advice returns."""

from __future__ import annotations

import difflib
import runpy
import tempfile
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from encoder_roles.analysis.external.scores import STATISTICS, TAU, Analysis
from encoder_roles.analysis.lattice import RETRAINED
from encoder_roles.paper.catalogue import COLUMNS, FILES
from encoder_roles.paper.external_report import CAPTIONS, drawable, find_scripts, results_in
from encoder_roles.provenance import write_json, write_table
from encoder_roles.study.names import StudyError
from encoder_roles.study.stages import RoleStage

PREDICTED = "subset_lattice"  # the figure that predictions allow


def draw_analysis(analysis: Analysis, name: str) -> Figure:
    """A figure of an analysis, by its name in `CAPTIONS`.

    Raises:
        StudyError: there is no such figure, or the scores do not allow it.
    """
    check_name(name, CAPTIONS)
    names, missing = drawable(analysis)
    if name not in names:
        (need,) = [note.partition(": ")[2] for note in missing if name in note]
        raise StudyError(f"figure {name!r}: {need}")
    return run_script(name, analysis.tables, analysis.settings)


def draw_predictions(predictions: pd.DataFrame, pool: tuple[str, ...], name: str) -> Figure:
    """The lattice of predicted scores, from the predictions of an advice.

    Raises:
        StudyError: there is no such figure.
    """
    check_name(name, {PREDICTED: ""})
    scores = predictions[["subset", "score", "low", "high"]].assign(level="overall", operator=RETRAINED)
    tables = {"lattice": scores, "differences": pd.DataFrame(columns=list(COLUMNS["differences"]))}
    settings = RoleStage(study="advice", pool=pool, statistics=STATISTICS, tau=TAU)
    return run_script(name, tables, settings)


def check_name(name: str, figures: Mapping[str, str]) -> None:
    """Raise StudyError if `name` is none of these figures."""
    if name not in figures:
        near = difflib.get_close_matches(name, figures, n=1)
        question = f"did you mean {near[0]!r}? " if near else ""
        raise StudyError(f"figure {name!r}: unknown; {question}it can be {', '.join(figures)}")


def run_script(name: str, tables: Mapping[str, pd.DataFrame], settings: RoleStage) -> Figure:
    """Run draw_<name>.py on some tables. The caller's matplotlib settings stay as they are."""
    scripts = find_scripts()
    if scripts is None:
        raise StudyError("this installation has no scripts of figures: install the wheel, or use a checkout")
    with tempfile.TemporaryDirectory() as temporary, results_in(folder := Path(temporary)):
        write_json(folder / FILES["settings"], settings.model_dump(mode="json"))
        for table, rows in tables.items():
            write_table(folder / f"{table}.csv", rows)
        with mpl.rc_context():
            before = set(plt.get_fignums())
            runpy.run_path(str(scripts / f"draw_{name}.py"))
            figure = plt.figure(max(set(plt.get_fignums()) - before))
            plt.close(
                figure
            )  # a notebook shows the figure that it is given, and would show an open one again
    return figure
