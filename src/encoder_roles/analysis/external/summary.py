"""What an analysis of an external table shows, in fewer than twenty lines of text."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from encoder_roles.analysis.claims.claim import FAILS, HOLDS, OPEN, UNTESTED, Claim
from encoder_roles.analysis.lattice import RETRAINED
from encoder_roles.study.names import BLIND

MOST_LINES = 19  # a command adds one that says where the results are
MOST_CLAIMS = 4  # claims with a verdict that are printed
_ROLES = (("Capacity", "capacity"), ("Necessity", "necessity"), ("redundancy", "redundancy"))
_MASKED_ROLES = (("Capacity", "capacity"), ("Necessity", "necessity"), ("CUR, %", "cur"))


def summarise(
    tables: Mapping[str, pd.DataFrame],
    claims: Sequence[Claim],
    notes: Sequence[Mapping[str, str]],
    pool: Sequence[str],
) -> list[str]:
    """The scores, the roles of the encoders, the best pair, the verdicts, and what is missing.

    Args:
        tables, claims, notes: as of an `Analysis`.
        pool: the encoders, in order.

    >>> from encoder_roles.analysis.external.scores import analyse_table
    >>> scores = {"encoders": ["blind", "clip", "dinov2", "clip+dinov2"], "gqa": [38.0, 61.0, 55.0, 63.0]}
    >>> a = analyse_table(pd.DataFrame(scores))
    >>> print(*summarise(a.tables, a.claims, a.notes, a.pool)[:5], sep="\\n")
    4 of 4 subsets of 2 encoders, 1 benchmark; overall scores of 0-100, differences in points
    Best subset: clip+dinov2 63.0, the full pool. Best encoder alone: clip 61.0. Blind: 38.0.
    Best pair: clip+dinov2 63.0, 2.0 above the better of the two alone.
                Capacity   Necessity  redundancy     Shapley
      clip          61.0         8.0        15.0        15.5
    """
    lattice = tables["lattice"]
    overall = lattice[(lattice["level"] == "overall") & (lattice["operator"] == RETRAINED)]
    scores = overall.set_index("subset")
    benchmarks = lattice.loc[lattice["level"] == "benchmark", "benchmark"].nunique()
    known = f"{len(scores)} of {2 ** len(pool)} subsets of {len(pool)} encoders"
    scale = "overall scores of 0-100, differences in points"
    head = f"{known}, {_count(benchmarks, 'benchmark')}; {scale}"
    lines = [head, _score_line(scores, pool), _pair_line(tables["pairs"])]
    lines += [*role_lines(tables, pool), *masked_lines(tables, pool), *_claim_lines(claims)]
    return [*lines, *_note_lines(notes, MOST_LINES - len(lines))]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def number_text(value: float, low: float = math.nan, high: float = math.nan) -> str:
    """`61.0`, `61.0 [59.1, 62.8]`, or `-` if there is none."""
    if math.isnan(value):
        return "-"
    return f"{value:.1f}" if math.isnan(low) else f"{value:.1f} [{low:.1f}, {high:.1f}]"


def _score_line(scores: pd.DataFrame, pool: Sequence[str]) -> str:
    """The best subset and encoder, and the scores of the full pool and of the blind model."""
    parts, full = [], "+".join(pool)
    seeing = scores.drop(index=BLIND, errors="ignore")
    if len(seeing):
        best = str(seeing["score"].idxmax())
        note = ", the full pool" if best == full else ""
        parts.append(f"Best subset: {best} {_score_of(scores, best)}{note}.")
        if full in scores.index and best != full:
            parts.append(f"Full pool: {_score_of(scores, full)}.")
    alone = seeing[~seeing.index.str.contains("+", regex=False)]
    if len(alone):
        first = str(alone["score"].idxmax())
        parts.append(f"Best encoder alone: {first} {_score_of(scores, first)}.")
    if BLIND in scores.index:
        parts.append(f"Blind: {_score_of(scores, BLIND)}.")
    return " ".join(parts) or "No model without a mask."


def _score_of(scores: pd.DataFrame, subset: str) -> str:
    return number_text(*scores.loc[subset, ["score", "low", "high"]].astype(float))


def _pair_line(pairs: pd.DataFrame) -> str:
    if pairs.empty or pairs["score"].isna().all():
        return "Best pair: not known, because no pair has a score."
    best = pairs.iloc[0]
    score = number_text(best["score"], best["low"], best["high"])
    ends = (best["over_best_single_low"], best["over_best_single_high"])
    gain = number_text(best["over_best_single"], *ends)
    above = "" if gain == "-" else f", {gain} above the better of the two alone"
    return f"Best pair: {best['first']}+{best['second']} {score}{above}."


def role_frame(
    tables: Mapping[str, pd.DataFrame], pool: Sequence[str], operator: str = RETRAINED
) -> pd.DataFrame:
    """A row per encoder: its overall Capacity, Necessity, redundancy and Shapley value as text.

    Under a mask operator they are the masked ones, and CUR (in percent) stands for redundancy.
    """
    roles, games = tables["roles"], tables["games"]
    roles = roles[(roles["level"] == "overall") & (roles["operator"] == operator)]
    games = games[(games["level"] == "overall") & (games["operator"] == operator)]
    columns = {
        title: roles[roles["measure"] == name].set_index("encoder")[["value", "low", "high"]]
        * (100 if name == "cur" else 1)
        for title, name in (_ROLES if operator == RETRAINED else _MASKED_ROLES)
    }
    shapley = games[games["index"] == "shapley"].set_index("coalition")
    columns["Shapley"] = shapley[["value", "low", "high"]]
    cells = {
        title: [number_text(*of.loc[e].astype(float)) if e in of.index else "-" for e in pool]
        for title, of in columns.items()
    }
    return pd.DataFrame(cells, index=pd.Index(pool, name="encoder"))


def operators_in(tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """The mask operators with scores, in the order of the table."""
    return [str(name) for name in tables["lattice"]["operator"].unique() if name != RETRAINED]


def is_only_masked(tables: Mapping[str, pd.DataFrame]) -> bool:
    """Whether the scores are those of one model with and without masks: nothing is retrained."""
    lattice = tables["lattice"]
    unmasked = lattice[(lattice["level"] == "overall") & (lattice["operator"] == RETRAINED)]
    return len(unmasked) == 1 and bool(operators_in(tables))


def role_lines(tables: Mapping[str, pd.DataFrame], pool: Sequence[str]) -> list[str]:
    """The roles as a table of text; a line that says so if no role is known."""
    frame = role_frame(tables, pool)
    if not (frame == "-").all(axis=None):
        return _text_table(frame)
    return [] if is_only_masked(tables) else ["Roles: none is known; see what is missing."]


def masked_lines(tables: Mapping[str, pd.DataFrame], pool: Sequence[str]) -> list[str]:
    """The masked roles of a model that was only masked, as a table of text for its first operator."""
    if not is_only_masked(tables):
        return []
    first, *others = operators_in(tables)
    more = f"; {', '.join(others)}: see roles.csv" * bool(others)
    head = f"Masked roles ({first}; information gap {information_gap_text(tables, first)}{more}):"
    return [head, *_text_table(role_frame(tables, pool, first))]


def information_gap_text(tables: Mapping[str, pd.DataFrame], operator: str) -> str:
    """The information gap of an operator, in percent as CUR; `-` without one."""
    roles = tables["roles"]
    rows = roles[(roles["level"] == "overall") & (roles["operator"] == operator)]
    rows = rows[rows["measure"] == "information_gap"]
    return number_text(*(100 * rows[["value", "low", "high"]].iloc[0].astype(float))) if len(rows) else "-"


def _text_table(frame: pd.DataFrame) -> list[str]:
    first = max(map(len, frame.index))
    width = max(10, *(len(cell) for cell in frame.to_numpy().ravel()))
    lines = [" " * (first + 2) + "".join(f"  {title:>{width}}" for title in frame.columns)]
    for encoder, cells in zip(frame.index, frame.itertuples(index=False), strict=True):
        lines.append(f"  {encoder:<{first}}" + "".join(f"  {cell:>{width}}" for cell in cells))
    return lines


def _claim_lines(claims: Sequence[Claim]) -> list[str]:
    """How many claims have which verdict, and the first ones that are decided."""
    counts = Counter(claim.verdict for claim in claims)
    counted = ", ".join(f"{counts[v]} {v}" for v in (HOLDS, FAILS, OPEN, UNTESTED) if counts[v])
    decided = [claim for claim in claims if claim.verdict in (HOLDS, FAILS)]
    shown = [f"  {claim.verdict}: {claim.statement}" for claim in decided[:MOST_CLAIMS]]
    return [f"Verdicts: {counted}.", *shown]


def _note_lines(notes: Sequence[Mapping[str, str]], most: int) -> list[str]:
    """The note on intervals, which every number depends on, then the first of the others, in `most` lines."""
    texts = [note["note"] for note in notes]
    on_intervals = next(
        (text for text in texts if text.lower().startswith(("interval", "no interval"))), None
    )
    others = [text for text in texts if text != on_intervals]
    first = [] if on_intervals is None else [on_intervals]
    room = most - len(first)
    if len(others) <= room:
        return [*first, *(f"Note: {text}" for text in others)]
    shown = [f"Note: {text}" for text in others[: room - 1]]
    return [*first, *shown, f"{_count(len(others) - len(shown), 'more note')} in notes.json."]


def to_html(text: str, *tables: pd.DataFrame) -> str:
    """A text and tables as a notebook shows them."""
    shown = [
        table.to_html(index=False, border=0, na_rep="", float_format="{:.2f}".format) for table in tables
    ]
    return "\n".join([f"<pre>{html.escape(text)}</pre>", *shown])
