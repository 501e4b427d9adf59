"""How fast a process may ask: the quotas that a job names, and what the server's 429s teach.

If a job names its quota (`requestsPerMinute`, `tokensPerMinute`), requests are spaced evenly from
the first one. Otherwise the first requests begin a few at a time, one more for each that passes.
Then nothing is held back until the server answers 429. From then on the rate is that of the
requests that passed. It follows the quota by multiplicative decrease and additive increase. Within
`RETURN_SECONDS` it returns to the rate that failed, and goes slowly past it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

WINDOW = 1.0
"""Seconds over which passing requests are counted, to know what the server takes."""
DECREASE = 0.9
RETURN_SECONDS = 20.0
"""Time in which the rate returns to the one that failed last."""
FIRST_GROWTH = 0.3
"""Growth a second, as a share, while no rate has failed but the unknown one of the beginning."""
PROBE_GROWTH = 0.01
SLOWEST = 1 / 60
"""Requests a second below which the rate never falls: one a minute."""
LONGEST_HOLD = 600.0
"""Seconds that a Retry-After holds back a process at most."""
FLOOR = 0.7
"""Share of the best rate that passed, below which few refusals don't push the rate."""
FEW = 0.4
"""Share of refused requests up to which they may come at any rate."""
FORGET_SECONDS = 600.0
"""After so long the best rate counts a tenth less: a quota may have become smaller."""
FIRST_FLIGHT = 8
"""Requests that may be under way before any has passed."""
FULL_FLIGHT = 128
"""Requests under way from which on the beginning is over."""

log = logging.getLogger(__name__)


class Pacer:
    """Tells each request of this process when it may go; for any thread.

    Quotas are the whole run's; `share` tells which part of them is this process's now.
    """

    def __init__(
        self,
        requests_per_second: float | None = None,
        tokens_per_second: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        share: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._share = share
        self._clock = clock
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._flight, self._under_way = FIRST_FLIGHT, 0
        self._turn = threading.Lock()
        self._quota, self._token_rate = requests_per_second, tokens_per_second
        self._limited = requests_per_second is not None or tokens_per_second is not None
        self.counts_tokens = tokens_per_second is not None
        self._learned = False
        self._base = self._failed = 0.0  # the rate at `_changed`, and the one that failed before
        self._changed = self._slowed = self._next = self._next_token = self._hold = 0.0
        self._in_vain = 0  # decreases since the last request that passed
        self._passes: deque[float] = deque(maxlen=4096)
        self._refusals: deque[float] = deque(maxlen=4096)
        self._best = self._best_at = 0.0  # the most that passed since the first 429, and when
        self._first = 0.0  # when the first 429 came
        self._told = False
        self.last_success: float | None = None

    def acquire(self, tokens: int, sleep: Callable[[float], object]) -> None:
        """Waits with `sleep` until a request of about `tokens` may go; `done` must follow.

        One thread at a time sleeps for the next place; the others queue behind it.
        """
        if self._flight < FULL_FLIGHT:
            self._begin(sleep)
        if not self._limited:
            return
        with self._turn:
            while (wait := self.due()) > 0:
                sleep(wait)
            self.take(tokens)

    def done(self) -> None:
        """Ends what `acquire` began, whatever became of the request."""
        if self._flight < FULL_FLIGHT:
            with self._freed:
                self._under_way -= 1
                self._freed.notify()

    def _begin(self, sleep: Callable[[float], object]) -> None:
        with self._freed:
            while self._under_way >= self._flight and not self._limited:
                self._freed.wait(0.1)
                sleep(0)
            self._under_way += 1

    def due(self) -> float:
        """Seconds until the next request may go; 0 or less means now."""
        return max(self._next, self._next_token, self._hold) - self._clock()

    def take(self, tokens: int) -> None:
        """Books a request that goes now."""
        with self._lock:
            now = self._clock()
            rate = self.rate(now)
            if rate is not None:
                self._next = max(now, self._next) + 1 / rate
            if self._token_rate is not None:
                rate = self._token_rate * self._share()
                self._next_token = max(now, self._next_token) + tokens / rate

    def rate(self, now: float) -> float | None:
        """Requests a second that are allowed now; None is any number."""
        quota = None if self._quota is None else self._quota * self._share()
        if not self._learned:
            return quota
        passed = max(now - self._changed, 0.0)
        if not self._failed:
            rate = self._base * float((1 + FIRST_GROWTH) ** min(passed, 60.0))
        elif passed < RETURN_SECONDS:
            rate = self._base + (self._failed - self._base) * passed / RETURN_SECONDS
        else:
            beyond = min(passed - RETURN_SECONDS, 600.0)
            rate = self._failed * (1 + PROBE_GROWTH * beyond * (1 + beyond / 10))
        return rate if quota is None else min(rate, quota)

    def passed(self) -> None:
        """Counts a request that the server took."""
        now = self._clock()
        self.last_success = now
        self._in_vain = 0
        self._passes.append(now)
        if self._flight < FULL_FLIGHT:
            with self._freed:
                self._flight += 1
                self._freed.notify_all()

    def throttled(self, started: float, retry_after: float | None) -> None:
        """Slows down for a request, begun at `started`, that was answered 429.

        The other 429s of one burst don't count again: they were sent before the rate changed.
        """
        with self._lock:
            now = self._clock()
            self._refusals.append(now)
            first = not self._learned
            if first or (started > self._slowed and not self._at_floor(now)):
                self._slow_down(now)
            rate = self.rate(now)
            least = 1 / rate if rate else 1.0
            wait = least if retry_after is None else max(retry_after, least)
            self._hold = max(self._hold, now + min(wait, LONGEST_HOLD))
            if self._slowed == now or wait > 2 * WINDOW:
                self._changed = max(self._changed, self._hold)
            self._next = self._hold

    def _at_floor(self, now: float) -> bool:
        """Whether refusals come at any rate: few of them, far below a rate that passed before."""
        rate = self.rate(now)
        assert rate is not None
        window = min(max(4 * WINDOW, 20 / rate), 60.0)
        if now - self._first < window:
            return False
        good = self._good(now, window)
        refused = sum(1 for t in self._refusals if t > now - window) / window
        if good >= self._best:
            self._best, self._best_at = good, now
        elif now - self._best_at > FORGET_SECONDS:
            self._best, self._best_at = 0.9 * self._best, now
        share = refused / (good + refused)
        few = rate <= FLOOR * self._best and share <= FEW
        slow = rate <= FLOOR / 2 * self._best and share <= 2 * FEW
        if not few and not slow:
            return False
        if not self._told:
            self._told = True
            log.warning(
                "the endpoint refuses %.0f %% of the requests (429), however slowly they come: "
                "they go on at %.3g a second",
                100 * share,
                rate,
            )
        return True

    def _slow_down(self, now: float) -> None:
        """Sets the rate to what the server showed that it takes, a tenth below what failed."""
        rate = self.rate(now)
        if not self._learned:
            self._learned = self._limited = True
            self._first = now
            if rate is None:
                self._base = max(self._good(now, WINDOW), 1.0)
            else:
                self._failed, self._base = rate, rate * DECREASE
        else:
            assert rate is not None
            window = min(max(WINDOW, 10 / rate), 10.0)
            good = self._good(now, window)
            self._in_vain += 1
            lowest = rate / 2 if self._in_vain < 3 else rate / 4
            self._base = max(SLOWEST, lowest, min(rate * DECREASE, good))
            self._failed = min(rate, self._base * 1.2)
        self._changed = self._slowed = now

    def _good(self, now: float, window: float) -> float:
        """Requests a second that passed within the last `window` seconds."""
        return sum(1 for t in list(self._passes) if t > now - window) / window
