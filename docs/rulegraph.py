"""`make rulegraph`: the DAG of the laptop study as Snakemake's own rule graph, drawn to docs/rulegraph.svg.

Snakemake gives the graph, graphviz's `dot` draws it. Two things are left out so that it can be read: figures
and tables are one box each, and `write_settings`, which every rule reads, has none.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

PICTURE = Path(__file__).with_name("rulegraph.svg")
NODE = re.compile(r'^\s*(\d+)\[label = "(\w+)"', re.MULTILINE)
EDGE = re.compile(r"^\s*(\d+) -> (\d+)", re.MULTILINE)
FOLDED = {"draw_": "draw_<figure>", "table_": "table_<table>"}
LEFT_OUT = "write_settings"
STYLE = """strict digraph rules {
    graph [bgcolor=white, margin=0.1, nodesep=0.25, ranksep=0.35];
    node [shape=box, style=rounded, fontname="sans-serif", fontsize=11, height=0.3, color="#4477aa"];
    edge [color="#888888", arrowsize=0.6];
"""

Edge = tuple[str, str]


def main() -> None:
    """Draw the picture; end with one line if graphviz is missing."""
    if (dot := shutil.which("dot")) is None:
        sys.exit("make rulegraph: no `dot` on PATH; install graphviz (for example, apt-get install graphviz)")
    drawing = subprocess.run(
        [dot, "-Tsvg"], input=to_dot(fold(rule_graph())), capture_output=True, text=True, check=True
    )
    PICTURE.write_text(drawing.stdout, encoding="utf-8")
    print(f"drawn: docs/{PICTURE.name}")


def rule_graph() -> str:
    """Snakemake's rule graph of `paper`, in dot's language."""
    command = [sys.executable, "-m", "snakemake", "--quiet", "all", "--rulegraph", "--", "paper"]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=PICTURE.parents[1]).stdout


def fold(graph: str) -> list[Edge]:
    """The edges between rules, sorted, each once: figures and tables folded, `write_settings` left out."""
    names = {node: _folded(rule) for node, rule in NODE.findall(graph)}
    edges = {(names[start], names[end]) for start, end in EDGE.findall(graph)}
    return sorted(edge for edge in edges if LEFT_OUT not in edge)


def to_dot(edges: list[Edge]) -> str:
    """The folded graph in dot's language."""
    return STYLE + "".join(f'    "{start}" -> "{end}";\n' for start, end in edges) + "}\n"


def _folded(rule: str) -> str:
    return next((name for start, name in FOLDED.items() if rule.startswith(start)), rule)


if __name__ == "__main__":
    main()
