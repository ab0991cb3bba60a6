"""`encoder-roles assign-roles`: from scores, ranks and costs to every table of the analysis."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from encoder_roles.analysis.claims.claim import Claim, write_claims
from encoder_roles.analysis.claims.findings import Findings
from encoder_roles.analysis.claims.study_claims import judge_claims
from encoder_roles.analysis.lattice import (
    RETRAINED,
    Lattice,
    LatticeSet,
    arrange_lattices,
    score_table,
    singles,
    subset_name,
)
from encoder_roles.analysis.measures.chains import chain_table
from encoder_roles.analysis.measures.games import game_table
from encoder_roles.analysis.measures.mask_gaps import gap_table
from encoder_roles.analysis.measures.pairs import find_pairs, mean_ranks, pair_table
from encoder_roles.analysis.measures.pareto import mean_costs, pareto_table
from encoder_roles.analysis.measures.rank_regression import MODELS, regression_table
from encoder_roles.analysis.measures.rankings import difference_table, ranking_table
from encoder_roles.analysis.measures.roles import role_table
from encoder_roles.analysis.seed_noise import COLUMNS as SEED_COLUMNS
from encoder_roles.analysis.seed_noise import SeedNoise, measure_seed_noise, read_seed_noise
from encoder_roles.analysis.statistics import build_score_arrays
from encoder_roles.analysis.tables import check_pool, read_costs, read_ranks, read_scores
from encoder_roles.provenance import write_json, write_table
from encoder_roles.study.stages import RoleStage, read_settings


def analyse(
    scores: pd.DataFrame,
    ranks: pd.DataFrame,
    costs: pd.DataFrame,
    settings: RoleStage,
    measured: SeedNoise | None = None,
) -> tuple[dict[str, pd.DataFrame], list[Claim], list[dict[str, str]]]:
    """Analyse checked tables; `measured` is the noise between seeds of this recipe, if a study measured it.

    Returns (tables by file name, claims, notes on what the tables lack).
    """
    arrays = build_score_arrays(scores, settings.statistics)
    lattices = arrange_lattices(arrays, settings, measured=measured)
    tables, claims, notes = analyse_lattices(lattices, ranks, costs, settings)
    tables["seed_covariance"] = measure_seed_noise(arrays, ranks, settings.study, settings.recipe)
    return tables, claims, notes


def analyse_lattices(
    lattices: LatticeSet, ranks: pd.DataFrame, costs: pd.DataFrame, settings: RoleStage
) -> tuple[dict[str, pd.DataFrame], list[Claim], list[dict[str, str]]]:
    """As `analyse`, from lattices."""
    of_ranks = mean_ranks(ranks, settings.pool, settings.statistics.level, lattices.measured)
    of_costs = mean_costs(costs)
    pairs = find_pairs(lattices, of_ranks, settings)
    tables = {
        "lattice": score_table(lattices),
        "roles": role_table(lattices),
        "pairs": pair_table(lattices, pairs, of_ranks, of_costs),
        "rankings": ranking_table(lattices),
        "differences": difference_table(lattices),
        "mask_gaps": gap_table(lattices),
        "games": game_table(lattices),
        "chains": chain_table(lattices),
        "rank_regression": regression_table(lattices, of_ranks, of_costs, settings.statistics),
        "pareto": pareto_table(lattices, of_costs),
        "seed_covariance": pd.DataFrame(columns=list(SEED_COLUMNS)),
    }
    rankings, regression = tables["rankings"], tables["rank_regression"]
    findings = Findings(settings, lattices, pairs, of_ranks, of_costs, rankings, regression)
    return tables, judge_claims(findings), missing_notes(findings, tables)


def missing_notes(findings: Findings, tables: dict[str, pd.DataFrame]) -> list[dict[str, str]]:
    """What the tables lack, and why: `table` is the file, `note` one sentence."""
    lattices = findings.lattices
    notes = [{"table": "all", "note": findings.seed_note}]
    for lattice in lattices.all:
        if missing := lattice.missing():
            note = f"{lattice.operator}: no score of {', '.join(missing)}; measures that need it have no row."
            notes.append({"table": "roles, rankings, differences, games, chains", "note": note})
            notes += [{"table": table, "note": note} for table, note in absent_measures(lattice)]
    if not lattices.masked:
        notes.append(
            {"table": "roles, rankings, games", "note": "no masked scores: nothing to compare with."}
        )
    if findings.pairs.index.size and not findings.ranks_known:
        note = "no effective ranks: no rank ratio is known, so no pair has an anchor or a complement."
        notes.append({"table": "pairs", "note": note})
    models = [name + end for name in ("parameters", *MODELS) for end in ("", "_within_size")]
    if unfitted := [name for name in models if name not in set(tables["rank_regression"]["model"])]:
        note = f"too few subsets with score, ranks and costs for the coefficients of {', '.join(unfitted)}."
        notes.append({"table": "rank_regression", "note": note})
    without = sorted(set(_measured(lattices)) - set(findings.costs.index))
    if without:
        notes.append({"table": "pareto", "note": f"no costs of {', '.join(without)}; left out."})
    return notes


def absent_measures(lattice: Lattice) -> list[tuple[str, str]]:
    """The measures of a lattice that need a missing subset: (table, one sentence)."""
    point, pool = lattice.point[0], lattice.pool
    known = ~np.isnan(point)
    alone = [e for e, i in zip(pool, singles(len(pool)), strict=True) if not known[i]]
    without = [e for e, i in zip(pool, singles(len(pool)), strict=True) if not known[lattice.full ^ i]]
    gaps = []
    if alone:
        gaps.append(("roles", f"no Capacity of {', '.join(alone)}: needs the model of the encoder alone"))
    if not known[lattice.full]:
        gaps.append(("roles", "no Necessity at all: needs the full pool"))
    elif without:
        gaps.append(("roles", f"no Necessity of {', '.join(without)}: needs the full pool without it"))
    if not known[0]:
        gaps.append(("roles", "no redundancy, no gain over blind: both need the blind score"))
    if not known.all():
        count = f"all {known.size} scores, the blind one included; {known.sum()} are there"
        gaps.append(("games", f"no Shapley, Banzhaf, interaction or Möbius value: each needs {count}"))
    if not known[1:].all() and lattice.operator == RETRAINED:
        gaps.append(("chains", "no best chain: needs every subset"))
    return [(table, f"{lattice.operator}: {gap}.") for table, gap in gaps]


def _measured(lattices: LatticeSet) -> list[str]:
    point = lattices.retrained.point[0]
    return [subset_name(i, lattices.pool) for i in range(1, len(point)) if not np.isnan(point[i])]


def assign_roles(
    *,
    settings: Path,
    scores: Path,
    ranks: Path,
    costs: Path,
    output: Path,
    seed_covariance: Path | None = None,
) -> None:
    """Write every table of the analysis, claims.json and notes.json into a folder.

    All are computed before the first one is written.

    Args:
        settings: results/<study>/settings/roles.json.
        scores: scores.parquet, a row per question and model.
        ranks: ranks.csv, effective ranks before and after training.
        costs: costs.csv, a row per trained model.
        output: the folder; other files in it are left alone.
        seed_covariance: the seed_covariance.csv of a study with several seeds, for a study with one seed. It
            is used if both studies have the same recipe.
    """
    stage = read_settings(settings, RoleStage)
    questions = read_scores(scores)
    check_pool(questions, stage.pool, stage.study, str(scores))
    rank_rows = read_ranks(ranks, stage.pool, stage.study)
    cost_rows = read_costs(costs, stage.pool, stage.study)
    measured = None if seed_covariance is None else read_seed_noise(seed_covariance, stage.recipe)
    tables, claims, notes = analyse(questions, rank_rows, cost_rows, stage, measured)
    write_tables(output, tables, claims, notes)


def write_tables(
    output: Path,
    tables: dict[str, pd.DataFrame],
    claims: list[Claim],
    notes: list[dict[str, str]],
) -> None:
    """Write the analysis into a folder: a CSV per table, claims.json and notes.json."""
    for name, table in tables.items():
        write_table(output / f"{name}.csv", table)
    write_claims(output / "claims.json", claims)
    write_json(output / "notes.json", notes)
