"""How fast a process may ask: the quotas that a job names, and what the server's 429s teach.

If a job names its quota (`requestsPerMinute`, `tokensPerMinute`), requests are spaced evenly from
the first one. Otherwise the first requests begin a few at a time, one more for each that passes.
Then nothing is held back until the server answers 429. From then on there is a rate:

- *Seeking a quota.* The rate follows the quota by multiplicative decrease and additive increase.
  Within `RETURN_SECONDS` it returns to the rate that failed, and goes slowly past it.
- *Shut out.* While nothing passes, the rate falls; the longer this takes, the fewer requests ask.
  With the first that passes, the rate is again the one that passed before.
- *Steady.* Some servers refuse a share of all requests at any rate. The share does not fall when
  the rate falls, which a quota explains no more. Then the rate grows for as long as the share
  stays as it is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from vecferry.transforms.embed.steady import MOST_REFUSED, SLOWEST, WINDOW, Steady

DECREASE = 0.9
RETURN_SECONDS = 20.0
"""Time in which the rate returns to the one that failed last."""
FIRST_DOUBLING = 1.0
"""Seconds in which the rate doubles, while none has failed but the unknown one of the beginning."""
FIRST_DECREASE = 0.75
DEAR = 20
"""Requests that might go while the server wants none, from which on a refusal is dear."""
NEAR, NEAR_AGAIN = 0.97, 1.05
"""After a dear refusal the rate returns to less than what failed, and grows less at first."""
PROBE_GROWTH = 0.01
TEN = 10.0
DEEPEST = 4
"""The rate is at least such a part of the most that passed within ten seconds, lately."""
SHUT = 8
"""Decreases without a request that passed, from which on the server is taken to be shut."""
POLLS = 8
"""While nothing passes, a request goes each time that the while has grown by such a part."""
LONG = 60.0
"""Seconds over which quotas are counted by many services."""
LONGEST_HOLD = 600.0
"""Seconds that a Retry-After holds back a process at most."""
FIRST_FLIGHT = 8
"""Requests that may be under way before any has passed."""
FULL_FLIGHT = 128
"""Requests under way from which on the beginning is over."""
OUTCOMES = 2000
"""Answers that are looked at, to tell whether refusals come at any rate."""
FEWEST = 16
"""Answers from which on this can be told."""
MEMORY = 300.0
"""Seconds after which an answer tells nothing more, if there are newer ones."""
CONTRAST = 1.2
"""High rates are at least so many times the low ones, if they are to be compared."""
TRIAL_GROWTH = 4.0
"""A low rate times this is tried, to see whether the rate plays no part."""

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
        self._passes: deque[float] = deque(maxlen=20_000)
        self._in_vain = 0  # decreases since the last request that passed
        self._before = 0.0  # the rate before them
        self._best = self._best_at = 0.0
        self._began: float | None = None
        self._outcomes: deque[tuple[float, float, bool]] = deque(maxlen=OUTCOMES)
        self._sent: deque[tuple[float, float]] = deque(maxlen=1000)
        self._steady: Steady | None = None
        self._fewest = FEWEST
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
                if self._learned:
                    since = now - self._sent[-1][0] if self._sent else 0.0
                    self._sent.append((now, min(rate, 1 / max(since, 1e-6))))
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
        if self._steady is not None:
            rate = self._base
        elif not self._failed:
            rate = self._base * float(2 ** min(passed / FIRST_DOUBLING, 20.0))
        elif passed < RETURN_SECONDS:
            rate = self._base + (self._failed - self._base) * passed / RETURN_SECONDS
        else:
            beyond = min(passed - RETURN_SECONDS, 600.0)
            rate = self._failed * (1 + PROBE_GROWTH * beyond * (1 + beyond / 10))
        return rate if quota is None else min(rate, quota)

    def passed(self, started: float) -> None:
        """Counts a request, begun at `started`, that the server took."""
        now = self._clock()
        if self._began is None:
            self._began = started
        self.last_success = now
        self._passes.append(now)
        if self._learned:
            with self._lock:
                if self._in_vain:
                    self._resume(now)
                self._note(started, now, good=True)
        if self._flight < FULL_FLIGHT:
            with self._freed:
                self._flight += 1
                self._freed.notify_all()

    def throttled(self, started: float, retry_after: float | None) -> float:
        """Slows down for a request, begun at `started`, that was answered 429.

        The other 429s of one burst don't count again: they were sent before the rate changed.
        Gives the seconds that this request should wait by itself, whatever others do.
        """
        with self._lock:
            now = self._clock()
            if self._steady is not None:
                self._note(started, now, good=False)
                return min(retry_after or 0.0, LONGEST_HOLD)
            first = not self._learned
            slows = first or started > self._slowed
            self._note(started, now, good=False)
            if slows:
                self._slow_down(now, retry_after or 0.0)
                self._look_for_share(now)
                if self._steady is not None:
                    return min(retry_after or 0.0, LONGEST_HOLD)
            rate = self.rate(now)
            least = 1 / rate if rate else 1.0
            wait = least if retry_after is None else max(retry_after, least)
            self._hold = max(self._hold, now + min(wait, LONGEST_HOLD))
            if self._slowed == now or wait > 2 * WINDOW:
                self._changed = max(self._changed, self._hold)
            self._next = self._hold
            return 0.0

    def _slow_down(self, now: float, hold: float) -> None:
        """Sets the rate to what the server showed that it takes, a tenth below what failed.

        `hold` is how long the server wants to be left alone.
        """
        rate = self.rate(now)
        if not self._learned:
            self._learned = self._limited = True
            if rate is None:
                self._base = max(self._good(now, WINDOW), 1.0)
            else:
                self._failed, self._base = rate, rate * DECREASE
        else:
            assert rate is not None
            window = min(max(WINDOW, 10 / rate), 10.0)
            if now - self._changed > WINDOW / 2:  # nothing passes while a Retry-After is kept to
                window = min(window, now - self._changed)
            good = self._passing(now, window)
            if not self._in_vain:
                self._before = rate
            self._in_vain += 1
            lowest = rate / 2 if self._in_vain < 3 else rate / 4
            if not self._failed and hold * rate < DEAR:
                # It grew all the time, past what is taken.
                good = max(good, FIRST_DECREASE * rate)
            lowest = max(lowest, SLOWEST, self._poll(now))
            lowest = max(lowest, min(rate, self._floor(now)))
            self._base = max(lowest, min(rate * DECREASE, good))
            near, far = (NEAR, NEAR_AGAIN) if hold * rate >= DEAR else (1.0, 1.2)
            self._failed = min(near * rate, far * self._base)
        self._changed = self._slowed = now

    def _floor(self, now: float) -> float:
        """A part of the most that passed lately, which becomes half as much in a minute."""
        passing = self._good(now, TEN)
        floor = self._best * float(0.5 ** ((now - self._best_at) / LONG))
        if passing >= floor:
            self._best, self._best_at = passing, now
            floor = passing
        return floor / DEEPEST

    def _poll(self, now: float) -> float:
        """Requests a second that are enough to notice soon that the server takes some again."""
        if self.last_success is None:
            return SLOWEST
        away = now - self.last_success
        return min(POLLS / away, self._before) if away > max(2.0, 20 / self._before) else SLOWEST

    def _resume(self, now: float) -> None:
        """Goes on as before, after a while in which nothing passed."""
        if self._in_vain > 1:
            rate = self.rate(now)
            assert rate is not None
            away = now - self._passes[-2] if len(self._passes) > 1 else 0.0
            passing = self._passing(now, max(LONG, 1.25 * away))
            self._base = max(rate, min(DECREASE * self._before, passing))
            self._failed = max(self._failed, self._base)
            self._changed = self._slowed = now
        if self._in_vain > SHUT:
            self._outcomes.clear()  # refused at any rate, but for a while
        self._in_vain = 0

    def _passing(self, now: float, window: float) -> float:
        """Requests a second that passed within a window, or since the beginning if it is later."""
        began = now if self._began is None else self._began
        return self._good(now, min(window, max(now - began, WINDOW)))

    def _note(self, started: float, now: float, *, good: bool) -> None:
        """Keeps an answer, with the rate at which its request was sent, pauses included."""
        if not self._learned or started < self._changed:
            return
        rate = self.rate(now)
        assert rate is not None
        if self._steady is None:
            sent = next((rate for at, rate in reversed(self._sent) if at <= started), None)
            if sent is not None:
                self._outcomes.append((now, sent, good))
            return
        steady = self._steady
        verdict = steady.note(now, rate, good=good)
        if verdict is None:
            return
        self._base, self._changed = verdict, now
        if steady.proved:
            self._fewest = FEWEST
            self._tell(steady.share, verdict)
        if steady.ended:
            if not steady.proved:
                self._fewest *= 2
            self._steady = None
            self._outcomes.clear()
            self._failed, self._slowed, self._in_vain = 1.1 * verdict, now, 0

    def _look_for_share(self, now: float) -> None:
        """Finds out whether low rates are refused as often as high ones: then no rate helps."""
        seen = self._outcomes
        while len(seen) > 4 * self._fewest and seen[0][0] < now - MEMORY:
            seen.popleft()
        if len(seen) < self._fewest or self._in_vain > SHUT:
            return
        rated = sorted((rate, good) for _, rate, good in seen)
        low, high = rated[: len(rated) // 2], rated[len(rated) // 2 :]
        refused_low, refused_high = (sum(not good for _, good in half) for half in (low, high))
        share = refused_low / len(low)
        if 2 * refused_low < refused_high or share > MOST_REFUSED:
            return
        if high[len(high) // 2][0] < CONTRAST * low[len(low) // 2][0]:
            return  # the rates are too alike to tell
        runs, before = 0, True
        for _, rate, good in seen:  # refusals in a row may be a time in which nothing passed
            runs += before and not good and rate <= low[-1][0]
            before = good
        if runs < 3:
            return
        median = low[-1][0]
        self._steady = Steady(median, share, now)
        self._base = max(rated[-1][0], TRIAL_GROWTH * median)
        self._changed, self._in_vain = now, 0
        self._hold = self._next = now

    def _tell(self, share: float, rate: float) -> None:
        if not self._told:
            self._told = True
            log.warning(
                "the endpoint refuses %.0f %% of the requests (429), however slowly they come: "
                "they go on at %.3g a second and faster",
                100 * share,
                rate,
            )

    def _good(self, now: float, window: float) -> float:
        """Requests a second that passed within the last `window` seconds."""
        passes = list(self._passes)
        if len(passes) == self._passes.maxlen:
            window = max(min(window, now - passes[0]), 0.001)
        return sum(at > now - window for at in passes) / window
