"""Virtual time goes on while all wait, in the right order, and ends a wait that is called off."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from tests.virtual_time import VirtualClock


@pytest.fixture
def clock() -> Iterator[VirtualClock]:
    """A time of its own."""
    clock = VirtualClock()
    yield clock
    clock.close()


def test_an_hour_takes_no_time(clock: VirtualClock) -> None:
    """A wait ends at its moment, and not before."""
    before, began = clock.now(), time.monotonic()
    assert clock.wait(threading.Event(), 3600) is False
    assert clock.now() - before == 3600
    assert time.monotonic() - began < 60


def test_who_waits_less_is_woken_first(clock: VirtualClock) -> None:
    """In the order of the moments, whatever the order in which the waits began."""
    woken: list[tuple[int, float]] = []
    begun, start = threading.Barrier(3), clock.now()

    def sleep(seconds: int) -> None:
        begun.wait()
        clock.wait(threading.Event(), seconds)
        woken.append((seconds, clock.now() - start))

    threads = [threading.Thread(target=sleep, args=(seconds,)) for seconds in (30, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert woken == [(10, 10), (20, 20), (30, 30)]


def test_a_wait_that_is_called_off_ends(clock: VirtualClock) -> None:
    """As one of the time of the machine does."""
    stop = threading.Event()
    clock.later(5, stop.set)
    assert clock.wait(stop, 1e9) is True
    assert clock.wait(stop, 1) is True
