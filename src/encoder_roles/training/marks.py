"""The points that a training passes, for whoever measures it: a rehearsal records what is between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

# start: weights and checkpoint are loaded, and signals are heeded; step: weights were updated;
# checkpoint: one was written; flops: they were counted; written: the outputs are there
Mark = Literal["start", "step", "checkpoint", "flops", "written"]
_watchers: list[Callable[[Mark], None]] = []


@contextmanager
def watched(watcher: Callable[[Mark], None]) -> Iterator[None]:
    """Within the block, call `watcher` with the name of each point that this process passes."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def passed(mark: Mark) -> None:
    """Tell all watchers that this process has passed a point."""
    for watcher in _watchers:
        watcher(mark)
