"""The progress line on a terminal.

Stands apart from `vecferry.pipelines.cli.commands` because it knows counts, and no command line.
"""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from vecferry.process import RunStatus
from vecferry.steps import Size


class ProgressLine:
    """One line on a terminal, renewed as a run goes on; elsewhere nothing is shown."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=4, transient=True)
        self._shown = console.is_terminal

    def __enter__(self) -> ProgressLine:
        if self._shown:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._shown:
            self._live.stop()

    def __call__(self, state: RunStatus, size: Size) -> None:
        if self._shown:
            elapsed = time.monotonic() - state.started
            self._live.update(Text(progress_text(state, size, elapsed)))


def progress_text(state: RunStatus, size: Size, elapsed: float) -> str:
    """``12,000 read  11,900 written …  4,200 rows/s  ETA 12s``; ETA where the size is known."""
    counts = state.counts()
    read = counts.get("rows-read", 0)
    parts = [
        f"{read:,} read",
        f"{counts.get('rows-written', 0):,} written",
        f"{sum(state.rejects().values()):,} rejected",
        f"{counts.get('embed-requests', 0):,} requests",
        f"{counts.get('cache-hits', 0):,} cache hits",
        f"{read / max(elapsed, 0.001):,.0f} rows/s",
    ]
    share = _share(counts, size)
    if state.stop.is_set():
        parts.append("finishing what was read")
    elif share:
        parts.append(f"ETA {elapsed / share - elapsed:,.0f}s")
    return "  ".join(parts)


def _share(counts: dict[str, int], size: Size) -> float | None:
    if size.rows:
        return min(1.0, counts.get("rows-read", 0) / size.rows)
    if size.bytes:
        return min(1.0, counts.get("bytes-read", 0) / size.bytes)
    return None
