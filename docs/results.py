"""`make results`: what README and docs print of studies that take hours, from their committed tables.

With the folder of a finished study, its small tables are copied to studies/<study>/ first. All marked blocks
of the pages are then written from there: no number in them is typed by hand. `--check` writes nothing, and
ends with one line if a block is not what the tables say.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from encoder_roles.paper.catalogue import FIGURES, FILES, TABLES, VALUES
from encoder_roles.paper.names import encoder_name, subset_name
from encoder_roles.provenance import sha256_of, write_json, write_text
from encoder_roles.study.names import BLIND, GROUPS, name_subset
from encoder_roles.study.variants import MEAN

ROOT = Path(__file__).resolve().parent.parent
REFERENCE, EPOCHS = "reference", "laptop_epochs"  # studies/<name>.yaml, and their tables in studies/<name>/
PAGES = ("README.md", "docs/laptop-study.md", "docs/advisor.md")
PICTURES = {"figures/subset_lattice.svg": "docs/subset_lattice.svg"}
NOISE = {"seed_covariance.csv": "studies/seed_covariance.csv"}  # read by studies of one seed
ADVISOR_COVERAGE = "advisor_coverage.csv"
SKILL_BANDS = (35, 50, 65, 80, 90, 95)  # scores that divide the table of seeds by skill
BASE = ("base", "base_low", "base_high")  # the score of the recipe beside that of a longer one
DIFFERENCE = ("difference", "difference_low", "difference_high")
PROVENANCE = "provenance.json"
RECORDED = ("study", "config_sha256", "repository", "seeds", "machine", "versions", "written")
BLOCK = re.compile(r"(<!-- results: ([\w-]+) -->\n)(.*?)(<!-- end of results -->)", re.DOTALL)
EPOCH_FILES = ("variants", "variant_claims", "variant_settings", "convergence_settings", "tune_settings")
STRATEGIES = {  # of advisor.csv, as docs/advisor.md names them
    "advisor": "advisor",
    "forward_selection": "forward selection",
    "answers_first": "size asked first",
    "singles_first": "singles first",
    "random": "random",
    "top_two": "top two by Capacity",
}
# the sentences of the paper that README repeats
SENTENCES = ("SubsetsSentence", "ChainSentence", "MaskingSentence", "ClaimOneSentence", "ClaimTwoSentence")


def archived_files(study: str) -> tuple[str, ...]:
    """The files that a study's figures, tables and numbers are drawn from, and the numbers themselves.

    A study made by an earlier version may lack some that no block reads.
    """
    if study == EPOCHS:
        return tuple(FILES[name] for name in EPOCH_FILES)
    inputs = {name for names in (*FIGURES.values(), *TABLES.values(), VALUES) for name in names}
    files = sorted(FILES[name] for name in (*inputs, "skills"))
    return (*files, ADVISOR_COVERAGE, "notes.json", "values.json")


def archive(results: Path, root: Path) -> None:
    """Copy the small tables of a finished study, with where they come from, and the pictures of the pages."""
    manifest = json.loads((results / "manifest.json").read_text(encoding="utf-8"))
    study = manifest["study"]
    if study not in (REFERENCE, EPOCHS):
        sys.exit(f"{results}: a result of {study}; the pages print results of {REFERENCE} and {EPOCHS}")
    files = [name for name in archived_files(study) if name in manifest["files"]]
    place = Path("studies") / study
    shutil.rmtree(root / place, ignore_errors=True)
    pictures = PICTURES | NOISE if study == REFERENCE else {}
    for name, copy in ({name: str(place / name) for name in files} | pictures).items():
        (root / copy).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(results / name, root / copy)
    hashes = {name: sha256_of(results / name) for name in files}
    write_json(root / place / PROVENANCE, {key: manifest[key] for key in RECORDED} | {"files": hashes})


@dataclass(frozen=True)
class Results:
    """The committed tables of a study."""

    folder: Path

    def table(self, name: str) -> pd.DataFrame:
        """One of the tables."""
        return pd.read_csv(self.folder / FILES[name], keep_default_na=False, na_values=[""])

    def json(self, name: str) -> Any:
        """The value of a JSON file."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    @cached_property
    def pool(self) -> tuple[str, ...]:
        """The encoders."""
        return tuple(self.json(FILES["settings"])["pool"])

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Columns score, low, high of the retrained models, by (level, benchmark, subset)."""
        rows = self.table("lattice").query("operator == 'retrained'")
        return rows.set_index(["level", "benchmark", "subset"])[["score", "low", "high"]].sort_index()

    @cached_property
    def by_seed(self) -> pd.DataFrame:
        """Overall score: a row per subset, a column per seed."""
        rows = self.table("scores").query("level == 'overall' and operator == 'unmasked'")
        return rows.pivot(index="subset", columns="seed", values="score")

    @cached_property
    def overall(self) -> pd.DataFrame:
        """Columns score, low, high by subset, the best first."""
        return self.scores.loc["overall", "overall"].sort_values("score", ascending=False)

    @property
    def longer(self) -> Results:
        """The study of the same recipe with more epochs."""
        return Results(self.folder.with_name(EPOCHS))

    @property
    def full(self) -> str:
        """The name of the full pool."""
        return name_subset(self.pool, self.pool)

    @property
    def single(self) -> pd.DataFrame:
        """The rows of `overall` with one encoder."""
        return self.overall.loc[[subset for subset in self.overall.index if subset in self.pool]]


def markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown."""
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def within(row: pd.Series, *columns: str, sign: str = "") -> str:
    """A number with its interval: `score`, `low` and `high` of a row, or the three columns that are given."""
    value, low, high = row[[*(columns or ("score", "low", "high"))]]
    return f"{value:{sign}z.1f} [{low:{sign}z.1f}, {high:{sign}z.1f}]"


def title(subset: str) -> str:
    """A subset as a table names it."""
    return "none (blind)" if subset == BLIND else subset_name(subset)


def sentences(results: Results) -> str:
    """What the study is about, five sentences of the paper, and what longer trainings would change."""
    values: Mapping[str, str] = results.json("values.json")
    models = f"{values['SubsetPhrase']} of {values['EncoderCount']} encoders, {values['SeedCount']} each"
    size = f"{values['BenchmarkCount']} benchmarks with {values['QuestionCount']} questions"
    head = f"The reference study on a laptop ({models}; {size}):\n\n"
    warning = " ".join((values["ConvergenceWarning"], longer_trainings(results)))
    return head + "".join(f"- {line}\n" for line in (*(values[name] for name in SENTENCES), warning))


def longer_trainings(results: Results) -> str:
    """What the longer recipe gains at least and at most."""
    epochs, further = epochs_of(results.longer)
    gains = subset_gains(results.longer).sort_values("difference")
    bounds = (gains.iloc[place] for place in (0, -1))
    least, most = (f"{within(row, *DIFFERENCE)} ({title(row.name)})" for row in bounds)
    lead = f"{len(gains)} subsets that train for {epochs + further} epochs instead of {epochs} gain"
    return f"{lead} {least} to {most} points, with one seed."


def origin(results: Results) -> str:
    """Which run the tables are of."""
    record = results.json(PROVENANCE)
    commit, seeds = record["repository"]["commit"][:12], ", ".join(map(str, record["seeds"]["models"]))
    machine = f"{record['machine']['cpu']}, {record['machine']['cores']} cores"
    return f"Seeds {seeds}; code of commit {commit}; {machine}; finished {record['written'][:10]}.\n"


def score_table(results: Results) -> str:
    """Every subset: its overall score with interval and by seed, and the groups' scores."""
    seeds = results.by_seed
    rows = [
        (
            title(subset),
            within(row),
            " / ".join(f"{score:.1f}" for score in seeds.loc[subset]),
            *(f"{results.scores.loc[('group', group, subset), 'score']:.1f}" for group in GROUPS),
        )
        for subset, row in results.overall.iterrows()
    ]
    return markdown(("encoders", "overall", "by seed", *GROUPS), rows)


def claim_table(results: Results) -> str:
    """Every claim of the paper: its estimate and its verdict."""
    rows = []
    for claim in results.json("claims.json"):
        estimate = "–"
        if claim["estimate"] is not None:
            estimate = f"{claim['estimate']:.2f}"
            if claim["low"] is not None:
                estimate += f" [{claim['low']:.2f}, {claim['high']:.2f}]"
            estimate += f", {claim['estimate_of']}"
        rows.append((claim["claim"], claim["statement"], estimate, f"**{claim['verdict']}**"))
    return markdown(("", "claim", "estimate", "verdict"), rows)


def goal_table(results: Results) -> str:
    """The goals of the laptop study: what was reached, and whether that is enough."""
    rows = [
        (goal, reached, "yes" if enough else "**no**")
        for goal, reached, enough in (*score_goals(results), *training_goals(results))
    ]
    return markdown(("goal", "reached", ""), rows)


Goal = tuple[str, str, bool]


def score_goals(results: Results) -> list[Goal]:
    """What a study must show so that its encoders can be told apart."""
    scores, single = results.scores, results.single
    gain = {
        group: scores.loc[("group", group, results.full), "score"]
        - scores.loc[("group", group, BLIND), "score"]
        for group in GROUPS
    }
    lead = results.overall.loc[results.full, "score"] - results.overall.loc[BLIND, "score"]
    spread = single["score"].max() - single["score"].min()
    best = {
        group: max(results.pool, key=lambda name: scores.loc[("group", group, name), "score"])
        for group in GROUPS
    }
    benchmarks = scores.loc["benchmark"]
    full, blind = (benchmarks.xs(name, level="subset") for name in (results.full, BLIND))
    alike = list(full.index[full["low"] <= blind["high"].reindex(full.index)])
    first = "; ".join(f"{encoder_name(name)} in {group}" for group, name in best.items())
    return [
        ("full pool at least 25 points over blind", f"{lead:.1f}", lead >= 25),
        ("best single encoder at least 5 points over the worst", f"{spread:.1f}", spread >= 5),
        (
            "full pool at least 8 points over blind in each group",
            ", ".join(f"{value:.1f}" for value in gain.values()),
            min(gain.values()) >= 8,
        ),
        (
            "at most two benchmarks on which the full pool's interval meets blind's",
            ", ".join(alike) or "none",
            len(alike) <= 2,
        ),
        ("no single encoder best in all four groups", first, len(set(best.values())) > 1),
    ]


def training_goals(results: Results) -> list[Goal]:
    """What trainings must show so that a score is the encoder's and not the seed's."""
    seeds = results.by_seed.drop(index=BLIND)
    deviation = float(np.sqrt(seeds.var(axis=1, ddof=1).mean()))
    ranges = (seeds.max(axis=1) - seeds.min(axis=1)).sort_values(ascending=False)
    wide = [f"{subset_name(name)} {value:.1f}" for name, value in ranges.items() if value > 3]
    trained = results.table("convergence").query("stage == 'tune'")
    unfinished = (trained["gate_fall"] >= 0.02).sum()
    falls = f"{trained['gate_fall'].min():.1%} to {trained['gate_fall'].max():.1%}"
    gains = subset_gains(results.longer)["difference"].abs()
    edges = results.table("loss_edges")
    beyond = edges["beyond_noise"].astype(str).str.lower().eq("true").sum()
    return [
        ("standard deviation between seeds at most 0.8 points, pooled", f"{deviation:.2f}", deviation <= 0.8),
        (
            "no subset whose seeds are more than 3 points apart",
            ", ".join(wide) or f"at most {ranges.iloc[0]:.1f}",
            not wide,
        ),
        (
            "the last quarter of tune lowers the loss by less than 2%",
            f"{falls}; {unfinished} of {len(trained)} models miss it",
            not unfinished,
        ),
        (
            "twice the epochs move no overall score of eight subsets by 1.5 points",
            f"{gains.min():.1f} to {gains.max():.1f}; {(gains >= 1.5).sum()} of {len(gains)} subsets miss it",
            bool((gains < 1.5).all()),
        ),
        (
            "one more encoder raises the final loss on no step of the lattice, beyond the noise of seeds",
            f"{beyond} of {len(edges)} steps",
            not beyond,
        ),
    ]


def role_table(results: Results) -> str:
    """Capacity and Necessity of every encoder, retrained and masked."""
    rows = results.table("roles").query("level == 'overall'").set_index(["operator", "measure", "encoder"])
    operators = list(dict.fromkeys(rows.index.get_level_values("operator")))

    def cell(operator: str, measure: str, name: str) -> str:
        return within(rows.loc[(operator, measure, name)], "value", "low", "high")

    head = ("encoder", "Capacity", *(f"Necessity, {operator}" for operator in operators))
    cells = [
        (
            encoder_name(name),
            cell("retrained", "capacity", name),
            *(cell(operator, "necessity", name) for operator in operators),
        )
        for name in results.pool
    ]
    return markdown(head, cells)


def epochs_of(results: Results) -> tuple[int, int]:
    """The epochs of the recipe, and how many more the longer one has."""
    (further,) = results.json(FILES["convergence_settings"])["further_epochs"].values()
    return results.json(FILES["tune_settings"])["tune"]["epochs"], further


def epoch_gains(results: Results) -> pd.DataFrame:
    """Overall scores by subset, blind, and their mean: of the longer recipe, and of the recipe (BASE)."""
    base = results.json(FILES["variant_settings"])["baseline"]
    (other,) = results.json(FILES["convergence_settings"])["further_epochs"]
    rows = results.table("variants").query("level == 'overall'").set_index(["variant", "subset"])
    recipe = rows.loc[base][["score", "low", "high"]]
    return rows.loc[other].join(recipe.set_axis([*BASE], axis=1))


def subset_gains(results: Results) -> pd.DataFrame:
    """Those of them that are of a subset of encoders."""
    return epoch_gains(results).drop(index=[BLIND, MEAN], errors="ignore")


def epoch_table(results: Results) -> str:
    """What the longer recipe gains, in every subset."""
    epochs, further = epochs_of(results)
    head = ("encoders", f"{epochs} epochs", f"{epochs + further} epochs", "difference", "less than 1.5")
    cells = []
    for subset, longer in epoch_gains(results).iterrows():
        cells.append(
            (
                subset if subset == MEAN else title(subset),
                within(longer, *BASE),
                within(longer),
                within(longer, *DIFFERENCE, sign="+"),
                "yes" if abs(longer["difference"]) < 1.5 else "**no**",
            )
        )
    return markdown(head, cells)


def advisor_table(results: Results) -> str:
    """After how many trainings which share of replays has found both, by order of training."""
    rows = results.table("advisor").query("question == 'both'")
    found = rows.pivot(index="strategy", columns="trainings", values="share_found")
    shown = [count for count in (5, 7, 8, 10, 15) if count in found.columns]
    head = ("order of training", *(f"{count} trainings" for count in shown))
    cells = [
        (name, *(f"{found.loc[strategy, count]:.0%}" for count in shown))
        for strategy, name in STRATEGIES.items()
    ]
    return markdown(head, cells)


def coverage_table(results: Results) -> str:
    """How many scores of subsets that were not trained lie in the advisor's 95% interval."""
    rows = pd.read_csv(results.folder / ADVISOR_COVERAGE)
    head = ("trained subsets", "scores within the interval", "error (root mean square)", "mean width")
    cells = [
        (f"{row.trained}", f"{row.coverage:.0%}", f"{row.error:.1f}", f"{row.width:.1f}")
        for row in rows.itertuples()
    ]
    return markdown(head, cells)


def skill_noise_table(results: Results) -> str:
    """By how much training seeds move the score of a skill, by how well a model has learnt it."""
    rows = results.table("skills").query(f"skill != 'all' and subset != '{BLIND}'")
    edges = (0, *SKILL_BANDS, 100)
    cells = []
    for low, high in itertools.pairwise(edges):
        band = rows[(rows["score"] >= low) & ((rows["score"] < high) | (high == 100))]
        deviation = f"{np.sqrt((band['seed_deviation'] ** 2).mean()):.1f}" if len(band) else "–"
        cells.append((f"{low} to {high}", f"{len(band)}", deviation))
    return markdown(("score of a skill", "models x skills", "standard deviation between seeds"), cells)


# name of a block -> the study that it prints, and its text
BLOCKS: dict[str, tuple[str, Callable[[Results], str]]] = {
    "sentences": (REFERENCE, sentences),
    "origin": (REFERENCE, origin),
    "scores": (REFERENCE, score_table),
    "roles": (REFERENCE, role_table),
    "claims": (REFERENCE, claim_table),
    "goals": (REFERENCE, goal_table),
    "skill-noise": (REFERENCE, skill_noise_table),
    "advisor": (REFERENCE, advisor_table),
    "advisor-coverage": (REFERENCE, coverage_table),
    "epochs": (EPOCHS, epoch_table),
}


def fill(text: str, studies: Path) -> str:
    """A page with all its blocks as the tables say. Raises KeyError for a block of another name."""

    def block(match: re.Match[str]) -> str:
        study, write = BLOCKS[match[2]]
        return match[1] + write(Results(studies / study)) + match[4]

    return BLOCK.sub(block, text)


def main(arguments: list[str] | None = None, root: Path = ROOT) -> None:
    """Copy a study's tables, write the pages' blocks, or check them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("study", nargs="?", type=Path, help="folder of a finished study, results/reference")
    parser.add_argument("--check", action="store_true", help="only say which pages differ")
    options = parser.parse_args(arguments)
    if options.study is not None:
        archive(options.study, root)
    differing = []
    for page in PAGES:
        text = (root / page).read_text(encoding="utf-8")
        filled = fill(text, root / "studies")
        if filled != text and options.check:
            differing.append(page)
        elif filled != text:
            write_text(root / page, filled)
    if differing:
        sys.exit(f"{', '.join(differing)}: not what the tables in studies/ say; run `make results`")


if __name__ == "__main__":
    main()
