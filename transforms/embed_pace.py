"""How fast a process may ask: the quotas that a job names, and what the server's 429s teach.

A job may know its quota (`requestsPerMinute`, `tokensPerMinute`): then requests are spaced evenly
from the first one. Where it does not, nothing is held back until the server answers 429. From then
on the rate is that of the requests which passed, and follows the quota by additive increase and
multiplicative decrease: small steps near the rate that failed last, longer ones far below it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

WINDOW = 1.0
"""Seconds over which the passing requests are counted when the first 429 comes."""
DECREASE = 0.85
SLOWEST = 1 / 60
"""Requests a second below which the rate never falls: one a minute."""


class Pacer:
    """Tells each request of this process when it may go; for any thread."""

    def __init__(
        self,
        requests_per_second: float | None = None,
        tokens_per_second: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._quota = requests_per_second
        self._token_rate = tokens_per_second
        self.rate = requests_per_second
        self._failed_rate: float | None = None
        self._next = self._next_token = self._hold = 0.0
        self._changed = 0.0
        self._passed: deque[float] = deque()
        self.last_success: float | None = None

    def reserve(self, tokens: int = 0) -> float:
        """Takes the next place in the schedule; gives the seconds until it comes.

        `tokens` is an estimate of what the request will cost.
        """
        if self.rate is None and self._token_rate is None and not self._hold:
            return 0.0
        with self._lock:
            now = self._clock()
            slot = max(now, self._next, self._hold)
            if self._token_rate is not None:
                slot = max(slot, self._next_token)
                self._next_token = slot + tokens / self._token_rate
            if self.rate is not None:
                self._next = slot + 1 / self.rate
            return slot - now

    def held(self) -> bool:
        """Whether a 429 that came meanwhile forbids what was reserved before it."""
        return self._hold > self._clock()

    def passed(self) -> None:
        """Counts a request that the server took."""
        now = self._clock()
        self.last_success = now
        if self.rate is None:
            self._passed.append(now)  # a deque's ends may be used by many threads
            while self._passed and self._passed[0] < now - WINDOW:
                try:
                    self._passed.popleft()
                except IndexError:  # another thread was first
                    break
            return
        with self._lock:
            self._grow()

    def throttled(self, started: float, retry_after: float | None) -> None:
        """Slows down for a request, begun at `started`, that was answered 429.

        The other 429s of one burst don't count again: they were sent before the rate changed.
        """
        with self._lock:
            now = self._clock()
            if started >= self._changed:
                self._slow_down(now)
            assert self.rate is not None
            wait = 1 / self.rate if retry_after is None else retry_after
            self._hold = max(self._hold, now + min(wait, 60.0))

    def _slow_down(self, now: float) -> None:
        if self.rate is None:
            passed = sum(1 for t in self._passed if t >= now - WINDOW)
            self.rate = max(SLOWEST, passed / WINDOW, 1.0)
            self._failed_rate = None
        else:
            self._failed_rate = self.rate
            self.rate = max(SLOWEST, self.rate * DECREASE)
        self._changed = now
        self._next = now

    def _grow(self) -> None:
        rate, failed = self.rate, self._failed_rate
        assert rate is not None
        if rate == self._quota:
            return
        # Per request, so that slow quotas are probed slowly: a tenth of the way back to what
        # failed, then beyond it by half a percent.
        step = 0.03 * rate if failed is None else max((failed - rate) / 10, 0.0) or 0.005 * rate
        if failed is not None and failed - rate < 0.03 * failed:
            step = 0.002 * rate
        self.rate = rate + step
        if self._quota is not None:
            self.rate = min(self.rate, self._quota)
