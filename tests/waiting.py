"""Waiting for what another process does, and listing folders that it changes meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def wait_for(
    condition: Callable[[], object],
    seconds: float = 120.0,
    *,
    alive: Callable[[], bool] = lambda: True,
    interval: float = 0.01,
) -> bool:
    """Wait until a condition holds: True; False if what should bring it about is no longer alive."""
    end = time.monotonic() + seconds
    while not condition():
        if not alive():
            return False
        assert time.monotonic() < end, "waited in vain"
        time.sleep(interval)
    return True


def there(folder: Path, pattern: str) -> list[Path]:
    """The files of a pattern, in order. A folder that is removed while it is listed has none."""
    try:
        return sorted(folder.glob(pattern))
    except FileNotFoundError:
        return []
