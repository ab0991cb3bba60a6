"""The progress of a run: one live line on a terminal, or a plain line every half minute in a log file."""

from __future__ import annotations

import sys
import time
from typing import TextIO

LIVE_SECONDS = 0.5  # between updates of the live line
PLAIN_SECONDS = 30.0  # between lines of a log file


def duration(seconds: float) -> str:
    """Seconds as `h:mm:ss` or `m:ss`."""
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


class Progress:
    """Reports on stderr the number of finished steps, the time spent and the time left."""

    def __init__(
        self, title: str, total: int, done: int = 0, stream: TextIO | None = None, quiet: bool = False
    ) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.title, self.total, self.first = title, total, done
        self.live, self.quiet = self.stream.isatty(), quiet
        self.started = self.reported = time.monotonic()

    def update(self, done: int, text: str = "") -> None:
        """Report that ``done`` steps are finished, if the last report is old enough."""
        now = time.monotonic()
        if self.quiet:
            return
        if done < self.total and now - self.reported < (LIVE_SECONDS if self.live else PLAIN_SECONDS):
            return
        self.reported = now
        left = (now - self.started) / max(done - self.first, 1) * (self.total - done)
        times = f"{duration(now - self.started)} gone, {duration(left)} left"
        line = f"{self.title}: {done}/{self.total} {text}  {times}"
        end = "\n" if not self.live or done >= self.total else ""
        self.stream.write(f"\r\x1b[K{line}{end}" if self.live else f"{line}{end}")
        self.stream.flush()
