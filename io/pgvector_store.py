"""A table as the write loop sees it."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

from vecferry.io.pgvector_batch import Binary, binary_dumper
from vecferry.io.pgvector_block import BlockEncoder
from vecferry.io.pgvector_client import Pool, classify
from vecferry.io.pgvector_rows import DELETING, RowEncoder, key_texts
from vecferry.io.pgvector_settings import WriterSettings
from vecferry.io.pgvector_sql import Statements, fixed_copy
from vecferry.io.pgvector_table import TableInfo
from vecferry.io.pgvector_values import NULL
from vecferry.io.sink_store import STALE, WRITTEN, Block, Outcome, Record

_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"
MOST_GRAVES = 100_000
"""Keys whose delete is remembered, so that an older change that comes late does not revive them."""


class Graves:
    """Which version of a key was deleted, for the last `most` keys. Used by many threads."""

    def __init__(self, most: int = MOST_GRAVES) -> None:
        self._most = most
        self._versions: dict[Any, int] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._versions)

    def add(self, key: Any, version: int) -> None:
        """A delete of that version was carried out."""
        with self._lock:
            while len(self._versions) >= self._most:
                del self._versions[next(iter(self._versions))]
            self._versions[key] = version

    def remove(self, key: Any) -> None:
        """The key is there again."""
        with self._lock:
            self._versions.pop(key, None)

    def outlives(self, key: Any, version: int | None) -> bool:
        """Whether a later version than this one was deleted."""
        deleted = self._versions.get(key)
        return deleted is not None and version is not None and version < deleted


class TableStore:
    """Writes batches, each in one transaction: an upsert of all its rows, then its deletes.

    `open_one` makes a connection. On `hologres` rows go into the table by its own COPY instead, and
    never as blocks.
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
        self._encoder, self.encode = encoder, encoder.encode
        self._version = settings.version_column
        self._open = open_one
        self._sql = Statements(
            info, encoder.columns, write_mode=settings.write_mode, version=self._version
        )
        self.encode_block = BlockEncoder(encoder, self._sql.sent).encode
        self.hologres = hologres
        self._copy, nulls = fixed_copy(info, encoder.columns, settings.write_mode)
        self._row_head = struct.pack("!h", len(encoder.columns) + nulls)
        self._row_tail = NULL * nulls
        self._pool = Pool(self._connect)
        self._graves = Graves()

    def _connect(self) -> Any:
        connection = self._open()
        connection.adapters.register_dumper(Binary, binary_dumper())
        return connection

    def classify(self, error: Exception) -> Exception:
        """See `vecferry.io.pgvector_client.classify`."""
        return classify(error)

    def send_block(self, block: Block) -> list[Outcome] | None:
        """Writes a block by one statement, which is a transaction; not on Hologres."""
        if self._graves:
            return self.send([self.encode(change) for change in block.changes])
        with self._borrowed() as connection:
            done = connection.execute(self._sql.insert, block.body)
        if not self._sql.tells_stale:
            return None
        stale = {n - 1 for (n,) in done}
        return [STALE if i in stale else WRITTEN for i in range(len(block.changes))]

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[Any]:
        try:
            with self._pool.borrow() as connection:
                yield connection
        except Exception as e:
            if getattr(e, "sqlstate", "") is None:  # the server has gone, for all connections
                self._pool.drop()
            raise

    def send(self, records: list[Record]) -> list[Outcome] | None:
        """Writes records of different keys in one transaction."""
        stale: set[int] = set()
        if graves := self._graves:
            stale = {i for i, r in enumerate(records) if graves.outlives(r.key, r.body[1])}
        writes = [i for i, r in enumerate(records) if r.op != DELETING and i not in stale]
        deletes = [i for i, r in enumerate(records) if r.op == DELETING and i not in stale]
        with self._borrowed() as connection:
            stale |= self._carry(connection, records, writes, deletes)
        self._bury(records, writes, deletes)
        return [STALE if i in stale else WRITTEN for i in range(len(records))] if stale else None

    def _carry(
        self, connection: Any, records: list[Record], writes: list[int], deletes: list[int]
    ) -> set[int]:
        if self.hologres:  # its COPY has no transaction, and each statement can be repeated
            if writes:
                self._copy_in(connection, [records[i] for i in writes])
            return self._delete(connection, records, deletes) if deletes else set()
        if not deletes:  # one statement is a transaction, and one exchange with the server
            return self._write(connection, records, writes) if writes else set()
        with connection.transaction():
            stale = self._write(connection, records, writes) if writes else set()
            return stale | self._delete(connection, records, deletes)

    def _write(self, connection: Any, records: list[Record], places: list[int]) -> set[int]:
        bodies = [records[i].body for i in places]
        given = self._sql.parameters([fields for fields, _ in bodies], [v for _, v in bodies])
        done = connection.execute(self._sql.insert, given)
        return {places[n - 1] for (n,) in done} if self._sql.tells_stale else set()

    def _copy_in(self, connection: Any, records: list[Record]) -> None:
        data = self._encoder.copied(records, self._row_head, self._row_tail)
        with connection.cursor() as cursor, cursor.copy(self._copy) as copy:
            copy.write(b"".join((_COPY_HEAD, data, _COPY_END)))

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

    def _bury(self, records: list[Record], writes: list[int], deletes: list[int]) -> None:
        for i in deletes:
            version = records[i].body[1]
            if version is not None:
                self._graves.add(records[i].key, version)
        if self._graves:
            for i in writes:
                self._graves.remove(records[i].key)

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()
