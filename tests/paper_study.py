"""A complete simulated study as the paper's scripts read it, and a way to run those scripts here."""

from __future__ import annotations

import json
import runpy
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from lattice_simulation import make_plan, simulate
from matplotlib.figure import Figure

from encoder_roles.analysis.advisor.commands import replay_advisor
from encoder_roles.analysis.commands import assign_roles
from encoder_roles.analysis.convergence import TrainingLog, convergence_table, edge_table
from encoder_roles.analysis.skills import measure_skills
from encoder_roles.analysis.statistics import score_intervals
from encoder_roles.paper.catalogue import FIGURES, FILES, RECORD_COUNTS, TABLES, VALUES
from encoder_roles.study.config import validate_study
from encoder_roles.study.names import GROUPS
from encoder_roles.study.sections import StatisticsSettings
from encoder_roles.study.stages import ConvergenceStage, read_settings, stage_table

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "workflow" / "scripts"
SKILLS = ("colour", "shape", "word")
KINDS = ("pdf", "svg", "png")  # of files of a figure


@dataclass(frozen=True)
class PaperStudy:
    """A study's folder and the scripts that read it; `figures` holds each figure as it was drawn last."""

    folder: Path
    figures: dict[str, Figure] = field(default_factory=dict)

    def draw(self, figure: str, into: Path, kinds: Sequence[str] = KINDS) -> dict[str, Path]:
        outputs = {kind: into / f"{figure}.{kind}" for kind in kinds}
        return self._run(f"draw_{figure}", FIGURES[figure], outputs)

    def table(self, table: str, into: Path) -> Path:
        return self._run(f"table_{table}", TABLES[table], {"tex": into / f"{table}.tex"})["tex"]

    def values(self, path: Path) -> dict[str, str]:
        return json.loads(self._run("collect_values", VALUES, {"json": path})["json"].read_text())

    def _run(self, script: str, inputs: Sequence[str], outputs: dict[str, Path]) -> dict[str, Path]:
        """Run a script as Snakemake would: with an object `snakemake` that names its files."""
        files = SimpleNamespace(**{name: str(self.folder / FILES[name]) for name in inputs})
        files.records = sorted(map(str, self.folder.glob(RECORD_COUNTS)))
        given = SimpleNamespace(
            input=files, output=SimpleNamespace(**{k: str(p) for k, p in outputs.items()})
        )
        runpy.run_path(str(SCRIPTS / f"{script}.py"), init_globals={"snakemake": given})
        for figure in map(plt.figure, plt.get_fignums()):
            self.figures[script.removeprefix("draw_")] = figure
        plt.close("all")
        return outputs

    def rows(self, name: str) -> pd.DataFrame:
        """The table of this name, as the scripts read it."""
        return pd.read_csv(self.folder / FILES[name], keep_default_na=False, na_values=[""])

    def scores(
        self, operator: str = "retrained", level: str = "overall", name: str = "overall"
    ) -> pd.DataFrame:
        """Columns score, low, high of lattice.csv, indexed by subset."""
        rows = self.rows("lattice")
        rows = rows[(rows["operator"] == operator) & (rows["level"] == level) & (rows["benchmark"] == name)]
        return rows.set_index("subset")[["score", "low", "high"]]


def make_paper_study(
    folder: Path,
    pool: tuple[str, ...] = ("clip", "siglip", "sam"),
    subsets: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    seed_deviation: float | None = None,
) -> PaperStudy:
    """Simulate a study with a known truth and write every file that the paper reads.

    `seed_deviation` is the setting of that name: points, or None.
    """
    import yaml

    statistics = {"resamples": 60, "level": 0.95, "seed": 0, "overall": "benchmarks"}
    statistics["seed_deviation"] = seed_deviation
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    config |= {"study": "simulated", "pool": list(pool), "statistics": statistics, "advisor": {"replays": 5}}
    study = validate_study(config)
    random = np.random.default_rng(1)
    simulation = simulate(make_plan(random, pool), random, seeds, questions=24, subsets=subsets)
    folder.mkdir(parents=True)
    scores = score_intervals(simulation.scores, StatisticsSettings(**statistics))
    scores.insert(scores.columns.get_loc("score"), "metric", "accuracy")
    tables = {
        "scores": scores,
        "ranks": simulation.ranks,
        "costs": simulation.costs,
        "rank_curve": _curve(simulation.ranks),
    }
    tables["spectra"] = _spectra(simulation.ranks)
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    simulation.scores.to_parquet(folder / "scores.parquet")
    (folder / "settings").mkdir()
    for stage, settings in stage_table(study).items():
        (folder / "settings" / f"{stage}.json").write_text(settings.model_dump_json())
    assign_roles(
        settings=folder / "settings" / "roles.json",
        **{name: folder / f"{name}.csv" for name in ("ranks", "costs")},
        scores=folder / "scores.parquet",
        output=folder,
    )
    replay_advisor(
        settings=folder / "settings" / "advisor.json",
        scores=folder / "scores.csv",
        output=folder / "advisor.csv",
        coverage=folder / "advisor_coverage.csv",
    )
    (folder / "gates.csv").write_text(_gates(pool))
    (folder / "requests").mkdir()
    _categories(simulation.scores).to_csv(folder / "requests" / "categories.csv", index=False)
    measure_skills(
        settings=folder / "settings" / "roles.json",
        scores=folder / "scores.parquet",
        categories=folder / "requests" / "categories.csv",
        output=folder / "skills.csv",
        pairs=folder / "complementarity.csv",
    )
    stage = read_settings(folder / "settings" / "convergence.json", ConvergenceStage)
    table = convergence_table(_trainings(simulation.costs), stage)
    table.to_csv(folder / "convergence.csv", index=False)
    edge_table(table, pool, stage.level).to_csv(folder / "loss_edges.csv", index=False)
    (folder / "requests" / "manifest.json").write_text(json.dumps(_manifest()))
    return PaperStudy(folder)


def _categories(scores: pd.DataFrame) -> pd.DataFrame:
    """Three skills in turn."""
    table = scores[["benchmark", "question"]].drop_duplicates().reset_index(drop=True)
    return table.assign(category=[SKILLS[i % len(SKILLS)] for i in range(len(table))])


def _trainings(costs: pd.DataFrame) -> list[TrainingLog]:
    """Losses that fall to a level of their own for every model and seed."""
    random = np.random.default_rng(2)
    logs = []
    for subset, seed in costs[["subset", "seed"]].itertuples(index=False):
        steps = np.arange(40)
        losses = random.uniform(0.4, 0.8) + np.exp(-steps / 10) + random.normal(0, 0.02, steps.size)
        logs.append(TrainingLog(subset, seed, "tune", losses))
    return logs


def _curve(ranks: pd.DataFrame) -> pd.DataFrame:
    pretrained = ranks[ranks["subset"] == "pretrained"]
    rows = [
        (e, n, r * (1 - 4 / n))
        for e, r in zip(pretrained["encoder"], pretrained["erank"], strict=True)
        for n in (16, 32, 64)
    ]
    return pd.DataFrame(rows, columns=["encoder", "pictures", "erank"])


def _spectra(ranks: pd.DataFrame) -> pd.DataFrame:
    """Singular values that fall geometrically, the faster the lower the rank."""
    tables = []
    for subset, seed, encoder, width, erank in ranks[
        ["subset", "seed", "encoder", "width", "erank"]
    ].itertuples(index=False):
        sigma = 100 * (1 - 1 / erank) ** np.arange(width)
        of = {"study": "simulated", "subset": subset, "seed": seed, "encoder": encoder}
        tables.append(pd.DataFrame(of | {"k": np.arange(1, width + 1), "sigma": sigma}))
    return pd.concat(tables, ignore_index=True)


def _gates(pool: Sequence[str]) -> str:
    rows = ["source,gate,value,low,high,n,threshold,passed"]
    for i, encoder in enumerate(pool):
        for j, skill in enumerate(SKILLS):
            gate = ("60", "true") if i == j else ("", "")
            rows.append(f"{encoder},{skill},{70 + i + j},60,80,500,{gate[0]},{gate[1]}")
    rows.append("language_model,text accuracy mme,97.5,96,99,500,95,true")
    rows.append("language_model,text accuracy ai2d,94.0,92,96,500,95,false")
    return "\n".join(rows) + "\n"


def _manifest() -> dict[str, dict[str, object]]:
    return {
        benchmark: {
            "task": benchmark,
            "group": group,
            "metric": "accuracy",
            "n": 24,
            "clusters": 12,
            "sha256": "",
        }
        for group, names in GROUPS.items()
        for benchmark in names
    }
