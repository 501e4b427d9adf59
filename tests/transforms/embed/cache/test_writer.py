"""The thread that puts vectors into a cache: who fetched them goes on, memory stays bounded."""

from __future__ import annotations

import threading

import pytest

from tests.services.server import eventually
from vecferry.transforms.embed.cache.store import MOST_BYTES, MOST_WAITING, Items, Writer


class Gate:
    """A cache that writes only while its gate is open."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.writes: list[Items] = []

    def write(self, items: Items) -> None:
        """Waits for the gate."""
        assert self.open.wait(60)
        self.writes.append(items)


def _item(i: int, size: int = 4) -> tuple[bytes, bytes]:
    return (b"%d" % i, bytes(size))


def test_who_puts_does_not_wait_for_a_slow_cache() -> None:
    """What comes while one write is under way goes in with the next, all at once and in order."""
    gate = Gate()
    writer = Writer(gate.write)
    for i in range(100):
        writer.put([_item(i)])
    assert gate.writes == []
    gate.open.set()
    writer.close()
    assert [item for items in gate.writes for item in items] == [_item(i) for i in range(100)]
    assert len(gate.writes) <= 3


@pytest.mark.slow
@pytest.mark.parametrize(
    "items",
    [[_item(0, 2 * MOST_BYTES)], [_item(0, 4)] * MOST_WAITING],
    ids=["bytes", "vectors"],
)
def test_who_puts_waits_where_too_much_is_behind(items: Items) -> None:
    """Memory stays flat, and a kill costs little; a put too large by itself goes through alone."""
    gate = Gate()
    writer = Writer(gate.write)
    writer.put(items)
    through = threading.Event()

    def put() -> None:
        writer.put([_item(1)])
        through.set()

    thread = threading.Thread(target=put)
    thread.start()
    assert not through.wait(0.2)
    gate.open.set()
    assert through.wait(60)
    thread.join()
    writer.close()
    assert len(gate.writes) == 2


def test_one_that_is_closed_drops_what_comes_later_and_keeps_nobody_waiting() -> None:
    """Also whom it kept waiting before."""
    gate = Gate()
    writer = Writer(gate.write)
    writer.put([_item(0, 2 * MOST_BYTES)])
    late = threading.Thread(target=writer.put, args=([_item(1)],))
    late.start()
    closing = threading.Thread(target=writer.close)
    closing.start()
    late.join(60)
    assert not late.is_alive()
    assert closing.is_alive()  # it waits for what is being written
    gate.open.set()
    closing.join(60)
    writer.put([_item(2)])
    assert [len(items) for items in gate.writes] == [1]


def test_a_fault_of_the_program_is_told_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The next items are written."""
    seen: list[Items] = []

    def write(items: Items) -> None:
        seen.append(items)
        if len(seen) == 1:
            raise ZeroDivisionError

    writer = Writer(write)
    writer.put([_item(0)])
    eventually(lambda: len(seen) == 1)
    writer.put([_item(1)])
    writer.close()
    assert seen == [[_item(0)], [_item(1)]]
    assert "could not be put" in caplog.text
