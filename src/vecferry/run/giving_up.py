"""The moment from which an interrupted run waits for no server that is away.

Apart from `vecferry.run.state` because operators, on threads of their own, are told by a call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

GRACE_SECONDS = 2.0
"""How long an interrupted run waits on for a server: many faults pass within seconds."""
STILL_SECONDS = 3.0
"""How long it then waits for an answer, or twice as long as the slowest answer took so far."""


class GivingUp:
    """Is set once in a run; whoever waits has a function called then, on another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set = False
        self._timer: threading.Timer | None = None
        self._told: list[Callable[[], object]] = []

    def is_set(self) -> bool:
        """Whether servers that are away are given up."""
        return self._set

    def soon(self, seconds: float = GRACE_SECONDS) -> None:
        """Gives up in so many seconds; a second call changes nothing."""
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(seconds, self.set)
                self._timer.daemon = True
                self._timer.start()

    @property
    def begun(self) -> bool:
        """Whether `soon` was called."""
        return self._timer is not None

    def set(self) -> None:
        """Gives up now."""
        with self._lock:
            self._set = True
            told = list(self._told)
        for call in told:
            call()

    def tell(self, call: Callable[[], object]) -> None:
        """Has `call` called when servers are given up, at once if they are already."""
        with self._lock:
            self._told.append(call)
        if self._set:
            call()

    def forget(self, call: Callable[[], object]) -> None:
        """Takes back `tell`."""
        with self._lock:
            if call in self._told:
                self._told.remove(call)
