"""The write loop for stores that encode many changes at once, which costs less than one by one."""

from __future__ import annotations

from vecferry.io.sink import SinkWriter
from vecferry.io.sink_delivery import Delivery
from vecferry.io.sink_store import BlockStore, WriteLimits
from vecferry.rows import Change
from vecferry.steps import Emitted, Stamp, StepContext

_FIRST = 64
"""Rows of the first block, from which the size of rows becomes known."""


class BlockWriter(SinkWriter):
    """A `SinkWriter` that gathers changes first and sends them as a block where the store can.

    The others (deletes, two changes of one key, a row that is wrong) go the way of a `SinkWriter`,
    with all that were gathered with them; what those leave in the buffer is sent before a block.
    """

    def __init__(self, store: BlockStore, limits: WriteLimits, context: StepContext) -> None:
        super().__init__(store, limits, context)
        self._encode_block = store.encode_block
        self._most = min(limits.rows, _FIRST)
        self._gather()

    def _gather(self) -> None:
        self._changes: list[Change] = []
        self._stamps: list[Stamp] = []

    def process(self, change: Change, stamp: Stamp = None) -> list[Emitted]:
        """Takes a change; gives those written or rejected meanwhile. Waits where the store does."""
        self._changes.append(change)
        self._stamps.append(stamp)
        if len(self._changes) >= self._most:
            return self._send_off()
        if self._in_flight and not self._arrived.empty():
            return self._ready()
        return []

    def finish(self) -> list[Emitted]:
        """Writes what is buffered and waits for everything in flight."""
        return [*self._send_off(), *super().finish()]

    def _send_off(self) -> list[Emitted]:
        changes, stamps = self._changes, self._stamps
        if not changes:
            return []
        self._gather()
        block = self._encode_block(changes)
        if block is not None:
            a_row = max(1, block.size // len(changes))
            self._most = max(1, min(self._max_rows, self._max_bytes // a_row))
            if block.size <= self._max_bytes or len(changes) == 1:
                emitted = self._flush()
                return emitted + self._launch(Delivery([], block.keys, block, stamps))
        emitted = []
        for change, stamp in zip(changes, stamps, strict=True):
            emitted += super().process(change, stamp)
        return emitted
