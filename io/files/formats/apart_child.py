"""The child process of `vecferry.io.files.formats.apart`: it reads tables for its parent.

Every message goes over one socket. The child says that it is ready. Then its parent asks, and the
child answers once. Before an answer the child may ask for bytes of the file (`READ`), and the
parent sends them. When the parent is gone the child ends, whatever it is at.

Apart from `vecferry.io.files.formats.apart` because the child needs nothing of the parent.
"""

from __future__ import annotations

import importlib
import io
import itertools
import os
import resource
import select
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

import orjson
import pyarrow as pa

from vecferry.io.common.arrow import require_sound

READ, OPENED, UNIT, BATCH, END = b"r", b"o", b"u", b"b", b"e"
UNSOUND, MEMORY, FAULT = b"x", b"m", b"f"
"""The first byte of an answer."""

MOST_BYTES = 1 << 20
"""About the most bytes of rows that one answer holds; one row may have more."""
ROWS_AT_ONCE = 256
"""An answer has a multiple of so many rows, where they are small enough."""


def main(handle: int, memory: int, seconds: int) -> None:
    """Answers until the parent is gone; `seconds` are those of CPU that an answer may take."""
    connection = Connection(handle)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    threading.Thread(target=_end_with_parent, args=(handle,), daemon=True).start()
    reader = _Reader(connection)
    connection.send_bytes(END)
    while True:
        try:
            command = orjson.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        spent = int(used.ru_utime + used.ru_stime) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (spent + seconds, resource.RLIM_INFINITY))
        _answer(connection, reader, command)


def _end_with_parent(handle: int) -> None:
    """Ends the process once nobody holds the other end: a library may loop without end."""
    poll = select.poll()
    poll.register(handle, 0)  # a hang-up is told without being asked for
    poll.poll()
    os._exit(0)


def _answer(connection: Connection, reader: _Reader, command: list[Any]) -> None:
    try:
        getattr(reader, command[0])(*command[1:])
    except MemoryError:
        connection.send_bytes(MEMORY)
    except (pa.ArrowException, OSError, ValueError) as e:
        # What the library of orc can't allocate comes as another error.
        told = MEMORY if "bad_alloc" in str(e) else UNSOUND
        connection.send_bytes(told + str(e).encode(errors="replace"))
    except Exception as e:
        connection.send_bytes(FAULT + f"{type(e).__name__}: {e}".encode(errors="replace"))


class _Reader:
    """What the parent may ask for."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._table: Any = None
        self._pieces: Iterator[Any] = iter(())

    def open(self, kind: str, size: int) -> None:
        """Opens a table of the class ``module:name`` over a file of the parent."""
        module, _, name = kind.partition(":")
        table = getattr(importlib.import_module(module), name)
        self._table = table(_File(self._connection, size))
        about = {
            "names": self._table.names,
            "units": self._table.units,
            "doubtful": list(self._table.doubtful),
            "rows": [self._table.rows(unit) for unit in range(self._table.units)],
        }
        self._connection.send_bytes(OPENED + orjson.dumps(about))

    def unit(self, unit: int, names: list[str] | None) -> None:
        """Begins a unit: the number of its rows, and its schema where there are any."""
        self._pieces = _pieces(self._table.batches(unit, names))
        first = next(self._pieces, None)
        schema = b""
        if first is not None:
            schema = first.schema.serialize().to_pybytes()
            self._pieces = itertools.chain([first], self._pieces)
        self._connection.send_bytes(UNIT + self._table.rows(unit).to_bytes(8, "big") + schema)

    def next(self) -> None:
        """The next rows of the unit, in a message of their own behind `BATCH`."""
        piece = next(self._pieces, None)
        if piece is None:
            self._connection.send_bytes(END)
        else:
            data = piece.serialize()
            self._connection.send_bytes(BATCH)
            self._connection.send_bytes(data)

    def close(self) -> None:
        """Lets go of the table."""
        self._pieces, self._table = iter(()), None
        pa.default_memory_pool().release_unused()
        self._connection.send_bytes(END)


def _pieces(batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        require_sound(batch)
        count = batch.num_rows
        rows = max(1, min(count, MOST_BYTES * count // max(1, batch.nbytes)))
        rows = rows // ROWS_AT_ONCE * ROWS_AT_ONCE or rows
        for at in range(0, count, rows):
            yield from _halves(batch.slice(at, rows))


def _halves(piece: Any) -> Iterator[Any]:
    """The rows of a piece: where a few are far longer than the others, in several."""
    if piece.num_rows < 2 or piece.nbytes <= 2 * MOST_BYTES:
        yield piece
        return
    half = piece.num_rows // 2
    yield from _halves(piece.slice(0, half))
    yield from _halves(piece.slice(half))


class _File(io.RawIOBase):
    """A file whose bytes the parent reads."""

    def __init__(self, connection: Connection, size: int) -> None:
        self._connection, self._size, self._at = connection, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = max(0, (0, self._at, self._size)[whence] + offset)
        return self._at

    def read(self, size: int | None = -1, /) -> bytes:
        left = max(0, self._size - self._at)
        size = left if size is None or size < 0 else min(size, left)
        if not size:
            return b""
        self._connection.send_bytes(READ + orjson.dumps([self._at, size]))
        data = self._connection.recv_bytes()
        self._at += len(data)
        return data
