"""What the text says about finished and unfinished trainings, from convergence.csv and loss_edges.csv."""

from __future__ import annotations

import pandas as pd

from encoder_roles.paper.names import encoder_name, subset_name
from encoder_roles.paper.wording import (
    count_word,
    grouped,
    interval_text,
    listed,
    percent,
    sentence,
    signed,
    with_interval,
)
from encoder_roles.study.sections import ConvergenceGate

UNFINISHED = "training had not converged"


def gated_rows(convergence: pd.DataFrame) -> pd.DataFrame:
    """The trainings with a gate, those of tune; `converged` as booleans."""
    rows = convergence[convergence["converged"].notna()]
    return rows.assign(converged=rows["converged"].astype(str).str.lower() == "true")


def verdict_warning(convergence: pd.DataFrame) -> str:
    """The words after a verdict; empty if every training passed the gate."""
    return "" if gated_rows(convergence)["converged"].all() else UNFINISHED


def abstract_warning(convergence: pd.DataFrame) -> str:
    """The warning of the abstract; empty if every training passed the gate."""
    rows = gated_rows(convergence)
    missed = int((~rows["converged"]).sum())
    if not missed:
        return ""
    return (
        f"{sentence(count_word(missed)).rstrip('.')} of {len(rows)} trainings had not converged when they "
        "ended, so every verdict is about this length of training."
    )


def convergence_sentence(convergence: pd.DataFrame, gate: ConvergenceGate) -> str:
    """How many trainings passed the gate, and by how much the loss of the worst still fell."""
    rows = gated_rows(convergence)
    if rows.empty:
        return ""
    missed = rows[~rows["converged"]]
    worst = rows.sort_values("gate_fall", kind="stable").iloc[-1]
    bounds = interval_text(100 * worst["gate_low"], 100 * worst["gate_high"])
    return (
        f"A training counts as converged if the last {percent(gate.last_part)} of the steps of tune lower "
        f"the mean loss by less than {percent(gate.loss_fall, 1)} against as many steps before them. "
        f"{sentence(f'{grouped(len(rows) - len(missed))} of {grouped(len(rows))} trainings have')} "
        f"The largest fall is {percent(worst['gate_fall'], 1)} {bounds}".rstrip()
        + f" ({subset_name(worst['subset'])}, seed {int(worst['seed'])})."
    )


def further_epoch_sentence(convergence: pd.DataFrame) -> str:
    """What one further epoch of tune gains, where a variant of the study measured it; else empty."""
    rows = convergence.dropna(subset="epoch_gain").drop_duplicates("subset")
    if rows.empty:
        return ""
    columns = ["subset", "epoch_gain", "epoch_low", "epoch_high"]
    gains = [
        f"{subset_name(subset)} {with_interval(gain, low, high)}"
        for subset, gain, low, high in rows.sort_values("epoch_gain", ascending=False)[columns].itertuples(
            index=False
        )
    ]
    shown = gains if len(gains) <= 3 else [gains[0], gains[-1]]
    which = "" if len(gains) <= 3 else f" in {len(gains)} models, from"
    return f"A further epoch gains (points){which}: {listed(shown)}."


def loss_edge_sentence(edges: pd.DataFrame) -> str:
    """On how many steps that add an encoder the final loss rises, and what the noise of seeds explains."""
    if edges.empty:
        return ""
    raised = edges[edges["rise"] > 0]
    text = f"Adding an encoder raises the final loss on {len(raised)} of {len(edges)} steps of the lattice"
    if edges["beyond_noise"].isna().all():
        return f"{text}; with one seed, what the noise of seeds explains of this is not known."
    beyond = edges[edges["beyond_noise"].astype(str).str.lower() == "true"]
    added = beyond["added"].value_counts()
    names = [f"{encoder_name(str(name))} {count}" for name, count in added.items()]
    which = f" (by the encoder added: {listed(names)})" if names else ""
    largest = signed(float(edges["rise"].max()), 3)
    return (
        f"{text}, on {len(beyond)} of them by more than the noise of seeds explains{which}; the largest rise "
        f"is {largest}."
    )
