"""A rate for servers that refuse a share of all requests, however slowly they come.

Apart from `pace` because a refusal there tells of the rate, and here only a greater share of them
does.
"""

from __future__ import annotations

WINDOW = 1.0
"""Seconds over which passing requests are counted, to know what the server takes."""
SLOWEST = 1 / 60
"""Requests a second below which the rate never falls: one a minute."""
MOST_REFUSED = 0.9
"""Share of refused requests above which it is useless to go on as fast."""
STEADY_GROWTH = 1.25
TRIAL = 30
"""Answers by which it is tried whether the rate plays no part."""
MARGIN = 0.1
"""By so much more refused requests a rate shows that it is too high, if a share is refused anyway.
"""
LEAST_SHARE = 0.003
"""A share below which nothing is refused any more."""


class Steady:
    """Watches the share of requests that a server refuses at any rate; window by window.

    First it tries whether requests at a multiple of the rate are refused as seldom as those at
    `low`, of which the share `refused` was. `ended` tells that the rate plays a part after all, or
    that nothing is refused any more; `proved` that it plays none.
    """

    def __init__(self, low: float, refused: float, now: float) -> None:
        self._low, self.share = low, refused
        self.ended = self.proved = False
        self._since, self._sent, self._refused = now, 0, 0
        self._too_many = 0
        self._failed = 0.0
        self._most = 1.0

    def note(self, now: float, rate: float, *, good: bool) -> float | None:
        """The new rate at the end of a window; None within it."""
        self._sent += 1
        self._refused += not good
        sent, took = self._sent, now - self._since
        if sent < TRIAL or took < WINDOW:
            return None
        refused, part = self._refused, self._refused / sent
        self._since, self._sent, self._refused = now, 0, 0
        if not self.proved:
            # By a quota, the share that passes falls as the rate rises, else it stays.
            real = sent / took  # less than the rate, where requests wait by themselves
            least = (1 - self.share) * min(1.0, self._low / real) ** 0.5
            if real < 1.5 * self._low:
                least = 1 - self.share - MARGIN
            self.proved = 1 - part >= least and part <= MOST_REFUSED
            self.ended, self.share = not self.proved, part
            self._most = part + MARGIN / 2
            return rate if self.proved else self._low
        spread = (max(self.share, 0.05) * (1 - self.share) / sent) ** 0.5
        if part > self.share + max(MARGIN, 2.5 * spread):
            self._too_many += 1
            self._failed = rate
            self.ended = self._too_many >= 3
            passing = 0.9 * (sent - refused) / took / (1 - self.share)
            return max(SLOWEST, min(0.9 * rate, max(passing, rate / 2)))
        self._too_many = 0
        self.share = min(self._most, self.share + 0.1 * (part - self.share))
        self.ended = self.share < LEAST_SHARE
        if sent / took < 0.7 * rate:  # fewer are sent than may be
            return rate
        near = 0.8 * self._failed < rate < 1.1 * self._failed
        return rate * (1.05 if near else STEADY_GROWTH)
