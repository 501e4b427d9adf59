"""A thread that puts vectors into a cache, so that who fetched them can go on at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

Items = list[tuple[bytes, bytes]]

MOST_BYTES = 16 << 20
"""How much may wait to be written, so that memory stays flat however slow the cache is."""

log = logging.getLogger(__name__)


class Writer:
    """Calls `write` in a thread of its own with all that has come in the meantime.

    The thread starts with the first `put`; a process that ends without `close` loses what waits,
    which costs requests later.
    """

    def __init__(self, write: Callable[[Items], None]) -> None:
        self._write = write
        self._changed = threading.Condition()
        self._waiting: Items = []
        self._bytes = 0  # of what waits or is being written
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, items: Items) -> None:
        """Leaves items to be written; waits while there is too much already."""
        size = _size(items)
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or not self._bytes or self._bytes + size <= MOST_BYTES
            )
            if self._closed:
                return
            self._waiting += items
            self._bytes += size
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._loop, name="vecferry-vector-cache", daemon=True
                )
                self._thread.start()
            self._changed.notify_all()

    def close(self) -> None:
        """Waits until all is written; what comes later is dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                items, self._waiting = self._waiting, []
            if not items:
                return
            try:
                self._write(items)
            except Exception:  # the thread must live, or those who put would wait for ever
                log.exception("vectors could not be put into the vector cache")
            with self._changed:
                self._bytes -= _size(items)
                self._changed.notify_all()


def _size(items: Items) -> int:
    return sum(len(value) for _, value in items)
