"""What a person sees of a run while it goes on: a line on a terminal, and lines in a log elsewhere.

Stands apart from `vecferry.pipelines.cli.commands` because it knows counts, and no command line.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vecferry.pipelines.run.events import LOOKS, SECOND, Event

LINE_SECONDS = 30.0
"""How often a run off a terminal says how it stands."""
WAIT_SECONDS, WAIT_AGAIN_SECONDS = 5.0, 60.0
"""After how much waiting for a server a run says so, and how often again."""

_PHASES = {
    "checking": "trying source, endpoint and target",
    "preparing": "making the target ready",
    "running": "running",
    "finishing": "finishing what was read",
    "indexing": "the target's last step",
    "ended": "ended",
}

progress_log = logging.getLogger("vecferry.progress")
"""Shown without ``-v`` as well."""
log = logging.getLogger(__name__)


class ProgressLine:
    """One line on a terminal, renewed as a run goes on."""

    every = SECOND / LOOKS

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=LOOKS, transient=True)
        self._handlers: list[logging.StreamHandler[Any]] = []
        self._stream: Any = None

    def take(self, event: Event) -> None:
        """Renews the line."""
        if not self._live.is_started:
            self._stream = sys.stderr
            self._live.start()
            self._log_above()
        self._live.update(Text(progress_text(event)))

    def close(self) -> None:
        """Removes the line."""
        if self._live.is_started:
            self._live.stop()
        for handler in self._handlers:
            handler.setStream(self._stream)

    def _log_above(self) -> None:
        """Lets the lines of the log go where rich puts them above its own."""
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is self._stream:
                handler.setStream(sys.stderr)
                self._handlers.append(handler)


class ProgressLog:
    """A line in the log every `LINE_SECONDS`, where nobody looks at a terminal."""

    every = SECOND

    def __init__(self) -> None:
        self._due = LINE_SECONDS

    def take(self, event: Event) -> None:
        """Says how a run stands, if it is time to."""
        if event.seconds >= self._due and event.phase != "ended":
            self._due = event.seconds + LINE_SECONDS
            progress_log.info("%s", progress_text(event))

    def close(self) -> None:
        """Nothing: the report says the rest."""


class WaitLog:
    """Says in the log which server a run waits for, after a few seconds and again each minute."""

    every = SECOND / 2

    def __init__(self) -> None:
        self._said: dict[str, tuple[float, float]] = {}

    def take(self, event: Event) -> None:
        """Looks at what the run waits for now."""
        now = {wait.who: wait for wait in event.waits}
        for who in self._said.keys() - now.keys():
            since, _ = self._said.pop(who)
            if event.phase != "ended":
                log.warning("%s: goes on, after %.0f s", who, event.at - since)
        for who, wait in now.items():
            since, due = self._said.get(who, (wait.since, wait.since + WAIT_SECONDS))
            if event.at >= due:
                self._said[who] = since, event.at + WAIT_AGAIN_SECONDS
                log.warning("%s", wait.text(event.at))

    def close(self) -> None:
        """Nothing: what a run failed with is in its report."""


def progress_text(event: Event) -> str:
    """``running: 12,000 read  11,900 written …  4,200 rows/s  ETA 12s``; also what it waits for."""
    counts = event.counts
    read = counts.get("rows-read", 0)
    parts = [
        f"{read:,} read",
        f"{counts.get('rows-written', 0):,} written",
        f"{sum(event.rejects.values()):,} rejected",
        f"{counts.get('embed-requests', 0):,} requests",
        f"{counts.get('cache-hits', 0):,} cache hits",
        f"{read / max(event.seconds, 0.001):,.0f} rows/s",
    ]
    if event.doing:
        parts[-1] = event.doing
    elif event.eta is not None:
        parts.append(f"ETA {event.eta:,.0f}s")
    parts += [w.text(event.at) for w in event.waits if event.at - w.since >= WAIT_SECONDS]
    phase = "finishing" if event.stopping and event.phase == "running" else event.phase
    return f"{_PHASES.get(phase, phase)}: " + "  ".join(parts)
