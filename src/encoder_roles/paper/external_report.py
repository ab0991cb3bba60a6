"""`encoder-roles analyse-scores`: any table of scores as tables, figures and one page of HTML.

The figures are drawn by the same scripts as a study's. Each needs some of the scores; one that lacks them is
not drawn, and the notes say so.
"""

from __future__ import annotations

import base64
import html
import os
import runpy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from encoder_roles.analysis.commands import write_tables
from encoder_roles.analysis.external.scores import STATISTICS, TAU, Analysis, analyse_table
from encoder_roles.analysis.external.summary import (
    information_gap_text,
    is_only_masked,
    operators_in,
    role_frame,
)
from encoder_roles.analysis.lattice import RETRAINED
from encoder_roles.paper.job import RESULTS_VARIABLE
from encoder_roles.provenance import write_json, write_text
from encoder_roles.study.names import BLIND, NONE_KEPT, study_of
from encoder_roles.study.ownership import refuse_study_folder
from encoder_roles.study.sections import StatisticsSettings
from encoder_roles.study.stages import ExternalScoresStage, read_settings

# figure -> its caption on the page
ALWAYS = {"subset_lattice": "Every subset with its score; a line adds one encoder."}
OF_ALL_SUBSETS = {
    "subset_bars": "Scores of all subsets above the blind score.",
    "capacity_necessity": "Capacity (alone) against Necessity (lost without it).",
    "pair_matrix": "Scores of all pairs.",
    "interactions": "Interactions: what two encoders give together beyond their sum.",
    "benchmark_heatmap": "Necessity and Capacity on each benchmark.",
    "chains": "The best subset of each size.",
}
OF_ALL_MASKS = {
    "masked_vs_retrained": "Masked against retrained scores.",
    "retrained_vs_masked_ranks": "Rankings of the encoders, retrained and masked.",
}
OF_COSTS = {"score_cost": "Scores against costs."}
OF_A_MASKED_MODEL = {"masked_roles": "What each encoder gives to the masked model, with intervals."}
CAPTIONS = ALWAYS | OF_ALL_SUBSETS | OF_ALL_MASKS | OF_COSTS | OF_A_MASKED_MODEL


def analyse_scores(
    *,
    scores: Path,
    output: Path,
    pool: tuple[str, ...] = (),
    leave_out: tuple[int, ...] = (),
    scales: dict[str, float] | None = None,
    ranks: Path | None = None,
    costs: Path | None = None,
    statistics: StatisticsSettings = STATISTICS,
    tau: float = TAU,
    figures: bool = True,
    settings: Path | None = None,
) -> None:
    """Analyse any table of scores: print what it shows, and write tables, figures and report.html.

    Args:
        scores: CSV or parquet; wide (a column that names the encoders, one per benchmark; rows `n` and
            `group` may give numbers of questions and groups) or tidy (columns encoders, benchmark, score,
            ...): see docs/external-scores.md.
        output: the folder; that of a study is refused.
        pool: encoders in the order in which subsets are written; by default as they first appear.
        leave_out: rows, counted from 1 below the head without empty rows, that are not analysed.
        scales: a benchmark and its greatest score, where the table does not show it (`--scales ocrbench 1000
            gqa 1`); `score` stands for all others.
        ranks: a table in the form of ranks.csv.
        costs: a table in the form of costs.csv.
        statistics: resamples, level, seed of the bootstrap; a stated seed deviation.
        tau: tolerance of "survives" and "expands".
        figures: draw the figures.
        settings: settings/external_scores.json, which the workflow gives in place of pool, leave_out,
            scales, statistics and tau.
    """
    refuse_study_folder(output)
    study = study_of(scores)
    if settings is not None:
        stage = read_settings(settings, ExternalScoresStage)
        study, pool, leave_out = stage.study, stage.pool, stage.leave_out
        scales, statistics, tau = stage.scales, stage.statistics, stage.tau
    analysis = analyse_table(
        scores,
        pool=pool,
        leave_out=leave_out,
        scales=scales,
        ranks=ranks,
        costs=costs,
        statistics=statistics,
        tau=tau,
        study=study,
    )
    drawn = write_report(analysis, output, figures=figures)
    print(analysis.summary())
    print(
        f"{output}: report.html, {len(analysis.tables)} tables, figures/ ({drawn}), claims.json, notes.json"
    )


def write_report(analysis: Analysis, output: Path, *, figures: bool) -> int:
    """Write tables, figures and report.html into a folder. Returns the number of figures."""
    notes = list(analysis.notes)
    write_json(output / "settings" / "roles.json", analysis.settings.model_dump(mode="json"))
    write_tables(output, analysis.tables, analysis.claims, notes)
    drawn: list[str] = []
    if figures:
        drawn, missing = draw_figures(analysis, output)
        notes += [{"table": "figures", "note": note} for note in missing]
        write_json(output / "notes.json", notes)
    write_text(output / "report.html", page(analysis, notes, drawn, output))
    return len(drawn)


def draw_figures(analysis: Analysis, output: Path) -> tuple[list[str], list[str]]:
    """Draw the figures that the scores allow: (their names, a sentence on each group of others)."""
    scripts = find_scripts()
    if scripts is None:
        return [], ["none is drawn: this installation has no workflow/scripts; use a clone of the repository"]
    from matplotlib import pyplot as plt  # a second to import

    names, missing = drawable(analysis)
    with results_in(output):
        for name in names:
            before = plt.get_fignums()
            runpy.run_path(str(scripts / f"draw_{name}.py"))
            for number in set(plt.get_fignums()).difference(before):
                plt.close(number)
    return names, missing


def drawable(analysis: Analysis) -> tuple[list[str], list[str]]:
    """The figures that an analysis has the scores for, and what the others need."""
    lattice = analysis.tables["lattice"]
    counts = lattice[lattice["level"] == "overall"].groupby("operator")["subset"].nunique()
    every = 2 ** len(analysis.pool)
    complete = counts.get(RETRAINED, 0) == every
    masks = counts.drop(index=RETRAINED, errors="ignore")
    known = counts.get(RETRAINED, 0)
    every_mask = len(masks) > 0 and bool((masks == every).all())
    only_masked = is_only_masked(analysis.tables)  # there is nothing to compare one model with
    kinds = (
        (ALWAYS, known > 0 and not only_masked, f"{'several models' if known else 'a model'} without a mask"),
        (OF_ALL_SUBSETS, complete, "all subsets, the blind one included"),
        (OF_ALL_MASKS, complete and every_mask, "all subsets and all masks"),
        (OF_COSTS, complete and len(analysis.tables["pareto"]) > 0, "all subsets and their costs"),
        (OF_A_MASKED_MODEL, every_mask, "all masks of one model"),
    )
    names = [name for captions, possible, _ in kinds if possible for name in captions]
    missing = [
        f"no {', '.join(captions)}: needs {need}." for captions, possible, need in kinds if not possible
    ]
    return names, missing


def find_scripts() -> Path | None:
    """The folder of the figures' scripts: beside the package in a clone, or inside an installed package."""
    package = Path(__file__).parents[1]
    places = (package.parents[1] / "workflow" / "scripts", package / "paper" / "scripts")
    return next((place for place in places if (place / "draw_subset_lattice.py").is_file()), None)


@contextmanager
def results_in(folder: Path) -> Iterator[None]:
    """Let the figures' scripts read and write this folder, as when they are opened as notebooks."""
    before = os.environ.get(RESULTS_VARIABLE)
    os.environ[RESULTS_VARIABLE] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(RESULTS_VARIABLE)
        if before is not None:
            os.environ[RESULTS_VARIABLE] = before


# --- the page ---

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem; border-bottom: 1px solid #ddd }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; font-size: 13px }
table { border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap }
th:first-child, td:first-child { text-align: left } .claims td { text-align: left; white-space: normal }
figure { margin: 1rem 0 } figcaption { color: #666; font-size: 13px } img { max-width: 100% }
"""


def page(analysis: Analysis, notes: Sequence[Mapping[str, str]], figures: Sequence[str], folder: Path) -> str:
    """One HTML page that needs no other file: its pictures are inside it."""
    title = html.escape(f"Encoder roles: {analysis.settings.study}")
    tables = analysis.tables
    scores = tables["lattice"]
    scores = scores[(scores["level"] == "overall") & (scores["operator"] == RETRAINED)]
    scores = scores.sort_values("score", ascending=False)[["subset", "score", "low", "high"]]
    verdicts = pd.DataFrame(
        [(c.claim, c.statement, c.verdict, f"{c.note} {c.to_decide}".strip()) for c in analysis.claims],
        columns=["claim", "statement", "verdict", "note"],
    )
    masked = {
        f"Masked roles: {operator}": _masked_roles(analysis, operator) for operator in operators_in(tables)
    }
    sections = {
        "Summary": f"<pre>{html.escape(analysis.summary())}</pre>",
        "Figures": "".join(_figure(name, folder) for name in figures)
        or "<p>None is drawn; see the notes.</p>",
    }
    if is_only_masked(tables):  # a short page: what compares models is not in it
        notes = [note for note in notes if note["table"] == "all" and RETRAINED not in note["note"]]
        sections |= masked
    else:
        sections |= {
            "Roles": _html_table(role_frame(tables, analysis.pool).reset_index()),
            **masked,
            "Scores of the subsets": _html_table(scores),
            "Pairs": _html_table(tables["pairs"]),
            "Averages of the models": _html_table(tables["averages"]),
            "Verdicts": f'<div class="claims">{_html_table(verdicts)}</div>',
        }
    remarks = "".join(f"<li>{html.escape(note['table'])}: {html.escape(note['note'])}</li>" for note in notes)
    sections["Notes"] = f"<ul>{remarks}</ul>"
    body = "".join(f"<h2>{heading}</h2>{content}\n" for heading, content in sections.items())
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n{body}</body></html>\n"
    )


def _masked_roles(analysis: Analysis, operator: str) -> str:
    """The masked roles and scores of one operator; the scores by kept encoders."""
    tables = analysis.tables
    scores = tables["lattice"]
    scores = scores[(scores["level"] == "overall") & (scores["operator"] == operator)]
    scores = scores.sort_values("score", ascending=False)[["subset", "score", "low", "high"]]
    kept = scores.rename(columns={"subset": "kept"}).replace({"kept": {BLIND: NONE_KEPT}})
    gap = f"<p>Information gap: {information_gap_text(tables, operator)} (CUR, %).</p>"
    return _html_table(role_frame(tables, analysis.pool, operator).reset_index()) + gap + _html_table(kept)


def _html_table(table: pd.DataFrame) -> str:
    """The rows of a table, without columns that are empty."""
    filled = table.dropna(axis="columns", how="all")
    return filled.to_html(index=False, border=0, na_rep="", float_format="{:.2f}".format)


def _figure(name: str, folder: Path) -> str:
    """A figure with its caption; its SVG is inside the page."""
    drawing = base64.b64encode((folder / "figures" / f"{name}.svg").read_bytes()).decode()
    caption = html.escape(CAPTIONS[name])
    source = f"data:image/svg+xml;base64,{drawing}"
    return f'<figure><img alt="{caption}" src="{source}"><figcaption>{caption}</figcaption></figure>'
