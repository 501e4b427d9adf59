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
            elif what == "rest":
                self.idle += 1
            else:
                self.under_way -= 1
                self.idle += 1
                self.answers += 1
                if wish is None:
                    self.pacer.passed(started)
                    end = self.now
                else:
                    self.refused += 1
                    self.todo += 1
                    alone = self.pacer.throttled(started, self.hint(wish))
                    if alone:
                        self.idle -= 1
                        self._push(alone, "rest")
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
    """Five requests a second: at most a tenth of 429s and 1.1 times the ideal time."""
    simulation = _Simulation(5, 5, workers, HINTS[hint])
    assert simulation.run(200) <= 1.1 * (200 - 5) / 5
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
    """Little time is lost, and the server is not hammered.

    A whole second that is asked for is long to a burst which is used up in a tenth of it.
    """
    simulation = _Simulation(rate, burst, workers, HINTS[hint])
    ideal = max((requests - burst) / rate, requests * LATENCY / workers)
    assert simulation.run(requests) <= (1.2 if hint == "seconds" and burst < rate else 1.1) * ideal
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


class _Window(_Bucket):
    """A quota that is counted anew every `span` seconds, as many services do."""

    def __init__(self, most: float, span: float, now: float) -> None:
        super().__init__(most / span, most, now)
        self.span, self.used = span, 0.0

    def wish(self, now: float) -> float | None:
        if now - self.at >= self.span:
            self.at += (now - self.at) // self.span * self.span
            self.used = 0
        if self.used < self.burst:
            self.used += 1
            return None
        return self.at + self.span - now


@pytest.mark.slow
@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize(
    ("most", "span", "workers", "requests"),
    [(300, 60, 16, 3000), (60, 60, 16, 600), (100, 10, 16, 1000), (1000, 60, 64, 8000)],
)
def test_a_quota_of_a_minute_is_found(most, span, workers, requests, hint):
    """Once it is used up nothing passes for most of a minute, and then the work goes on at once."""
    simulation = _Simulation(1, 1, workers, HINTS[hint])
    simulation.server = _Window(most, span, simulation.now)
    ideal = (requests - 1) // most * span
    assert simulation.run(requests) <= (1.2 if hint == "no hint" else 1.1) * ideal
    assert simulation.refused <= 0.3 * simulation.answers


class _Changing(_Bucket):
    """A quota that becomes another one in time; a share is refused whatever the rate."""

    def __init__(self, plan: list[tuple[float, float]], share: float, now: float) -> None:
        super().__init__(plan[0][1], plan[0][1], now)
        self.plan, self.begun, self.share, self.chance = plan, now, share, random.Random(3)

    def wish(self, now: float) -> float | None:
        for at, rate in self.plan:
            if now - self.begun >= at:
                self.rate = self.burst = rate
        return 0.0 if self.chance.random() < self.share else super().wish(now)

    def seconds_for(self, requests: float) -> float:
        """The least time that this takes."""
        ends = [at for at, _ in self.plan[1:]] + [math.inf]
        for (at, rate), end in zip(self.plan, ends, strict=True):
            if requests <= (end - at) * rate:
                return at + requests / rate
            requests -= (end - at) * rate
        raise AssertionError


@pytest.mark.slow
@pytest.mark.parametrize("hint", HINTS)
@pytest.mark.parametrize(
    ("plan", "share", "times", "refused"),
    [
        ([(0, 50), (30, 5)], 0.0, 1.2, 0.2),
        ([(0, 50), (30, 20)], 0.0, 1.2, 0.2),
        ([(0, 20), (60, 10), (120, 20)], 0.0, 1.2, 0.2),
        ([(0, 20), (60, 5), (180, 20)], 0.1, 1.4, 0.6),
        ([(0, 5)], 0.2, 1.4, 0.7),
        ([(0, 20)], 0.1, 1.4, 0.5),
    ],
)
def test_a_quota_that_changes_is_followed(plan, share, times, refused, hint):
    """Also if a share is refused besides."""
    simulation = _Simulation(1, 1, 16, HINTS[hint])
    server = simulation.server = _Changing(plan, share, simulation.now)
    assert simulation.run(3000) <= times * server.seconds_for(3000)
    assert simulation.refused <= refused * simulation.answers


class _Refusing(_Bucket):
    """A server that refuses a share of the requests, whatever their rate."""

    def __init__(self, share, seed=1):
        super().__init__(1e9, 1e9, 0.0)
        self.share, self.chance = share, random.Random(seed)

    def wish(self, now):
        return 0.0 if self.chance.random() < self.share else None


@pytest.mark.slow
@pytest.mark.parametrize("hint", [lambda wish: None, lambda wish: 0.0, lambda wish: 0.1])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.01, 0.03, 0.05, 0.08, 0.1, 0.2, 0.3])
def test_refusals_that_come_at_any_rate_do_not_stall(share, seed, hint, caplog):
    """The rate rises as far as four workers can go, most often; this is told once at most."""
    simulation = _Simulation(1, 1, 4, hint)
    simulation.server = _Refusing(share, seed)
    simulation.run(600)
    early = simulation.now
    simulation.run(2000)
    assert 2000 / (simulation.now - early) >= 10.0
    assert caplog.text.count("however slowly they come") <= 1


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.7])
def test_a_server_that_refuses_most_is_asked_on(share):
    """At once a second or more, some minutes after the beginning."""
    simulation = _Simulation(1, 1, 16, lambda wish: None)
    simulation.server = _Refusing(share, 4)
    simulation.run(600)
    early = simulation.now
    simulation.run(2000)
    assert 2000 / (simulation.now - early) >= 1.0


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
