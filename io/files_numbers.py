"""The numbers of lines, for a job that asks for them as a column."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from vecferry.io.files_settings import FilesSettings
from vecferry.rows import Change, Reject


class LineNumbers:
    """Puts the number of the line on which each record begins into its row.

    `read` is how many lines came before the first one that is given. Lines are forgotten once
    a record that begins later has been seen, so that memory stays at the longest record.
    """

    def __init__(self, settings: FilesSettings, read: int) -> None:
        self._names = [c.label for c in settings.column if c.source == "lineNumber"]
        self._passed = read
        self._begins: list[int] = []

    def add(self, lines: bytes, at: int) -> None:
        """Whole lines, the first of which begins at byte `at`."""
        if self._names:
            ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == 10) + (at + 1)
            self._begins += [at, *ends.tolist()]
            if lines.endswith(b"\n"):
                self._begins.pop()

    def put(self, items: list[Change | Reject]) -> None:
        """Fills the columns of rows, which come in the order of their lines."""
        if not self._names:
            return
        for item in items:
            at = int(item.origin.rpartition(":")[2])
            number = self._passed + bisect_left(self._begins, at) + 1
            if isinstance(item, Change):
                item.update(dict.fromkeys(self._names, number))
        if items:
            done = bisect_left(self._begins, at)
            self._passed += done
            del self._begins[:done]
