"""Rows on their way between the launcher and a worker of one machine, many in one message.

Apart from `vecferry.run.link` because both ends of a pipe make and take blocks.
"""

from __future__ import annotations

import contextlib
import decimal
import pickle
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from vecferry.rows import Change, as_columns, held_bytes, of_columns

MOST_ROWS, MOST_BYTES = 100, 1 << 20
"""A block has no more rows, and its last row is the one with which it has more bytes."""
MOST_SECONDS = 0.25
"""How long a row waits for others, if the next one comes late."""

SendBlock = Callable[[bytes, int], None]
"""Sends a packed block, and how many rows it has."""


def pack(rows: Sequence[Change]) -> bytes:
    """Rows as bytes, for a process of the same program."""
    columns = as_columns(rows)
    whole = list(rows) if columns is None else columns
    return pickle.dumps(whole, pickle.HIGHEST_PROTOCOL)


def unpack(packed: bytes) -> Iterable[Change]:
    """The rows that were packed."""
    found = pickle.loads(packed)
    return found if isinstance(found, list) else of_columns(*found)


class Block:
    """Rows that wait for others, to be sent with them."""

    def __init__(self) -> None:
        self.rows: list[Change] = []
        self._bytes = 0
        self._since = 0.0

    def add(self, row: Change) -> bool:
        """Takes a row; whether the block is full now."""
        if not self.rows:
            self._since = time.monotonic()
        self.rows.append(row)
        self._bytes += held_bytes(row)
        return len(self.rows) >= MOST_ROWS or self._bytes >= MOST_BYTES

    @property
    def is_old(self) -> bool:
        """Whether its first row has waited long enough."""
        return bool(self.rows) and time.monotonic() >= self._since + MOST_SECONDS

    def take(self) -> list[Change]:
        """All its rows, which leave it."""
        rows, self.rows, self._bytes = self.rows, [], 0
        return rows


class Handing:
    """Hands rows over in blocks to whoever is at the other end; for one bundle."""

    def __init__(self, send: SendBlock) -> None:
        self._send, self._block = send, Block()

    def put(self, row: Change) -> None:
        """Takes a row; sends what waits, if that is due."""
        if self._block.add(row) or self._block.is_old:
            self.flush()

    def flush(self) -> None:
        """Sends what waits."""
        rows = self._block.take()
        if rows:
            self._send(pack(rows), len(rows))


class Dealer:
    """Deals rows out to workers in blocks; rows of one id to one worker, in their order.

    Rows without an id go to whoever has room for a block. A worker has room for a few blocks, so
    whoever deals waits where all workers are slower.

    Args:
      senders: by worker, what sends it a block; None says that no more come.
      columns: the columns that make the id; empty where rows have none.
      blocks: how many blocks may wait at a worker.
    """

    def __init__(
        self,
        senders: Sequence[Callable[[bytes | None], None]],
        columns: Sequence[str],
        blocks: int,
    ) -> None:
        self._senders, self._columns = senders, tuple(columns)
        self._blocks = [Block() for _ in senders]
        self._room = [blocks] * len(senders)
        self._changed = threading.Condition()
        self._dealing = threading.Lock()
        self._gone = [False] * len(senders)
        self._ended = threading.Event()
        self._next = 0
        self.dealt = [0] * len(senders)
        self.failed: Exception | None = None
        threading.Thread(target=self._send_old, name="vecferry-dealer", daemon=True).start()

    def put(self, row: Change) -> None:
        """Deals a row; waits where the worker has no room for the block that it fills."""
        with self._dealing:
            self._go_on()
            number = self._number(row)
            self.dealt[number] += 1
            if self._blocks[number].add(row):
                self._send(number)

    def flush(self) -> None:
        """Sends all that waits."""
        with self._dealing:
            self._go_on()
            for number in range(len(self._blocks)):
                self._send(number)

    def took(self, number: int) -> None:
        """A worker has begun a block; it has room for another."""
        with self._changed:
            self._room[number] += 1
            self._changed.notify_all()

    def lose(self, number: int) -> None:
        """A worker is gone: what is dealt to it from now on is let go."""
        with self._changed:
            self._gone[number] = True
            self._changed.notify_all()

    def end(self) -> None:
        """Sends all that waits, and says that no more comes."""
        if self._ended.is_set():
            return
        try:
            self.flush()
        finally:  # else the workers would wait for more
            self._ended.set()
            for send in self._senders:
                send(None)

    def close(self) -> None:
        """Lets go of all that is still dealt, since nobody works any more."""
        self._ended.set()
        for number in range(len(self._gone)):
            self.lose(number)

    def _number(self, row: Change) -> int:
        if self._columns:
            return hash(tuple(map(alike, map(row.get, self._columns)))) % len(self._blocks)
        if not self._blocks[self._next].rows:
            with self._changed:
                self._next = max(range(len(self._room)), key=self._room.__getitem__)
        return self._next

    def _send(self, number: int) -> None:
        rows = self._blocks[number].take()
        if not rows:
            return
        with self._changed:
            while not self._room[number] and not self._gone[number]:
                self._changed.wait()
            if self._gone[number]:
                return
            self._room[number] -= 1
        self._senders[number](pack(rows))

    def _go_on(self) -> None:
        if self.failed is not None:
            raise self.failed

    def _send_old(self) -> None:
        while not self._ended.wait(MOST_SECONDS) and self.failed is None:
            with self._dealing:
                for number, block in enumerate(self._blocks):
                    if block.is_old:
                        try:
                            self._send(number)
                        except Exception as e:  # whoever deals next raises it
                            self.failed = e
                            return


def alike(value: object) -> str:
    """A text that is the same for all values which a target may take for one id.

    A target whose id is a number takes 7, 7.0 and "07" for the same. One whose id is a UUID
    does not tell upper case from lower. Two ids may be alike: they only go to the same worker.
    """
    text = str(value).strip().lower()
    if text[:1] in _NUMERIC:
        exact = isinstance(value, float) and value.is_integer()
        try:
            number = decimal.Decimal(value if exact else text)  # type: ignore[arg-type]
            return str((number + 0).normalize())
        except ArithmeticError:  # not a number, or far too large
            return text
    return text


_NUMERIC = frozenset("0123456789+-.")


class Gathered:
    """The blocks that workers have made, for the launcher to write."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[bytes, Callable[[], None]] | None]
        self._waiting = queue.SimpleQueue()
        self._closed = False

    def put(self, packed: bytes, took: Callable[[], None]) -> None:
        """Takes a block; calls `took` once its rows are worked on."""
        self._waiting.put((packed, took))
        if self._closed:
            self._let_go()

    def rows(self) -> Iterator[Change]:
        """The rows of all blocks, those of a worker in their order; ends behind `end`."""
        while (found := self._waiting.get()) is not None:
            packed, took = found
            took()
            yield from unpack(packed)

    def end(self) -> None:
        """No more blocks come."""
        self._waiting.put(None)

    def close(self) -> None:
        """Lets go of what is there and of what comes, since nobody writes it any more."""
        self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                found = self._waiting.get_nowait()
                if found is not None:
                    found[1]()
