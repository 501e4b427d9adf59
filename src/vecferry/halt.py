"""When the threads of a bundle wait no longer: it is over, or the run gives up servers.

Apart from `vecferry.run.giving_up`, which knows no bundles.
"""

from __future__ import annotations

import threading

from vecferry.errors import GivenUp, TransientError
from vecferry.retry import Clock


class Halt:
    """Two events, of which each ends waits: `closed` of all kinds, `given_up` after failures."""

    def __init__(self) -> None:
        self.closed, self._any = threading.Event(), threading.Event()

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for a server that is away."""
        return self._any.is_set()

    def close(self) -> None:
        """Ends all waits: the bundle is over."""
        self.closed.set()
        self._any.set()

    def give_up(self) -> None:
        """Ends the waits for servers that are away."""
        self._any.set()

    def sleep(self, seconds: float, clock: Clock, what: str) -> None:
        """Waits; raises TransientError if the bundle is over, GivenUp if servers are given up."""
        if clock.wait(self._any, seconds):
            self._require_open(what)
            raise GivenUp(f"{what}: the run was interrupted while a server was away")

    def pause(self, seconds: float, clock: Clock, what: str) -> None:
        """Waits for a server that is there; less long if servers are given up meanwhile."""
        event = self.closed if self._any.is_set() else self._any
        if clock.wait(event, seconds):
            self._require_open(what)

    def _require_open(self, what: str) -> None:
        if self.closed.is_set():
            raise TransientError(f"{what}: the bundle ended while its requests were waiting")
