"""Keeps the rows of distributed transactions (XA) until they are committed.

The log has such rows where they are prepared. They count where they are committed, perhaps much
later. Rows that were prepared before the position are read back.

Apart from `vecferry.io.mysql_cdc.following` because it knows neither tables nor values of rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from vecferry.errors import FatalError, TransientError
from vecferry.io.mysql.settings import MySqlConnection
from vecferry.io.mysql_cdc.columns import Columns
from vecferry.io.mysql_cdc.log import Alive, Begun, FileBegan, LogReader, Prepared, Rows, Statement
from vecferry.io.mysql_cdc.place import Place
from vecferry.io.mysql_cdc.rereading import Touched
from vecferry.io.mysql_cdc.stream import BinlogStream
from vecferry.steps import StepContext
from vecferry.versions import pack

MOST_ROWS = 1_000_000
_XA = re.compile(r"(?is)\s*XA\s+(START|BEGIN|COMMIT|ROLLBACK)\s+(.*?)(?:\s+ONE\s+PHASE)?\s*")
STARTS = ("START", "BEGIN")

Kept = tuple[Place, list[Touched]]
"""Where a transaction begins in the log, and its rows."""


def verb_of(sql: str) -> tuple[str, str] | None:
    """What a statement of XA does and with which transaction; None of another statement."""
    found = _XA.fullmatch(sql)
    return None if found is None else (found[1].upper(), found[2])


class Distributed:
    """The transactions of XA that one log tells: one under way, and those that are prepared.

    Attributes:
      inside: whether the transaction under way is one of XA.
    """

    def __init__(
        self,
        connection: MySqlConnection,
        context: StepContext,
        wanted: Callable[[str, str], Columns | None],
        rows: Callable[[Rows], Iterable[object]],
    ) -> None:
        """`rows` reads an event of rows; where `inside`, it gives each row to `keep`."""
        self._connection, self._context, self._wanted, self._read = (
            connection,
            context,
            wanted,
            rows,
        )
        self.inside = False
        self._rows: list[Touched] = []
        self._prepared: dict[str, Kept] = {}

    def __contains__(self, xid: str) -> bool:
        return xid in self._prepared

    @property
    def has_rows(self) -> bool:
        """Whether the transaction under way has rows."""
        return bool(self._rows)

    @property
    def oldest(self) -> Place | None:
        """Where the oldest transaction begins that is prepared; None without one."""
        return min((begun for begun, _ in self._prepared.values()), default=None)

    def forget(self) -> None:
        """Knows of no transaction any more."""
        self.inside, self._rows, self._prepared = False, [], {}

    def keep(self, row: Touched) -> None:
        """A row of the transaction under way."""
        self._rows.append(row)
        if len(self._rows) > MOST_ROWS:
            raise FatalError(
                f"{row.origin}: a transaction of XA has more than {MOST_ROWS:,} rows, which are "
                "kept until it is committed; write smaller transactions"
            )

    def taken(self) -> list[Touched]:
        """The rows of the transaction under way, which ends."""
        rows, self._rows = self._rows, []
        return rows

    def prepare(self, xid: str, begun: Place) -> None:
        """The transaction under way is prepared."""
        self._prepared[xid] = begun, self.taken()

    def end(self, xid: str) -> list[Touched]:
        """The rows of a prepared transaction, which is committed or rolled back."""
        return self._prepared.pop(xid, (None, []))[1]

    # Reading back

    def recall(self, xid: str, place: Place, files: Sequence[str]) -> bool:
        """Reads the log back for a transaction that was prepared before; whether it was found.

        `files` are those of the log, oldest first, up to that of `place`.
        """
        end = place
        for file in reversed(files):
            found = self._prepared_between(Place(file, 4), end)
            if xid in found:
                if end != place:  # of a file before, the others may be finished by now
                    found = {xid: found[xid]}
                self._prepared = {**found, **self._prepared}
                return True
            end = Place(file, 4)
        return False

    def _prepared_between(self, since: Place, end: Place) -> dict[str, Kept]:
        """The transactions that were prepared between two places, and not finished there."""
        found: dict[str, Kept] = {}
        begun = since
        stream = BinlogStream(self._connection, since=since)
        try:
            for item in LogReader(stream, self._wanted):
                if type(item) is Rows:
                    if self.inside:
                        for _ in self._read(item):
                            pass
                    continue
                if isinstance(item, FileBegan):
                    continue
                if self._context.state.stop.is_set():
                    raise TransientError("stopped while the log was read back")
                if item.place >= end:
                    break
                if type(item) is Alive:
                    continue
                if type(item) is Statement:
                    xa = verb_of(item.sql)
                    if xa is not None and xa[0] in STARTS:
                        self.inside = True
                    elif xa is not None:
                        found.pop(xa[1], None)
                    continue
                if type(item) is Prepared:
                    found[item.xid] = begun, self._rows
                self.inside, self._rows = type(item) is Begun and item.prepares, []
                begun = item.place
            return found
        finally:
            self.inside, self._rows = False, []
            stream.close()


def as_committed(rows: Sequence[Touched], place: Place, epoch: int) -> Iterator[Touched]:
    """The rows of a transaction, as of the place where it was committed."""
    version = pack(epoch, place.number << 32 | place.offset)
    for touched in rows:
        touched.version, touched.origin = version, f"{place}:{touched.origin}"
        yield touched
