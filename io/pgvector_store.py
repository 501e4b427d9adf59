"""A table as the write loop sees it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from vecferry.io.pgvector_client import Pool, classify
from vecferry.io.pgvector_rows import DELETING, RowEncoder, key_texts
from vecferry.io.pgvector_settings import WriterSettings
from vecferry.io.pgvector_sql import Statements, fixed_copy
from vecferry.io.pgvector_table import TableInfo
from vecferry.io.pgvector_values import NULL, field
from vecferry.io.sink_store import STALE, WRITTEN, Outcome, Record

_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
MOST_GRAVES = 100_000
"""Keys whose delete is remembered, so that an older change that comes late does not revive them."""


class TableStore:
    """Writes batches, each in one transaction: staged by binary COPY, then inserted; deletes.

    `open_one` makes a connection. On Hologres rows go into the table by its own COPY instead.
    """

    def __init__(
        self,
        settings: WriterSettings,
        info: TableInfo,
        open_one: Callable[[], Any],
        *,
        hologres: bool = False,
    ) -> None:
        encoder = RowEncoder(settings, info)
        self.encode = encoder.encode
        self._version = settings.version_column
        self._before = settings.write_mode == "ignore"
        self._open = open_one
        self._sql = Statements(
            info, encoder.columns, write_mode=settings.write_mode, version=self._version
        )
        self._hologres = hologres
        self._fields, self._copy, tail = self._sql.fields, self._sql.copy, 0
        if hologres:
            self._copy, tail = fixed_copy(info, encoder.columns, settings.write_mode)
            self._fields = len(encoder.columns) + tail
        self._tail = NULL * tail
        self._pool = Pool(self._connect)
        self._graves: dict[Any, int] = {}

    def _connect(self) -> Any:
        connection = self._open()
        if not self._hologres:
            with connection.transaction():
                for statement in self._sql.stage():
                    connection.execute(statement)
        return connection

    def classify(self, error: Exception) -> Exception:
        """See `vecferry.io.pgvector_client.classify`."""
        return classify(error)

    def send(self, records: list[Record]) -> list[Outcome] | None:
        """Writes records of different keys in one transaction."""
        stale = {i for i, r in enumerate(records) if self._is_buried(r)} if self._graves else set()
        writes = [i for i, r in enumerate(records) if r.op != DELETING and i not in stale]
        deletes = [i for i, r in enumerate(records) if r.op == DELETING and i not in stale]
        try:
            with self._pool.borrow() as connection:
                stale |= self._carry(connection, records, writes, deletes)
        except Exception as e:
            if getattr(e, "sqlstate", "") is None:  # the server has gone, for all connections
                self._pool.drop()
            raise
        self._bury(records, writes, deletes)
        return [STALE if i in stale else WRITTEN for i in range(len(records))] if stale else None

    def _carry(
        self, connection: Any, records: list[Record], writes: list[int], deletes: list[int]
    ) -> set[int]:
        if self._hologres:  # its COPY has no transaction, and each statement can be repeated
            if writes:
                self._take(connection, records, writes)
            return self._delete(connection, records, deletes) if deletes else set()
        stale: set[int] = set()
        with connection.transaction():
            if writes:
                stale |= self._write(connection, records, writes)
            if deletes:
                stale |= self._delete(connection, records, deletes)
        return stale

    def _write(self, connection: Any, records: list[Record], places: list[int]) -> set[int]:
        self._take(connection, records, places)
        stale: list[Any] = []
        if self._before:
            stale = connection.execute(self._sql.stale).fetchall()
        connection.execute(self._sql.insert)
        if self._version:
            stale = connection.execute(self._sql.stale).fetchall()
        return {place for (place,) in stale}

    def _take(self, connection: Any, records: list[Record], places: list[int]) -> None:
        head = struct.pack("!h", self._fields)
        parts = [_HEAD]
        for place in places:
            data, version = records[place].body
            parts += (head, data, self._tail)
            if self._hologres:
                continue
            if self._version:
                parts.append(NULL if version is None else field(struct.pack("!q", version)))
            if self._sql.places:
                parts.append(struct.pack("!ii", 4, place))
        parts.append(_END)
        with connection.cursor() as cursor, cursor.copy(self._copy) as copy:
            copy.write(b"".join(parts))

    def _delete(self, connection: Any, records: list[Record], places: list[int]) -> set[int]:
        chosen = [records[i] for i in places]
        given: list[Any] = list(key_texts(chosen))
        if self._version:
            given.append([r.body[1] for r in chosen])
        connection.execute(self._sql.delete, given)
        if not self._version:
            return set()
        left = connection.execute(self._sql.undeleted, given).fetchall()
        return {places[n - 1] for (n,) in left}

    def _is_buried(self, record: Record) -> bool:
        version = record.body[1]
        deleted = self._graves.get(record.key)
        return deleted is not None and version is not None and version < deleted

    def _bury(self, records: list[Record], writes: list[int], deletes: list[int]) -> None:
        for i in deletes:
            version = records[i].body[1]
            if version is not None:
                while len(self._graves) >= MOST_GRAVES:
                    self._graves.pop(next(iter(self._graves)), None)
                self._graves[records[i].key] = version
        if self._graves:
            for i in writes:
                self._graves.pop(records[i].key, None)

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()
