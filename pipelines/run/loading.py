"""How far a full load is, and how long the rest of it takes.

Apart from `vecferry.pipelines.run.sync` because it knows spans only, neither rounds nor leases.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from vecferry.steps import Span


class Loading:
    """A full load as it goes on, in rows where its source counts them, else in parts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[int, str, float, int] | None = None
        self._told: dict[str, Any] = {}

    def told(self, span: Span | None, read: int) -> dict[str, Any]:
        """The fields of `Progress` that tell of a load; none where nothing is loaded.

        `span` is that of the round under way, and `read` how many rows it has read. Between the
        rounds of a load, what was told last is told again.
        """
        if span is None:
            return self._told
        if span.phase == "changes" and span.kind != "full":
            self._first, self._told = None, {}
        elif span.kind == "full" and span.keys is None and (span.rows or span.part):
            self._told = self._counted(span, read)
        return self._told

    def ends(self) -> None:
        """All is loaded, or the load is given up."""
        self._first, self._told = None, {}

    def _counted(self, span: Span, read: int) -> dict[str, Any]:
        if span.rows is not None:
            unit, done, of = "rows", span.rows[0] + read, span.rows[1]
        else:
            assert span.part is not None
            unit, (done, of) = "parts", span.part
        moment, of = self._clock(), max(done, of)
        first = self._first
        if first is None or first[:2] != (span.epoch, unit) or first[3] > done:
            first = self._first = span.epoch, unit, moment, done
        gone, passed = done - first[3], moment - first[2]
        left = (of - done) * passed / gone if gone else None
        return {"loaded": done, "load_size": of, "load_unit": unit, "load_seconds": left}
