"""Tables that a child process reads: of formats whose library some damaged files crash.

`ApartTable` is the parent's end, `TableServant` the child's. Stands apart from `orc` because a
check of a job loads that module, and no library.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import IO, Any

import orjson
import pyarrow as pa

from vecferry.io.common.arrow import require_sound
from vecferry.io.files.formats.apart import Child, Children, Lost, Unsound
from vecferry.io.files.formats.apart_child import (
    BATCH,
    END,
    MEMORY,
    UNSOUND,
    ParentFile,
    Servant,
)
from vecferry.io.files.formats.unpack import Damaged

OPENED, UNIT = b"o", b"u"
"""The first byte of an answer, beside those of `vecferry.io.files.formats.apart_child`."""

MOST_BYTES = 1 << 20
"""About the most bytes of rows that one answer holds; one row may have more."""
ROWS_AT_ONCE = 256
"""An answer has a multiple of so many rows, where they are small enough."""


class ApartTable:
    """A table that a child reads; see `vecferry.io.files.formats.columnar.Table`.

    `kind` is the table's class, as ``module:name``; `raw` an open file.
    """

    def __init__(self, children: Children, kind: str, raw: IO[bytes]) -> None:
        self._children, self._raw = children, raw
        raw.seek(0, os.SEEK_END)
        size = raw.tell()
        with _in_words():
            self._child: Child | None = children.take()
        try:
            _, about = self._ask("open", kind, size)
        except BaseException:
            self.close()
            raise
        told = orjson.loads(about)
        self.names: list[str] = told["names"]
        self.units: int = told["units"]
        self.doubtful = frozenset(told["doubtful"])
        self._rows: list[int] = told["rows"]

    def rows(self, unit: int) -> int:
        """How many rows the unit has; 0 where that is not known before it has been read."""
        return self._rows[unit]

    def batches(self, unit: int, names: list[str] | None) -> Iterator[Any]:
        """The unit's rows as batches of about a megabyte."""
        _, told = self._ask("unit", unit, names)
        self._rows[unit] = int.from_bytes(told[:8], "big")
        if not told[8:]:
            return
        schema = pa.ipc.read_schema(pa.py_buffer(told[8:]))
        while (answer := self._ask("next"))[0] == BATCH:
            yield pa.ipc.read_record_batch(pa.py_buffer(answer[1]), schema)

    def close(self) -> None:
        """Lets the child go, to read another file."""
        one, self._child = self._child, None
        if one is None:
            return
        if not one.asked:
            with contextlib.suppress(Lost):  # what was read before is whole
                one.ask(self._raw, "close")
        self._children.give(one)

    def _ask(self, *command: object) -> tuple[bytes, bytes]:
        assert self._child is not None
        with _in_words():
            return self._child.ask(self._raw, *command)


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    """A lost child as `Damaged`, and what the library found as its own error."""
    try:
        yield
    except Unsound as e:
        raise pa.ArrowInvalid(str(e)) from e
    except Lost as e:
        raise Damaged(_words(e)) from e


def _words(lost: Lost) -> str:
    if lost.how == "slow":
        return f"can't be read: its library came to no end in {lost.detail} s; write it anew"
    if lost.how == "memory":
        return (
            f"can't be read: it needs more than {int(lost.detail) >> 20:,} MiB of memory at "
            "once; write it in smaller parts"
        )
    if lost.how == "killed":
        return (
            "can't be read: the process that read it was killed, perhaps for lack of memory; "
            "give the job more memory, or write the file in smaller parts"
        )
    if lost.how == "crashed":
        return (
            f"is damaged: pyarrow {pa.__version__} crashed in reading it "
            f"({lost.detail}); write it anew"
        )
    return (
        "can't be read: the process that reads it ended early "
        f"(exit status {lost.detail}); run the job again, and report this if it comes again"
    )


class TableServant(Servant):
    """Reads one table at a time."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._table: Any = None
        self._pieces: Iterator[Any] = iter(())

    def explain(self, error: Exception) -> bytes:
        """What the library says is told apart from a fault of ours."""
        if not isinstance(error, pa.ArrowException | OSError | ValueError):
            return super().explain(error)
        # What the library of orc can't allocate comes as another error.
        told = MEMORY if "bad_alloc" in str(error) else UNSOUND
        return told + str(error).encode(errors="replace")

    def open(self, kind: str, size: int) -> None:
        """Opens a table of the class ``module:name`` over a file of the parent."""
        module, _, name = kind.partition(":")
        table = getattr(importlib.import_module(module), name)
        self._table = table(ParentFile(self.connection, size))
        about = {
            "names": self._table.names,
            "units": self._table.units,
            "doubtful": list(self._table.doubtful),
            "rows": [self._table.rows(unit) for unit in range(self._table.units)],
        }
        self.connection.send_bytes(OPENED + orjson.dumps(about))

    def unit(self, unit: int, names: list[str] | None) -> None:
        """Begins a unit: the number of its rows, and its schema where there are any."""
        self._pieces = _pieces(self._table.batches(unit, names))
        first = next(self._pieces, None)
        schema = b""
        if first is not None:
            schema = first.schema.serialize().to_pybytes()
            self._pieces = itertools.chain([first], self._pieces)
        self.connection.send_bytes(UNIT + self._table.rows(unit).to_bytes(8, "big") + schema)

    def next(self) -> None:
        """The next rows of the unit, in a message of their own behind `BATCH`."""
        piece = next(self._pieces, None)
        if piece is None:
            self.connection.send_bytes(END)
        else:
            data = piece.serialize()
            self.connection.send_bytes(BATCH)
            self.connection.send_bytes(data)

    def close(self) -> None:
        """Lets go of the table."""
        self._pieces, self._table = iter(()), None
        pa.default_memory_pool().release_unused()
        self.connection.send_bytes(END)


TABLES = f"{TableServant.__module__}:{TableServant.__name__}"


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
