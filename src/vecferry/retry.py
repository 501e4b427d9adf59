"""Waits before another try: full jitter, the server's own wish, and a deadline."""

from __future__ import annotations

import email.utils
import math
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from vecferry.errors import TransientError
from vecferry.waits import WAITS

T = TypeVar("T")


def parse_retry_after(
    value: str | None, date: str | None = None, now: datetime | None = None
) -> float | None:
    """Seconds to wait from a ``Retry-After`` header, a number or an HTTP date (RFC 9110 §10.2.3).

    None if the header is absent or neither; 0 for a date in the past. `date` is the ``Date`` header
    of the same answer: it counts in place of our own time where the two clocks differ. `now` is our
    own time.
    """
    if not value:
        return None
    try:
        seconds = float(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    when = http_date(value)
    if when is None:
        return None
    ours = now or datetime.now(UTC)
    theirs = http_date(date) or ours
    # A Date has whole seconds, rounded down: an equal clock of ours knows the time better.
    agree = -1.0 <= (ours - theirs).total_seconds() <= 2.0
    return max(0.0, (when - (ours if agree else theirs)).total_seconds())


def http_date(value: str | None) -> datetime | None:
    """The time of an HTTP date, such as a ``Date`` header; None if the text is not a date."""
    try:
        when = email.utils.parsedate_to_datetime(value or "")
    except (ValueError, OverflowError):  # a year beyond 9999, say
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


class Clock:
    """Time, as retries and quotas see it; a test may give one in which nothing takes long."""

    def now(self) -> float:
        """Seconds since some moment; it never goes back."""
        return time.monotonic()

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Waits until `seconds` are over or `stop` is set; whether it is set."""
        return stop.wait(seconds)


CLOCK = Clock()
"""The time of the machine."""


class Backoff:
    """The waits between tries of one call.

    Full jitter: a random time below ``base * 2**tries``, at most `cap` seconds. `deadline` is in
    seconds since the first try; with None, tries never end.
    """

    def __init__(
        self,
        *,
        deadline: float | None,
        base: float = 0.2,
        cap: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tries = 0
        self._base, self._cap, self._clock = base, cap, clock
        self._end = None if deadline is None else clock() + deadline

    @property
    def left(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return None if self._end is None else self._end - self._clock()

    def next_wait(self, retry_after: float | None = None) -> float | None:
        """Seconds to wait before the next try, or None when the deadline would have passed."""
        self.tries += 1
        wait = random.uniform(0, min(self._cap, self._base * 2 ** min(self.tries, 16)))
        if retry_after is not None:
            wait = retry_after + random.uniform(0, self._base)
        if self._end is not None and self._clock() + wait > self._end:
            return None
        return wait


def call_with_retries(
    call: Callable[[], T],
    *,
    deadline: float | None,
    what: str,
    sleep: Callable[[float], object] = time.sleep,
    on_retry: Callable[[], object] = lambda: None,
) -> T:
    """Calls until no `TransientError` is raised; past the deadline, raises that error.

    `what` begins the message of the last error, such as ``"step 'Writer': upsert of 100 rows"``.
    Where `sleep` gives True, the run is asked to stop, and nothing is tried again.
    """
    backoff, this = Backoff(deadline=deadline), object()
    try:
        while True:
            try:
                return call()
            except TransientError as e:
                wait = backoff.next_wait(e.retry_after)
                if wait is None:
                    text = f"{what}: gave up after {backoff.tries} tries: {e}"
                    raise TransientError(text, e.retry_after) from e
                on_retry()
                WAITS.failed(this, what, e, tries=backoff.tries, left=backoff.left)
                if sleep(wait) is True:
                    text = f"{what}: the run was asked to stop while it waited: {e}"
                    raise TransientError(text, e.retry_after) from e
    finally:
        WAITS.over(this)
