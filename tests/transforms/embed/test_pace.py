"""The pacer: finds a quota that nobody told it, keeps to one that the job names."""

from __future__ import annotations

import heapq
import itertools
import math
import random

import pytest

from vecferry.transforms.embed.pace import Pacer

LATENCY = 0.1


class _Bucket:
    """The server's quota: `rate` requests a second, `burst` at once."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self.rate, self.burst, self.level, self.at = rate, burst, burst, now

    def wish(self, now: float) -> float | None:
        self.level = min(self.burst, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level >= 1 - 1e-9:
            self.level -= 1
            return None
        return (1 - self.level) / self.rate


class _Simulation:
    """Workers behind one pacer against a server, in simulated time."""

    def __init__(self, rate, burst, workers, hint, quota=None):
        self.now = 100.0
        self.pacer = Pacer(quota, clock=lambda: self.now)
        self.server = _Bucket(rate, burst, self.now)
        self.events: list[tuple] = []
        self.order = itertools.count()
        self.idle, self.under_way, self.refused, self.answers = workers, 0, 0, 0
        self.hint, self.woken = hint, False

    def run(self, requests: int) -> float:
        """The seconds until all have passed."""
        self.todo = requests
        self._start()
        end = self.now
        while self.events:
            self.now, _, what, started, wish = heapq.heappop(self.events)
            if what == "wake":
                self.woken = False
            else:
                self.under_way -= 1
                self.idle += 1
                self.answers += 1
                if wish is None:
                    self.pacer.passed()
                    end = self.now
                else:
                    self.refused += 1
                    self.todo += 1
                    self.pacer.throttled(started, self.hint(wish))
            self._start()
        return end - 100.0

    def _start(self) -> None:
        while self.idle and self.todo:
            if self.pacer._limited:
                wait = self.pacer.due()
                if wait > 1e-9:
                    if not self.woken:
                        self._push(wait, "wake")
                        self.woken = True
                    return
                self.pacer.take(0)
            elif self.under_way >= self.pacer._flight:
                return
            self.idle, self.todo, self.under_way = self.idle - 1, self.todo - 1, self.under_way + 1
            self._push(LATENCY, "answer", self.server.wish(self.now))

    def _push(self, delay, what, wish=None):
        heapq.heappush(self.events, (self.now + delay, next(self.order), what, self.now, wish))


HINTS = {"no hint": lambda wish: None, "exact": lambda wish: wish, "seconds": math.ceil}


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize("workers", [16, 64])
def test_an_unknown_quota_is_found(workers, hint):
    """Five requests a second: at most a tenth of 429s and 1.25 times the ideal time."""
    simulation = _Simulation(5, 5, workers, HINTS[hint])
    assert simulation.run(200) <= 1.25 * (200 - 5) / 5
    assert simulation.refused <= 0.1 * simulation.answers


@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize(
    ("rate", "burst", "workers", "requests"),
    [
        (50, 50, 16, 2000),
        (50, 50, 64, 2000),
        (100, 10, 64, 3000),
        (20, 20, 4, 1000),
        (5, 60, 16, 400),
    ],
)
def test_quotas_of_many_shapes_are_kept_to(rate, burst, workers, requests, hint):
    """Little time is lost, and the server is not hammered."""
    simulation = _Simulation(rate, burst, workers, HINTS[hint])
    ideal = max((requests - burst) / rate, requests * LATENCY / workers)
    assert simulation.run(requests) <= 1.4 * ideal
    assert simulation.refused <= 0.12 * simulation.answers


def test_a_quota_that_the_job_names_is_never_overrun():
    """`requestsPerMinute: 300` against five a second: no 429, a tenth over the ideal at most."""
    simulation = _Simulation(5, 5, 16, HINTS["seconds"], quota=5.0)
    assert simulation.run(200) <= 1.1 * 195 / 5
    assert simulation.refused == 0


def test_a_quota_that_shrinks_below_what_the_job_names_is_followed():
    """The named quota is a bound, the server's word is the law."""
    simulation = _Simulation(5, 5, 16, HINTS["exact"], quota=10.0)
    assert simulation.run(200) <= 1.25 * 195 / 5
    assert simulation.refused <= 0.1 * simulation.answers


def test_without_a_429_nothing_is_held_back_but_the_very_beginning():
    """Twice as many under way with each round; from a hundred on nobody asks the pacer."""
    simulation = _Simulation(1e9, 1e9, 64, HINTS["exact"])
    assert simulation.run(6400) <= 6400 * LATENCY / 64 + 0.5
    assert simulation.refused == 0


class _Refusing(_Bucket):
    """A server that refuses a share of the requests, whatever their rate."""

    def __init__(self, share):
        super().__init__(1e9, 1e9, 0.0)
        self.share, self.chance = share, random.Random(1)

    def wish(self, now):
        return 0.0 if self.chance.random() < self.share else None


@pytest.mark.parametrize("hint", [lambda wish: None, lambda wish: 0.0, lambda wish: 0.1])
@pytest.mark.parametrize("share", [0.01, 0.03, 0.05, 0.08, 0.1])
def test_refusals_that_come_at_any_rate_do_not_stall(share, hint, caplog):
    """At two a second, at least; this is told once at most."""
    simulation = _Simulation(1, 1, 4, hint)
    simulation.server = _Refusing(share)
    simulation.run(300)
    early = simulation.now
    simulation.run(2000)
    assert 2000 / (simulation.now - early) >= 2.0
    assert caplog.text.count("however slowly they come") <= 1


@pytest.mark.parametrize("hint", [lambda wish: 0.0, lambda wish: 0.001, lambda wish: None])
def test_a_wish_of_nothing_is_no_licence_to_hammer(hint):
    """`Retry-After: 0` without end: few requests a second, and fewer with time."""
    simulation = _Simulation(1, 1, 16, hint)
    simulation.server = _Refusing(1.0)
    simulation.pacer.throttled(simulation.now, 0.0)
    sent, begun = 0, simulation.now
    while sent < 100:
        wait = simulation.pacer.due()
        simulation.now += max(wait, 0.0)
        simulation.pacer.take(0)
        sent += 1
        started = simulation.now
        simulation.now += 0.001
        simulation.pacer.throttled(started, hint(0.0))
    assert simulation.now - begun >= 100
