"""How far a long plan is, also where stderr is no terminal: the rule sends it to its log and the screen."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TypeVar

from tqdm import tqdm

QUIET = 5  # seconds before anything is shown: most plans take less
Item = TypeVar("Item")


def show_progress(items: Sequence[Item], title: str, unit: str) -> Iterable[Item]:
    """The items, with a line on stderr that says how many are done once it has taken a while."""
    interval = 0.5 if sys.stderr.isatty() else QUIET
    shown: Iterable[Item] = tqdm(
        items, desc=title, unit=unit, file=sys.stderr, delay=QUIET, mininterval=interval
    )
    return shown
