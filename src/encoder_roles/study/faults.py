"""The faults of a config as one line: which key, what is wrong with it, and the file and line that set it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

RENAMED_KEYS = {  # old spelling -> new spelling
    "rank": "effective_rank",
    "engine.ranks": "engine.processes",
    "batch_questions": "batch_tokens, and counts tokens",
}
SECTION_FAULTS = ("model_type", "dict_type", "model_attributes_type")
NAME_RULE = "must be lower-case letters, digits and _, and begin with a letter"
QUOTE = "; YAML reads on, off, yes and no as true or false: put a name in quotes"


def describe_faults(
    error: ValidationError, repeated: str = "", places: Mapping[tuple[str, ...], str] | None = None
) -> str:
    """All faults of a file's keys in one line; those under `repeated` only if there are no others.

    Args:
        error: the faults, as pydantic reports them.
        repeated: a section whose faults repeat those of the others.
        places: the path of a key -> the file and line that set it.
    """
    # a list with a wrong entry is also reported as too short: only the entry is at fault
    faults = [f for f in error.errors() if f["type"] != "too_short" or not f["input"]]
    faults = faults or list(error.errors())
    faults = [f for f in faults if f["loc"][:1] != (repeated,)] or faults
    described = dict.fromkeys(_located(_describe_fault(fault), places or {}) for fault in faults)
    return " ".join("; ".join(described).split())


def _located(description: str, places: Mapping[tuple[str, ...], str]) -> str:
    """A fault with the file and line of the key that it begins with, or of the nearest section around it."""
    path = tuple(description.split(":", 1)[0].split("."))
    for length in range(len(path), 0, -1):
        if place := places.get(path[:length]):
            return f"{description} ({place})"
    return description


def _describe_fault(fault: Mapping[str, Any]) -> str:
    """One fault of a config: its key, what is wrong and the value, shortened."""
    key = ".".join(str(part) for part in fault["loc"] if "[" not in str(part))  # without the types of a union
    kind, value = fault["type"], fault["input"]
    message = (
        str(fault["msg"])
        .removeprefix("Value error, ")
        .replace("Input should", "must")
        .replace("String should", "must")
    )
    if kind == "extra_forbidden":
        for old, new in RENAMED_KEYS.items():
            if key == old or key.endswith(f".{old}"):
                return f"{key}: is now called {new} (rename the key)"
        return f"{key}: unknown key (correct its spelling or remove it)"
    if kind == "missing":
        return f"{key}: missing"
    if kind == "too_short":
        return f"{key}: has {len(value)} entries, {fault['ctx']['min_length']} or more are needed"
    if kind == "too_long":
        return f"{key}: has {len(value)} entries, at most {fault['ctx']['max_length']} are allowed"
    if not key:
        return message  # a check between keys: its message names them
    if kind == "value_error" and isinstance(value, dict):
        return f"{key}.{message}"  # a check within a section: its message names the key
    if kind in SECTION_FAULTS:
        message = "must be a section of keys"
    if kind == "string_pattern_mismatch" and fault["ctx"]["pattern"].startswith("^[a-z]"):
        message = NAME_RULE
    hint = QUOTE if kind == "string_type" and isinstance(value, bool) else ""
    return f"{key}: {message.replace('tuple', 'list')}, not {value!r:.60}{hint}"
