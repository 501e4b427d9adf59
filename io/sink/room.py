"""How much room a request to a target has, as its server shows by what it refuses and serves.

Servers and the proxies before them rarely name their limits. So a request that is larger than any
before is sent alone, and the others wait for its answer. Then a refusal costs one request, and not
as many as are under way. The lessons outlast a bundle.
"""

from __future__ import annotations

import threading

_ALIKE = 1.25
"""A request counts as large as another one up to so many times its rows and bytes."""
_TRIES = 5
"""Failures of requests larger than any before that may pass, until smaller ones are tried."""
_PATIENCE = 16
"""Requests served after a refusal that may pass, until twice as much is tried again."""
_BOUNDLESS = 1 << 62


class Room:
    """The rows and bytes that one request may hold; for all threads that write to a target.

    Both are without a bound until the server refuses a request.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rows = self._bytes = _BOUNDLESS
        self._most_rows = self._most_bytes = _BOUNDLESS  # what surely is too much is more
        self._served_rows = self._served_bytes = 0
        self._trying: int | None = None  # the thread whose request is larger than any before
        self._failures = 0
        self._since, self._patience, self._widened = 0, _PATIENCE, False

    def within(self, rows: int, size: int) -> tuple[int, int]:
        """Rows and bytes, or what may go in a request where that is less."""
        return min(rows, self._rows), min(size, self._bytes)

    def holds(self, rows: int, size: int) -> bool:
        """Whether a request may go as it is; a single row always may."""
        return rows == 1 or (rows <= self._rows and size <= self._bytes)

    def cut(self, sizes: list[int]) -> list[int]:
        """How many of so many rows, of these sizes in bytes, go into each request."""
        counts: list[int] = []
        rows = size = 0
        for one in sizes:
            if rows and not self.holds(rows + 1, size + one):
                counts.append(rows)
                rows = size = 0
            rows += 1
            size += one
        return [*counts, rows]

    def enter(self, rows: int, size: int, stop: threading.Event) -> bool:
        """Waits until a request may be sent, and then `leave` must follow.

        False if the request has to be cut first, or at `stop`.
        """
        with self._changed:
            while self._trying is not None and self._is_new(rows, size):
                self._changed.wait(0.05)
                if stop.is_set():
                    return False
            if not self.holds(rows, size):
                return False
            if self._is_new(rows, size):
                self._trying = threading.get_ident()
            return True

    def leave(self, rows: int, size: int, *, served: bool) -> None:
        """Ends what `enter` began, in the same thread."""
        with self._changed:
            if self._trying == threading.get_ident():
                self._trying = None
                self._changed.notify_all()
            if served:
                if self._is_new(rows, size) and rows > 1:
                    self._failures = 0
                self._served_rows = max(self._served_rows, rows)
                self._served_bytes = max(self._served_bytes, size)
                self._widen()

    def fail(self, rows: int, size: int) -> bool:
        """Notes a request that failed as if the server were away; True if halves may pass.

        Proxies break a connection off when a request is too large for them, or answer 502.
        """
        with self._changed:
            if rows == 1 or (rows <= self._served_rows and size <= self._served_bytes):
                return False
            self._failures += 1
            return self._failures >= _TRIES

    def _is_new(self, rows: int, size: int) -> bool:
        """Whether no request of this size was ever served."""
        return rows > _ALIKE * self._served_rows or size > _ALIKE * self._served_bytes

    def refuse(self, rows: int, size: int, *, passing: bool) -> None:
        """Notes that the server called a request too large; `passing` if for want of memory."""
        with self._changed:
            if size > self._served_bytes:
                self._bound(size=max(self._served_bytes, size // 2), sure=not passing)
            elif rows > self._served_rows or not size:
                self._bound(rows=max(self._served_rows, (rows + 1) // 2), sure=not passing)
            else:  # as large ones passed: it takes less than before
                self._bound(size=size // 2, sure=not passing)
                self._served_bytes = min(self._served_bytes, self._bytes)

    def exceed(self, rows: int, size: int, *, sure: bool) -> None:
        """Notes that a request failed of which all parts were served.

        If an outage may have been the cause, it is not `sure`, and larger ones are tried later.
        """
        with self._changed:
            if rows > self._served_rows:
                self._bound(rows=self._served_rows, sure=sure)
            elif size > self._served_bytes:
                self._bound(size=self._served_bytes, sure=sure)

    def _bound(self, *, rows: int = _BOUNDLESS, size: int = _BOUNDLESS, sure: bool) -> None:
        self._rows, self._bytes = self.within(rows, size)
        self._since = 0
        if sure:
            self._most_rows = min(self._most_rows, rows)
            self._most_bytes = min(self._most_bytes, size)
        elif self._widened:
            self._patience *= 2
        self._widened = False

    def _widen(self) -> None:
        """Doubles bounds whose cause may be over, each time after a longer while."""
        if self._rows >= self._most_rows and self._bytes >= self._most_bytes:
            return
        self._since += 1
        if self._since >= self._patience:
            self._since, self._widened = 0, True
            self._rows = min(2 * self._rows, self._most_rows)
            self._bytes = min(2 * self._bytes, self._most_bytes)
