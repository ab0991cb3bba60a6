"""The figures and tables of the paper, and the files of a study that each of them reads.

The workflow makes its rules from these tables, and a script that is opened as a notebook finds its files by
them: a figure is added by a line here, a script in workflow/scripts and a caption in workflow/report.
"""

from __future__ import annotations

# name of an input -> its file, relative to results/<study>/
FILES: dict[str, str] = {
    "scores": "scores.csv",
    "ranks": "ranks.csv",
    "rank_curve": "rank_curve.csv",
    "spectra": "spectra.csv",
    "lattice": "lattice.csv",
    "differences": "differences.csv",
    "pareto": "pareto.csv",
    "costs": "costs.csv",
    "roles": "roles.csv",
    "pairs": "pairs.csv",
    "rankings": "rankings.csv",
    "games": "games.csv",
    "chains": "chains.csv",
    "rank_regression": "rank_regression.csv",
    "convergence": "convergence.csv",
    "loss_edges": "loss_edges.csv",
    "skills": "skills.csv",
    "complementarity": "complementarity.csv",
    "advisor": "advisor.csv",
    "claims": "claims.json",
    "gates": "gates.csv",
    "manifest": "requests/manifest.json",
    "settings": "settings/roles.json",
    "convergence_settings": "settings/convergence.json",
    "paper_settings": "settings/paper.json",
    "align_settings": "settings/align.json",
    "tune_settings": "settings/tune.json",
    "mask_settings": "settings/masks.json",
    "effective_rank_settings": "settings/effective_rank.json",
    "variants": "variants.csv",
    "variant_claims": "variant_claims.json",
    "variant_settings": "settings/variants.json",
}

# Columns of the tables that are empty files, without a header, when a study has few subsets.
COLUMNS: dict[str, tuple[str, ...]] = {
    "pairs": ("first", "second", "score", "capacity_sum", "anchor", "complement"),
    "rankings": ("level", "group", "comparison", "measure", "operator"),
    "games": ("level", "group", "operator", "index", "coalition", "value", "low", "high"),
    "differences": ("operator", "measure", "first", "second", "difference", "low", "high"),
    "chains": ("kind", "size", "subset", "added", "gain", "low", "high"),
    "rank_regression": ("model", "term", "r2", "permutation_p"),
    "advisor": ("question", "strategy", "trainings", "replays", "regret", "low", "high", "share_found"),
    "gates": ("source", "gate", "value", "low", "high", "n", "threshold", "passed"),
    "records": ("data", "reason", "records", "file_sha256"),
}

# workflow/scripts/draw_<name>.py -> figures/<name>.pdf, .svg and .png
FIGURES: dict[str, tuple[str, ...]] = {
    "subset_bars": ("lattice", "settings"),
    "subset_lattice": ("lattice", "differences", "settings"),
    "capacity_necessity": ("roles", "lattice", "settings"),
    "retrained_vs_masked_ranks": ("roles", "rankings", "settings"),
    "masked_vs_retrained": ("lattice", "rankings", "settings"),
    "pair_matrix": ("lattice", "pairs", "settings"),
    "rank_ratios": ("ranks", "settings"),
    "rank_residual": ("ranks", "lattice", "costs", "rank_regression", "settings"),
    "rank_curve": ("rank_curve", "ranks", "settings"),
    "rank_spectra": ("spectra", "ranks", "settings"),
    "interactions": ("games", "settings"),
    "benchmark_heatmap": ("roles", "lattice", "settings"),
    "chains": ("chains", "settings"),
    "score_cost": ("pareto", "settings"),
    "score_latency": ("pareto", "lattice", "settings"),
    "advisor_regret": ("advisor",),
    "complementarity": ("complementarity",),
    "convergence": ("convergence", "loss_edges", "convergence_settings"),
}

# Figures of measured time differ from run to run, so the report shows them and the paper does not.
MEASURED_FIGURES = ("score_latency",)

# workflow/scripts/table_<name>.py -> tables/<name>.tex
TABLES: dict[str, tuple[str, ...]] = {
    "scores": ("lattice", "settings"),
    "roles": ("roles", "games", "settings"),
    "pairs": ("pairs", "settings"),
    "rankings": ("rankings", "settings"),
    "rank_regression": ("rank_regression", "settings"),
    "claims": ("claims", "convergence", "settings"),
    "costs": ("costs", "lattice", "settings"),
    "gates": ("gates", "settings"),
    "language_gates": ("gates",),
    "benchmarks": ("scores", "manifest", "settings"),
    "benchmark_scores": ("lattice", "settings"),
}

# Figures of a checkpoint that was only masked, in its HTML report.
MASK_FIGURES: dict[str, tuple[str, ...]] = {"masked_roles": ("roles", "games", "settings")}

# Figures and tables of a study with variants, which the paper does not show.
VARIANT_FIGURES: dict[str, tuple[str, ...]] = {"variants": ("variants", "variant_settings")}
VARIANT_TABLES: dict[str, tuple[str, ...]] = {
    "variants": ("variants", "variant_settings"),
    "variant_claims": ("variant_claims",),
}

# How many records of the user's own are kept and left out, in a study that has any; values.json reads them.
RECORD_COUNTS = "records/*/*.counts.csv"

# workflow/scripts/collect_values.py -> values.json
VALUES: tuple[str, ...] = (
    "scores",
    "lattice",
    "roles",
    "pairs",
    "games",
    "differences",
    "chains",
    "costs",
    "claims",
    "convergence",
    "loss_edges",
    "complementarity",
    "gates",
    "settings",
    "convergence_settings",
    "paper_settings",
    "align_settings",
    "tune_settings",
    "mask_settings",
    "effective_rank_settings",
)
