"""Leaves out the rows that repeat an earlier row of the run.

Apart from `transform` because it knows nothing of Beam, and runs without it.
"""

from __future__ import annotations

from typing import Any

import orjson

from vecferry.errors import near
from vecferry.rows import INSERT, Change, encode_value
from vecferry.spill import SeenKeys
from vecferry.steps import Counts, Emitted, Stamp, StepContext, Transformer
from vecferry.transforms.shape.settings import DeduplicateSettings


class Deduplicator(Transformer):
    """The operator of ``deduplicate``: the first row of a key goes on, later ones are dropped.

    All bundles of a process share the keys that were seen. Changes go on as they are.
    """

    def __init__(
        self, settings: DeduplicateSettings, connection: None, context: StepContext
    ) -> None:
        self.counts = Counts()
        self.context = context
        self._columns = settings.columns
        self._seen: SeenKeys = context.once("seen keys", SeenKeys)

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """The row if it is the first of its key, its reject, or nothing."""
        if change.kind != INSERT or change.version is not None:
            return [(change, stamp)]
        key = []
        for name in self._columns:
            if name not in change:
                message = f"the row has no column {name!r}{near(name, change)}"
                return [(self.context.reject("missing-column", message, row=change), stamp)]
            key.append(_told(change[name]))
        if self._seen.add(tuple(key)):
            return [(change, stamp)]
        self.counts.add("rows-dropped")
        return []

    def finish(self) -> list[Emitted]:
        """Nothing: no row waits here."""
        return []

    def close(self) -> None:
        """Nothing to let go of: the keys belong to the run."""


def _told(value: Any) -> Any:
    """A value whose text tells it from all values that are not the same."""
    if type(value) in (str, int, bool, bytes, type(None)):
        return value
    return type(value).__name__, orjson.dumps(encode_value(value), option=orjson.OPT_SORT_KEYS)
