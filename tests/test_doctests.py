"""The examples in the docstrings are true, and every public measure has one."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import encoder_roles

ROOT = Path(encoder_roles.__file__).parent
# rooms that never import torch; of effective_rank only the arithmetic
TORCH_FREE = ("analysis", "study", "provenance.py", "planning", "paper", "manifest", "cluster", "benchmarks")
FILES = [
    file
    for room in (*TORCH_FREE, "effective_rank/spectra.py", "effective_rank/tables.py")
    for file in ([ROOT / room] if room.endswith(".py") else sorted((ROOT / room).rglob("*.py")))
]
WITH_EXAMPLES = [file for file in FILES if ">>> " in file.read_text(encoding="utf-8")]

# what a user of the analysis calls
PUBLIC = {
    "analysis.advisor.advisor": ("advise",),
    "analysis.advisor.commands": ("extend_costs", "find_pool"),
    "analysis.advisor.predictor": ("predict_lattice",),
    "analysis.claims.claim": ("by_interval",),
    "analysis.external.aliases": ("match_benchmark", "match_encoders"),
    "analysis.external.scores": ("analyse_table",),
    "analysis.lattice": ("subset_index", "subset_name"),
    "analysis.measures.chains": ("best_chain", "greedy_chain"),
    "analysis.measures.games": ("index_map", "shapley"),
    "analysis.measures.pareto": ("on_front",),
    "analysis.measures.rankings": ("kendall", "permutation_p", "spearman"),
    "analysis.measures.roles": (
        *("capacity", "necessity", "relative_necessity", "redundancy", "information_gap"),
    ),
    "analysis.statistics": ("holm", "normal_quantile", "percentile_interval", "two_sided_p"),
    "analysis.tables": ("long_table",),
    "effective_rank.spectra": ("effective_rank", "scaled_interval"),
}


def module_name(file: Path) -> str:
    return ".".join(("encoder_roles", *file.relative_to(ROOT).with_suffix("").parts))


@pytest.mark.parametrize("file", WITH_EXAMPLES, ids=lambda file: module_name(file))
def test_every_example_gives_what_it_shows(file: Path) -> None:
    result = doctest.testmod(importlib.import_module(module_name(file)))
    assert result.attempted > 0
    assert result.failed == 0, "the report above shows the example and what it gave"


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_function_of_the_analysis_has_an_example(module: str) -> None:
    loaded = importlib.import_module(f"encoder_roles.{module}")
    without = [name for name in PUBLIC[module] if ">>> " not in (inspect.getdoc(getattr(loaded, name)) or "")]
    assert without == []
