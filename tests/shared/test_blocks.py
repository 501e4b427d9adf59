"""Rows go from process to process in blocks: whole, in their order, as fast as they are taken."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import numpy as np
import pytest

from tests.services.server import eventually
from vecferry.rows import DELETE, Change, change_at, substitute
from vecferry.run.blocks import (
    MOST_BYTES,
    MOST_ROWS,
    Block,
    Dealer,
    Gathered,
    Handing,
    alike,
    pack,
    unpack,
)

ALIKE = {
    "one like columns": [change_at({"id": i, "text": "x"}, "file:", i) for i in range(3)],
    "kinds and versions": [
        Change({"id": 1}, kind=DELETE, version=7, origin="t:1"),
        Change({"id": 2}, version=8, origin="t:2"),
    ],
    "other columns": [Change({"id": 1}), Change({"id": 2, "text": None}), Change({})],
    "another order of columns": [Change({"a": 1, "b": 2}), Change({"b": 2, "a": 1})],
    "a substitute": [substitute({"id": 1}, Change({"id": 1}, version=3, origin="o"), DELETE)],
    "no rows": [],
}


def all_of(row: Change) -> tuple[Any, ...]:
    return type(row), list(row.items()), row.kind, row.version, row.origin


@pytest.mark.parametrize("rows", ALIKE.values(), ids=ALIKE.keys())
def test_rows_arrive_as_they_were_sent(rows: list[Change]) -> None:
    """Columns in their order, kind, version, origin, and whether it is a substitute."""
    assert [all_of(r) for r in unpack(pack(rows))] == [all_of(r) for r in rows]


def test_vectors_arrive_to_the_bit() -> None:
    """As float32."""
    vector = np.random.default_rng(1).random(8, dtype=np.float32)
    (row,) = unpack(pack([Change({"vector": vector})]))
    assert row["vector"].dtype == np.float32
    assert row["vector"].tobytes() == vector.tobytes()


def test_like_rows_take_less_room_than_rows_by_themselves() -> None:
    """Names stand there once."""
    rows = [change_at({"id": i, "text": "x"}, "a file of a folder:", i) for i in range(MOST_ROWS)]
    assert len(pack(rows)) * 2 < len(pickle.dumps(rows))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (7, "7"),
        (7, 7.0),
        ("07", 7),
        (" 7 ", "7"),
        ("7.0", "7"),
        ("1e3", 1000),
        (2**60, str(2**60)),
        (2**60, float(2**60)),
        (7.5, "7.50"),
        ("0", "-0"),
        ("1e400", "10e399"),
        ("A0EEBC99-9C0B", "a0eebc99-9c0b"),
        ("a", "a "),
    ],
)
def test_values_of_one_id_are_alike(one: object, other: object) -> None:
    """A target may take them for the same."""
    assert alike(one) == alike(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("a", "b"), (1, 2), (1.5, 1), ("2ab", "2"), (None, 0), (2**60, 2**60 + 1), ("1e9999999", "1")],
)
def test_values_of_two_ids_are_not(one: object, other: object) -> None:
    """Or one worker would have them all."""
    assert alike(one) != alike(other)


def test_a_block_is_full_by_rows_or_by_bytes() -> None:
    """Whichever comes first."""
    block = Block()
    assert [block.add(Change({"n": n})) for n in range(MOST_ROWS)].index(True) == MOST_ROWS - 1
    assert len(block.take()) == MOST_ROWS
    assert block.add(Change({"image": bytes(MOST_BYTES)}))


class Workers:
    """What some workers were sent; none says that it took a block, unless told to."""

    def __init__(
        self, number: int, columns: tuple[str, ...] = ("id",), blocks: int = 10_000
    ) -> None:
        self.sent: list[list[Change | None]] = [[] for _ in range(number)]
        self.dealer = Dealer([self._sender(n) for n in range(number)], columns, blocks)

    def _sender(self, number: int) -> Any:
        def send(packed: bytes | None) -> None:
            rows = self.sent[number]
            rows.extend([None] if packed is None else unpack(packed))

        return send

    def rows(self, number: int) -> list[Change]:
        """The rows of a worker so far."""
        return [row for row in self.sent[number] if row is not None]


def test_rows_of_one_id_go_to_one_worker_in_order() -> None:
    """And every row to one; each worker is told the end."""
    workers = Workers(3)
    for n in range(2000):
        workers.dealer.put(Change({"id": f"id {n % 70}", "n": n}))
    workers.dealer.end()
    found = [workers.rows(n) for n in range(3)]
    assert sorted(row["n"] for rows in found for row in rows) == list(range(2000))
    assert all(len(rows) > 200 for rows in found)
    ids = [{row["id"] for row in rows} for rows in found]
    assert sum(map(len, ids)) == 70
    for rows in found:
        assert [row["n"] for row in rows] == sorted(row["n"] for row in rows)
    assert [sent[-1] for sent in workers.sent] == [None] * 3
    assert workers.dealer.dealt == [len(rows) for rows in found]


def test_rows_without_an_id_go_to_whoever_has_room() -> None:
    """In whole blocks."""
    workers = Workers(2, columns=(), blocks=2)
    for n in range(4 * MOST_ROWS):
        workers.dealer.put(Change({"n": n}))
    assert [len(workers.rows(n)) for n in range(2)] == [2 * MOST_ROWS] * 2
    workers.dealer.took(1)
    for n in range(MOST_ROWS):
        workers.dealer.put(Change({"n": n}))
    assert [len(workers.rows(n)) for n in range(2)] == [2 * MOST_ROWS, 3 * MOST_ROWS]
    workers.dealer.end()


def test_whoever_deals_waits_for_a_worker_that_is_slower() -> None:
    """Until it has taken a block, or is gone."""
    workers = Workers(1, blocks=1)
    done = threading.Event()

    def deal() -> None:
        for n in range(3 * MOST_ROWS):
            workers.dealer.put(Change({"id": n}))
        workers.dealer.end()
        done.set()

    threading.Thread(target=deal, daemon=True).start()
    eventually(lambda: workers.dealer.dealt == [2 * MOST_ROWS])
    assert len(workers.rows(0)) == MOST_ROWS
    workers.dealer.took(0)
    eventually(lambda: workers.dealer.dealt == [3 * MOST_ROWS])
    assert len(workers.rows(0)) == 2 * MOST_ROWS
    workers.dealer.lose(0)
    assert done.wait(60)
    assert len(workers.rows(0)) == 2 * MOST_ROWS


def test_a_row_does_not_wait_for_ever_for_others() -> None:
    """Where a source is slow: what waits is sent by itself."""
    workers = Workers(2)
    workers.dealer.put(Change({"id": 1}))
    eventually(lambda: len(workers.rows(0)) + len(workers.rows(1)) == 1)
    workers.dealer.close()
    assert workers.dealer.dealt in ([1, 0], [0, 1])


def test_rows_that_cannot_be_sent_late_fail_whoever_deals() -> None:
    """They are not lost without a word."""
    workers = Workers(1)
    workers.dealer.put(Change({"id": 1, "content": memoryview(b"x")}))
    eventually(lambda: workers.dealer.failed is not None)
    with pytest.raises(TypeError, match="memoryview"):
        workers.dealer.put(Change({"id": 2}))
    with pytest.raises(TypeError, match="memoryview"):
        workers.dealer.flush()
    workers.dealer.close()


def test_what_workers_make_is_given_in_the_order_of_each() -> None:
    """Each block is said to be taken before its rows are; none is after the end."""
    gathered, taken = Gathered(), list[int]()
    handing = Handing(lambda packed, rows: gathered.put(packed, lambda: taken.append(rows)))
    for n in range(MOST_ROWS + 1):
        handing.put(Change({"n": n}))
    handing.flush()
    gathered.end()
    assert [row["n"] for row in gathered.rows()] == list(range(MOST_ROWS + 1))
    assert taken == [MOST_ROWS, 1]


def test_nobody_waits_for_a_writer_that_is_gone() -> None:
    """What is there and what comes is let go."""
    gathered, taken = Gathered(), list[int]()
    gathered.put(pack([Change({"n": 1})]), lambda: taken.append(1))
    gathered.close()
    gathered.put(pack([Change({"n": 2})]), lambda: taken.append(2))
    assert taken == [1, 2]
