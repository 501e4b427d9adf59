"""Time that passes only while everybody waits, so that quotas and outages take next to none.

A test asks for the fixture `virtual_time`. Then retries and quotas of this process go by it, as
everything does that uses `vecferry.retry.CLOCK`. The embedding server of the tests is among them.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vecferry.retry import CLOCK, Clock

QUIET = 0.004
"""Seconds without a sign of life after which everybody is taken to wait."""
PATIENCE = 50
"""How often silence counts for nothing at most, because a thread waits for the machine."""


class VirtualClock(Clock):
    """Goes to the next moment that somebody waits for, once nothing has happened for `QUIET`.

    Silence counts for nothing while a thread of this process waits for the machine. Where that
    cannot be seen, or takes too long, the thread sees time pass, as on a slow machine. Claims may
    depend on the order of moments, not on how many there are.
    """

    def __init__(self) -> None:
        self._now = 1000.0
        self._signs = 0
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._ended = False
        self._thread = threading.Thread(target=self._pass, name="virtual time", daemon=True)
        self._thread.start()

    def now(self) -> float:
        """The moment that time has come to; asking for it is a sign of life."""
        self._signs += 1
        return self._now

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Waits until time has come so far, or `stop` is set."""
        if seconds > 0 and not stop.is_set():
            over = threading.Event()
            self.later(seconds, over.set)
            while not over.wait(0.02) and not stop.is_set():
                pass
        return stop.is_set()

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Has `call` called when time has come so far."""
        with self._changed:
            heapq.heappush(self._due, (self._now + seconds, next(self._order), call))
            self._signs += 1
            self._changed.notify()

    def close(self) -> None:
        """Ends time; who waits is let go."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()
        for _, _, call in self._due:
            call()

    def _is_silent(self) -> bool:
        signs = self._signs
        for _ in range(PATIENCE):
            time.sleep(QUIET)
            if signs != self._signs or not _is_any_ready():
                break
        return signs == self._signs

    def _pass(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._ended)
                if self._ended:
                    return
            if not self._is_silent():
                continue
            with self._changed:
                self._now = max(self._now, self._due[0][0])
                calls = []
                while self._due and self._due[0][0] <= self._now:
                    calls.append(heapq.heappop(self._due)[2])
            for call in calls:
                call()


def _is_any_ready() -> bool:
    """Whether another thread of this process would run if the machine let it; Linux alone tells."""
    own = str(threading.get_native_id())
    try:
        threads = [name for name in os.listdir("/proc/self/task") if name != own]
    except OSError:
        return False
    for name in threads:
        try:
            stat = Path(f"/proc/self/task/{name}/stat").read_text(encoding="ascii", errors="ignore")
        except OSError:  # it has ended
            continue
        if stat.rpartition(")")[2].split()[0] == "R":
            return True
    return False


@pytest.fixture
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[VirtualClock]:
    """The time of all that waits in this process by `CLOCK`, for one test."""
    clock = VirtualClock()
    monkeypatch.setattr(CLOCK, "now", clock.now)
    monkeypatch.setattr(CLOCK, "wait", clock.wait)
    yield clock
    clock.close()
