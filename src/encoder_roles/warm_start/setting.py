"""What a job inherits when it starts; a forked job can only stand in for one that inherits the same."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from encoder_roles.warm_start import WARM_VARIABLE

# differ between the shells of two jobs and are read by no library when it is imported
FREE_VARIABLES = frozenset({"_", "SHLVL", "PWD", "OLDPWD", WARM_VARIABLE})
LIMITS = tuple(sorted(name for name in dir(resource) if name.startswith("RLIMIT_")))

# The modules of the commands that load models: the parent imports them. Other commands start cold.
MODULES = (
    "encoder_roles.training.align",
    "encoder_roles.training.tune",
    "encoder_roles.evaluation.predict",
    "encoder_roles.effective_rank.measure",
    "encoder_roles.data.features",
    "encoder_roles.sources.stage_encoder",
    "encoder_roles.sources.stage_language_model",
)


def current_setting() -> dict[str, Any]:
    """What this process inherited, as JSON gives it back.

    The environment is compared as a whole: libraries read variables (threads, memory, caches) when they are
    loaded, and no list of them is complete.
    """
    mask = os.umask(0)
    os.umask(mask)
    signals = sorted(signal.valid_signals())
    setting = {
        "environment": {name: value for name, value in os.environ.items() if name not in FREE_VARIABLES},
        "python": [sys.executable, list(sys.flags), sys.warnoptions, sorted(map(str, sys._xoptions.items()))],
        "path": sys.path,
        "limits": {name: resource.getrlimit(getattr(resource, name)) for name in LIMITS},
        "cores": sorted(os.sched_getaffinity(0)),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
        "umask": mask,
        "user": os.getresuid(),
        "control group": Path("/proc/self/cgroup").read_text(encoding="utf-8"),
        "ignored signals": [number for number in signals if signal.getsignal(number) == signal.SIG_IGN],
        "blocked signals": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    }
    copy: dict[str, Any] = json.loads(json.dumps(setting))
    return copy


def first_difference(mine: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    """What differs between two settings, in words; None if nothing does."""
    for name in mine:
        if mine[name] == theirs.get(name):
            continue
        if name != "environment":
            return name
        other = theirs.get(name, {})
        changed = (key for key in sorted({*mine[name], *other}) if mine[name].get(key) != other.get(key))
        return f"environment variable {next(changed)}"
    return None
