"""What a target takes in one request is learned from what it refuses, at little cost."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from vecferry.errors import TerminalError, TransientError
from vecferry.io.sink import BlockWriter, SinkWriter
from vecferry.io.sink import delivery as sink_delivery
from vecferry.io.sink.room import Room
from vecferry.io.sink.store import Block, Record, TooLargeError, WriteLimits
from vecferry.process import end_run
from vecferry.retry import Backoff
from vecferry.rows import Change, Reject
from vecferry.steps import RunContext, StepContext

ROW = 1000
"""Bytes of a row."""
WHOLE = 100
"""Rows of a full request."""
WRITERS = {"row by row": SinkWriter, "in blocks": BlockWriter}


@pytest.fixture(scope="module", autouse=True)
def short_waits():
    """Waits a hundredth of what it would, so that retries cost a test nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sink_delivery, "Backoff", functools.partial(Backoff, base=0.002))
        yield


@dataclass
class Limited:
    """A store whose server takes what `fault` allows of a request's rows and bytes."""

    fault: Callable[[int, int], Exception | None]
    row: int = ROW
    written: list[int] = field(default_factory=list)
    requests: list[tuple[int, bool]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def encode(self, change):
        return Record("upsert", change["k"], dict(change), change.get("size", self.row))

    def encode_block(self, changes):
        size = sum(change.get("size", self.row) for change in changes)
        return Block(changes, {c["k"] for c in changes}, None, size)

    def send_block(self, block):
        return self.send([self.encode(change) for change in block.changes])

    def send(self, records):
        size = sum(r.size for r in records)
        with self.lock:
            error = self.fault(len(records), size)
            self.requests.append((size, error is None))
            if error is not None:
                raise error
            self.written += [r.key for r in records]

    def classify(self, error):
        return error

    @property
    def in_vain(self) -> int:
        """Bytes of refused requests."""
        return sum(size for size, good in self.requests if not good)


def above_bytes(most: int, make: Callable[[], Exception]):
    return lambda rows, size: make() if size > most else None


def above_rows(most: int, make: Callable[[], Exception]):
    return lambda rows, size: make() if rows > most else None


def too_large() -> Exception:
    return TooLargeError("413")


def refused() -> Exception:
    return TerminalError("400, and no word of why")


def short_of_memory() -> Exception:
    return TooLargeError("out of memory", passing=True)


def broken_off() -> Exception:
    return TransientError("connection reset")


def context(run: str = "") -> StepContext:
    more = {"shared": RunContext(id=run)} if run else {}
    return StepContext(step="Writer", step_type="memory", retry_deadline=60.0, **more)


def write(store, kind, rows, *, in_flight=4, within=None):
    """What comes out of one bundle."""
    limits = WriteLimits(rows=WHOLE, bytes=1 << 20, in_flight=in_flight)
    operator = WRITERS[kind](store, limits, within or context())
    out = [item for row in rows for item in operator.process(Change(row))]
    return out + operator.finish()


def numbers(n: int, **more: int) -> list[dict]:
    return [{"k": i, **more} for i in range(n)]


LIMITS = {
    "413 above half a request": above_bytes(WHOLE * ROW // 2, too_large),
    "413 above a third": above_bytes(WHOLE * ROW // 3, too_large),
    "413 above a tenth": above_bytes(WHOLE * ROW // 10, too_large),
    "413 above nine tenths": above_bytes(WHOLE * ROW * 9 // 10, too_large),
    "413 above half the rows": above_rows(WHOLE // 2, too_large),
    "413 above a hundredth of the rows": above_rows(1, too_large),
    "400 above half a request": above_bytes(WHOLE * ROW // 2, refused),
    "400 above 25 rows": above_rows(25, refused),
    "400 above 7 rows": above_rows(7, refused),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("limit", LIMITS)
def test_a_limit_costs_the_bytes_of_two_requests_at_most(kind, limit):
    """However many requests may be under way at once; and no row is lost."""
    store = Limited(LIMITS[limit])
    out = write(store, kind, numbers(3000))
    assert sorted(store.written) == list(range(3000))
    assert not any(isinstance(item, Reject) for item, _ in out)
    assert store.in_vain <= 2 * WHOLE * ROW
    assert len(store.requests) <= 4 * 3000 // max(n // ROW for n, good in store.requests if good)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("make", [too_large, refused])
def test_the_next_bundle_of_a_run_knows_the_limit(kind, make):
    """Another run asks anew."""
    store = Limited(above_bytes(WHOLE * ROW // 2, make))
    first, other = context("room-1"), context("room-2")
    write(store, kind, numbers(500), within=first)
    assert store.in_vain
    store.requests.clear()
    write(store, kind, numbers(500), within=first)
    assert store.in_vain == 0
    write(store, kind, numbers(500), within=other)
    assert store.in_vain
    for one in (first, other):
        end_run(one.run)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_row_that_is_too_large_alone_is_rejected_and_bounds_no_other(kind):
    """Full requests pass behind it."""
    store = Limited(above_bytes(WHOLE * ROW, too_large))
    rows = numbers(1000)
    rows[150]["size"] = 2 * WHOLE * ROW
    out = write(store, kind, rows)
    assert [item.row["k"] for item, _ in out if isinstance(item, Reject)] == [150]
    assert len(store.written) == 999
    assert (WHOLE * ROW, True) in store.requests


@pytest.mark.parametrize("kind", WRITERS)
def test_a_row_at_fault_makes_no_limit(kind):
    """The others go in full requests still."""
    bad = lambda rows, size: refused() if size % ROW else None  # noqa: E731
    store = Limited(bad)
    rows = numbers(1000)
    rows[50]["size"] = ROW + 1
    out = write(store, kind, rows)
    assert [item.row["k"] for item, _ in out if isinstance(item, Reject)] == [50]
    assert [size for size, good in store.requests if good].count(WHOLE * ROW) >= 8


@pytest.mark.parametrize("kind", WRITERS)
def test_a_proxy_that_breaks_large_requests_off_is_written_through(kind):
    """It never answers 413: what is smaller passes, so that the size is at fault."""
    store = Limited(above_bytes(WHOLE * ROW // 2, broken_off))
    out = write(store, kind, numbers(3000))
    assert sorted(store.written) == list(range(3000))
    assert len(out) == 3000
    assert store.in_vain <= 12 * WHOLE * ROW
    assert len(store.requests) <= 120


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("make", [short_of_memory, broken_off])
def test_what_passes_again_is_sent_in_full_requests_again(kind, make):
    """A server that was short of memory, or away as the run began, has no limit for ever."""
    left = [20]

    def fault(rows, size):
        left[0] -= 1
        return make() if left[0] > 0 else None

    store = Limited(fault)
    write(store, kind, numbers(40_000))
    assert sorted(store.written) == list(range(40_000))
    assert [size for size, _ in store.requests[-40:]].count(WHOLE * ROW) > 30


def test_a_server_that_takes_less_than_before_is_followed():
    """Another node behind the same address has a smaller limit."""
    most = [WHOLE * ROW]
    store = Limited(lambda rows, size: too_large() if size > most[0] else None)
    within = context("room-3")
    write(store, "row by row", numbers(1000), within=within)
    most[0] //= 4
    store.requests.clear()
    write(store, "row by row", numbers(1000), in_flight=1, within=within)
    assert store.in_vain <= 2 * WHOLE * ROW
    end_run(within.run)


@pytest.mark.slow
def test_a_request_larger_than_any_before_is_sent_alone():
    """The others wait for what becomes of it, and are cut if it is refused."""
    room, stop = Room(), threading.Event()
    assert room.enter(10, 1000, stop)
    answers: list[bool] = []
    waiting = threading.Thread(target=lambda: answers.append(room.enter(10, 1000, stop)))
    waiting.start()
    waiting.join(0.2)
    assert answers == []
    room.refuse(10, 1000, passing=False)
    room.leave(10, 1000, served=False)
    waiting.join(60)
    assert answers == [False]
    assert room.cut([100] * 10) == [5, 5]
    assert room.cut([900, 100, 100]) == [1, 2]


def test_who_waits_for_room_stops_with_the_bundle():
    """A closed writer leaves no thread behind."""
    room, stop = Room(), threading.Event()
    room.enter(10, 1000, stop)
    waiting = threading.Thread(target=room.enter, args=(10, 1000, stop))
    waiting.start()
    stop.set()
    waiting.join(60)
    assert not waiting.is_alive()
