"""A table as the target of a job: checked, made ready, written to, searched."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
import threading
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vecferry.errors import JobError, TerminalError, VecferryError
from vecferry.io.postgresql.building import Build
from vecferry.io.postgresql.catalog import (
    ColumnInfo,
    TableCatalog,
    TableInfo,
    due,
    indexed_columns,
    is_indexed,
    planned,
    table_name,
    told_of,
)
from vecferry.io.postgresql.checks import filled, mismatches, missing, unmapped
from vecferry.io.postgresql.client import (
    ANSWER_SECONDS,
    classify,
    connect,
    end_backends,
    session,
)
from vecferry.io.postgresql.dialect import POSTGRESQL, Dialect
from vecferry.io.postgresql.encode import NULL
from vecferry.io.postgresql.holdings import TableHoldings
from vecferry.io.postgresql.rows import (
    DELETING,
    BlockEncoder,
    RowEncoder,
    key_texts,
    texts_of,
)
from vecferry.io.postgresql.settings import VECTORS, WriterSettings
from vecferry.io.postgresql.statements import Binary, Statements, binary_dumper, query_text
from vecferry.io.sink.mark import Mark, mark_of
from vecferry.io.sink.parents import Parent, Trim
from vecferry.io.sink.reconcile import Holdings
from vecferry.io.sink.store import STALE, WRITTEN, Block, Outcome, Record, WriteLimits
from vecferry.io.sink.target import TargetBase, vector_field
from vecferry.io.sink.values import VectorLike, checked
from vecferry.io.sink.writer import BlockWriter, SinkWriter
from vecferry.io.tables.connection import TableConnection
from vecferry.io.tables.database import Pool
from vecferry.rows import CHUNK_INDEX, Change
from vecferry.steps import OnWords, StepContext

if TYPE_CHECKING:
    from vecferry.io.postgresql.client import Connection

CLOSE_SECONDS = 2.0
"""How long the end of a run waits for a server that was given up."""
_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"
MOST_GRAVES = 100_000
"""Keys whose delete is remembered, so that an older change that comes late does not revive them."""


class Tombstones:
    """Which version of a key was deleted, for the last `most` keys. Used by many threads."""

    def __init__(self, most: int = MOST_GRAVES) -> None:
        self._most = most
        self._versions: dict[Hashable, int] = {}
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        return bool(self._versions)

    def add(self, key: Hashable, version: int) -> None:
        """A delete of that version was carried out."""
        with self._lock:
            while len(self._versions) >= self._most:
                del self._versions[next(iter(self._versions))]
            self._versions[key] = version

    def remove(self, key: Hashable) -> None:
        """The key is there again."""
        with self._lock:
            self._versions.pop(key, None)

    def outlives(self, key: Hashable, version: int | None) -> bool:
        """Whether a later version than this one was deleted."""
        deleted = self._versions.get(key)
        return deleted is not None and version is not None and version < deleted


class PostgresStore:
    """Writes batches, each in one transaction: an upsert of all its rows, then its deletes.

    Where the dialect has a COPY of its own, rows go into the table by that, never as blocks.

    Args:
      settings: the writer's.
      info: the table.
      connection: the data source.
      dialect: the server's.
      silence: the seconds without an answer after which a request is given up and sent again.
    """

    def __init__(
        self,
        settings: WriterSettings,
        info: TableInfo,
        connection: TableConnection,
        dialect: Dialect = POSTGRESQL,
        silence: float | None = ANSWER_SECONDS,
    ) -> None:
        encoder = RowEncoder(settings, info)
        self._encoder, self.encode = encoder, encoder.encode
        self._version = settings.version_column
        self._connection, self._silence = connection, silence
        into = {column: name for name, column in filled(settings, info).items()}
        needed = (*settings.parent_key, CHUNK_INDEX) if settings.parent_key else ()
        *parents, number = [info.column(into[name]) for name in needed] or [None]
        self._sql = Statements(
            info,
            encoder.columns,
            write_mode=settings.write_mode,
            version=self._version,
            parents=[column for column in parents if column is not None],
            number=number,
        )
        self.encode_block = BlockEncoder(encoder, self._sql.sent).encode
        self.takes_blocks = dialect.copy is None
        self._copy = ""
        if dialect.copy is not None:
            self._copy, nulls = dialect.copy(info, encoder.columns, settings.write_mode)
            self._row_head = struct.pack("!h", len(encoder.columns) + nulls)
            self._row_tail = NULL * nulls
        self._pool: Pool[Connection] = Pool()
        self._given_up: set[int] = set()
        self._tombstones = Tombstones()

    def _connect(self) -> Connection:
        connection = connect(self._connection, silence=self._silence)
        connection.adapters.register_dumper(Binary, binary_dumper())
        return connection

    def classify(self, error: Exception) -> Exception:
        """See `vecferry.io.postgresql.client.classify`."""
        return classify(error, self._connection)

    def send_block(self, block: Block) -> list[Outcome] | None:
        """Writes a block by one statement, which is a transaction; not by COPY."""
        if self._tombstones:
            return self.send([self.encode(change) for change in block.changes])
        with self._borrowed() as connection:
            done = connection.execute(self._sql.insert, block.body)
        if not self._sql.tells_stale:
            return None
        stale = {n - 1 for (n,) in done}
        return [STALE if i in stale else WRITTEN for i in range(len(block.changes))]

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[Connection]:
        """A connection; one on which anything failed but the statement itself is not kept."""
        import psycopg
        from psycopg.pq import TransactionStatus

        held = self._pool.take() or self._connect()
        try:
            self._end_given_up(held)
            yield held
        except psycopg.Error as e:
            if held.given_up is not None:
                self._given_up.add(held.given_up)
            if e.sqlstate is None:  # the server has gone, for all connections
                self._pool.drop()
            raise
        finally:
            if held.closed or held.info.transaction_status != TransactionStatus.IDLE:
                held.close()
            else:
                self._pool.give(held)

    def _end_given_up(self, connection: Connection) -> None:
        """Ends requests that were given up, before the next request could be overtaken by them."""
        if numbers := set(self._given_up):
            end_backends(connection, list(numbers))
            self._given_up -= numbers

    def send(self, records: list[Record]) -> list[Outcome] | None:
        """Writes records of different keys in one transaction."""
        stale: set[int] = set()
        if tombstones := self._tombstones:
            stale = {i for i, r in enumerate(records) if tombstones.outlives(r.key, r.body[1])}
        writes = [i for i, r in enumerate(records) if r.op != DELETING and i not in stale]
        deletes = [i for i, r in enumerate(records) if r.op == DELETING and i not in stale]
        with self._borrowed() as connection:
            stale |= self._carry(connection, records, writes, deletes)
        self._bury(records, writes, deletes)
        return [STALE if i in stale else WRITTEN for i in range(len(records))] if stale else None

    def _carry(
        self, connection: Connection, records: list[Record], writes: list[int], deletes: list[int]
    ) -> set[int]:
        if self._copy:  # which has no transaction, and each statement can be repeated
            if writes:
                self._copy_in(connection, [records[i] for i in writes])
            return self._delete(connection, records, deletes) if deletes else set()
        if not deletes:  # one statement is a transaction, and one exchange with the server
            return self._write(connection, records, writes) if writes else set()
        with connection.transaction():
            stale = self._write(connection, records, writes) if writes else set()
            return stale | self._delete(connection, records, deletes)

    def _write(self, connection: Connection, records: list[Record], places: list[int]) -> set[int]:
        bodies = [records[i].body for i in places]
        given = self._sql.parameters([fields for fields, _ in bodies], [v for _, v in bodies])
        done = connection.execute(self._sql.insert, given)
        return {places[n - 1] for (n,) in done} if self._sql.tells_stale else set()

    def _copy_in(self, connection: Connection, records: list[Record]) -> None:
        data = self._encoder.copied(records, self._row_head, self._row_tail)
        with connection.cursor() as cursor, cursor.copy(self._copy) as copy:
            copy.write(b"".join((_COPY_HEAD, data, _COPY_END)))

    def _delete(self, connection: Connection, records: list[Record], places: list[int]) -> set[int]:
        chosen = [records[i] for i in places]
        given: list[Any] = list(key_texts(chosen))
        if self._version:
            given.append([r.body[1] for r in chosen])
        connection.execute(self._sql.delete, given)
        if not self._version:
            return set()
        left = connection.execute(self._sql.undeleted, given).fetchall()
        return {places[n - 1] for (n,) in left}

    def document_of(self, change: Change) -> tuple[Parent, int | None]:
        """See `vecferry.io.sink.parents.ChunkStore`."""
        return self._encoder.parent(change), change.version

    def trim(self, trims: Sequence[Trim]) -> None:
        """Deletes surplus chunks of all these documents by one statement."""
        given: list[Any] = list(texts_of([t.parent for t in trims]))
        given += [[t.keep for t in trims], [t.version for t in trims]]
        with self._borrowed() as connection:
            connection.execute(self._sql.trim, given)

    def _bury(self, records: list[Record], writes: list[int], deletes: list[int]) -> None:
        for i in deletes:
            version = records[i].body[1]
            if version is not None:
                self._tombstones.add(records[i].key, version)
        if self._tombstones:
            for i in writes:
                self._tombstones.remove(records[i].key)

    def close(self) -> None:
        """Closes the connections, and ends requests that were given up and never sent again."""
        import psycopg

        self._pool.close()
        if self._given_up:
            with (
                contextlib.suppress(psycopg.Error, VecferryError),  # it may still be away
                connect(self._connection, silence=CLOSE_SECONDS) as connection,
            ):
                end_backends(connection, list(self._given_up))


SEARCH_SECONDS = 120


class PostgresTarget(TargetBase[TableCatalog, TableInfo, PostgresStore]):
    """The table that a step writes to.

    `check`, `prepare` and `conclude` are for the launcher, `operator` for the workers.
    """

    noun = "table"
    way_to_versions = "; versionColumn names a column that keeps them"
    dialect: ClassVar[Dialect] = POSTGRESQL
    answer_seconds: float = ANSWER_SECONDS
    """How long an answer is waited for; a shorter `retry_deadline` makes the time shorter."""

    def __init__(
        self, settings: WriterSettings, connection: TableConnection | None, context: StepContext
    ) -> None:
        super().__init__(context)
        found = connection or settings.own_connection()
        if found is None:
            raise JobError(
                f"step {context.step!r}: name a data source as datasource, or write "
                'connection: [{"jdbcUrl": "jdbc:postgresql://host:port/database", "table": […]}]'
            )
        self.settings, self.connection = settings, found

    @property
    def silence(self) -> float:
        """The seconds after which a server that sends nothing counts as away."""
        deadline = self.context.retry_deadline
        return self.answer_seconds if deadline is None else min(self.answer_seconds, deadline)

    @contextlib.contextmanager
    def _catalog(self) -> Iterator[TableCatalog]:
        with session(self.connection, self.context.step, self.silence) as connection:
            where = self.connection.where
            yield TableCatalog(connection, self.settings, where, self.dialect, POSTGRESQL)

    def catalog(self) -> AbstractContextManager[TableCatalog]:
        """See `TargetBase`."""
        return self._catalog()

    def store(self, catalog: TableCatalog, info: TableInfo) -> PostgresStore:
        """See `TargetBase`."""
        self.refuse(self.obstacles(catalog, info))
        return PostgresStore(self.settings, info, self.connection, catalog.dialect, self.silence)

    def encoder(self, info: TableInfo | None) -> RowEncoder:
        """See `TargetBase`."""
        return RowEncoder(self.settings, info or planned(self.settings))

    def holdings(self, catalog: TableCatalog, info: TableInfo) -> Holdings:
        """See `TargetBase`."""
        return TableHoldings(catalog, info, self.settings)

    @property
    def document_key(self) -> Sequence[str]:
        """See `TargetBase`."""
        return self.settings.parent_key

    @property
    def owns_target(self) -> bool:
        """See `TargetBase`."""
        return self.settings.owns_target

    @property
    def recreates(self) -> bool:
        """See `TargetBase`."""
        return self.settings.schema_create_mode == "recreate"

    def unrepeatable(self) -> str | None:
        """See `TargetBase`."""
        if self.settings.pre_sql or self.settings.post_sql:
            return "preSql and postSql run once in a job; run them before and after the pipeline"
        return super().unrepeatable()

    def sources(self) -> dict[str, str]:
        """See `TargetBase`."""
        return self.settings.sources()

    def filled(self, info: TableInfo) -> dict[str, str]:
        """See `TargetBase`."""
        return filled(self.settings, info)

    def dimensions(self, info: TableInfo) -> dict[str, int]:
        """See `TargetBase`."""
        return {c.name: c.dimension for c in info.columns if c.dimension is not None}

    def missing(self, catalog: TableCatalog) -> list[str]:
        """See `TargetBase`."""
        return [
            f"{catalog.where}: {problem}"
            for problem in missing(
                self.settings,
                catalog.surroundings(),
                catalog.server,
                catalog.creation(mark_of(self.context, self.sources())),
            )
        ]

    def mismatches(self, catalog: TableCatalog, info: TableInfo) -> list[str]:
        """See `TargetBase`."""
        return mismatches(self.settings, info)

    def irreplaceable(self, catalog: TableCatalog, info: TableInfo) -> list[str]:
        """See `TargetBase`."""
        if self.settings.owns_target or catalog.is_empty():
            return []
        return [
            f"table {info.name!r} holds rows, which recreate would drop; set ownsTarget: true if "
            "they may go, or schemaCreateMode to createIfNotExist"
        ]

    def obstacles(self, catalog: TableCatalog, info: TableInfo | None) -> list[str]:
        """See `TargetBase`."""
        out = []
        if catalog.server.read_only:
            out.append("the database is read-only (a standby?): name the one that takes writes")
        if self.settings.version_column and not catalog.dialect.keeps_versions:
            out.append(f"{catalog.dialect.name} can't keep versionColumn; leave it out")
        return out

    def notes(self, catalog: TableCatalog, info: TableInfo | None) -> list[str]:
        """See `TargetBase`."""
        out = []
        if left := unmapped(self.settings):
            out.append(f"columnMapping fills nothing into {', '.join(left)}")
        if catalog.dialect is not self.dialect:
            out.append(
                f"the server is not {self.dialect.name}: rows are written as into PostgreSQL, "
                "without an index"
            )
        for column in (info or planned(self.settings)).vectors():
            if column.type.name in VECTORS and not is_indexed(column):
                out.append(f"{column.name!r} has too many dimensions for an index of pgvector")
        return out

    def make_ready(self, catalog: TableCatalog, info: TableInfo) -> None:
        """Runs `preSql`, which may empty the table: not where a sync goes on from a position."""
        if self.context.write.resumed:
            return
        catalog.run(self.settings.pre_sql, "preSql")

    @property
    def index_when(self) -> str:
        """See `TargetBase`."""
        return self.settings.index_when

    def deferred(self, catalog: TableCatalog) -> dict[str, Any] | None:
        """See `TargetBase`; the indexes of vectors, by column."""
        info, index = planned(self.settings, catalog.server.vectors_in), catalog.dialect.index
        columns = [
            c for c in self.settings.column if c.is_vector and index(self.settings, [c], info)
        ]
        return told_of(self.settings, columns) or None

    def build(
        self,
        catalog: TableCatalog,
        info: TableInfo,
        deferred: Mapping[str, Any],
        on_progress: OnWords,
    ) -> list[str]:
        """See `TargetBase`; the index and the mark without it come in one transaction."""
        began = time.monotonic()
        forget = catalog.remembering(dataclasses.replace(info.mark or Mark(), deferred=None))
        dialect, columns = catalog.dialect, due(self.settings, deferred)

        def statements(connection: Connection) -> list[str]:
            there = indexed_columns(connection, info.oid)
            left = [c for c in columns if c.name not in there]
            return [*dialect.index(self.settings, left, info), *forget]

        build = Build(
            what=_index_of(info, deferred),
            oid=info.oid,
            statements=statements,
            first=dialect.alone(table_name(info)),
            tuned=dialect is POSTGRESQL,
        )
        opened = session(self.connection, self.context.step, None)
        build.carry_out(opened, catalog.connection, on_progress)
        if dialect.ripen is not None:
            catalog.run([dialect.ripen(info)], "merging the table's files, for its index,")
        return [f"built {build.what} in {time.monotonic() - began:,.1f} s"]

    def undone(self, catalog: TableCatalog, info: TableInfo, deferred: Mapping[str, Any]) -> str:
        """See `TargetBase`."""
        statements = catalog.dialect.index(self.settings, due(self.settings, deferred), info)
        return (
            f"{_index_of(info, deferred)} is not built yet: the next run of the job builds it once "
            f"its rows are in, and by hand: {'; '.join(statements)}"
        )

    @property
    def concludes(self) -> bool:
        """See `TargetBase`."""
        return bool(self.settings.post_sql)

    def conclude(self) -> list[str]:
        """Runs `postSql`, once, when the job is done. Raises JobError if a statement fails."""
        if self.settings.post_sql:
            with self.catalog() as catalog:
                catalog.run(self.settings.post_sql, "postSql")
        return []

    def limits(self, store: PostgresStore) -> WriteLimits:
        """See `TargetBase`."""
        settings = self.settings
        return WriteLimits(
            rows=settings.batch_size, bytes=settings.batch_byte_size, in_flight=self.in_flight
        )

    def writer(self, store: PostgresStore) -> SinkWriter:
        """See `TargetBase`."""
        kind = BlockWriter if store.takes_blocks else SinkWriter
        return kind(store, self.limits(store), self.context)

    def nearest(
        self,
        catalog: TableCatalog,
        info: TableInfo,
        vector: VectorLike,
        k: int,
        vector_column: str | None,
    ) -> list[dict[str, Any]]:
        """See `TargetBase`."""
        what = f"table {info.name!r}"
        vectors = info.vectors() or [c for c in info.columns if c.type.is_floats]
        column = vector_field(what, vectors, self.sources(), vector_column)
        metric, index = self._metric(column)
        try:
            value = checked(column.name, column.dimension, metric)(np.asarray(vector))
        except TerminalError as e:
            raise JobError(
                f"{what} can't be searched with this: {e}; use the model and dimension that "
                "filled it"
            ) from None
        statement = catalog.dialect.search(info, column, metric, index)
        given = {"query": query_text(value.tolist(), column), "k": k}
        connection = catalog.connection
        connection.execute(f"SET statement_timeout = {SEARCH_SECONDS * 1000}")
        connection.silence = None  # the server has a limit now
        rows = connection.execute(statement, given).fetchall()
        names = [c.name for c in info.columns if not c.is_vector]
        return [{"score": _score(s), **dict(zip(names, row, strict=True))} for s, *row in rows]

    def _metric(self, column: ColumnInfo) -> tuple[str, str]:
        """How a column is compared, and the kind of its index in the settings."""
        job = next((c for c in self.settings.column if c.name == column.name), None)
        metric = (job.metric_type if job else None) or column.metric or "COSINE"
        return metric, self.settings.index_of(job) if job else self.settings.indexes[0]


def _index_of(info: TableInfo, deferred: Mapping[str, Any]) -> str:
    return f"the index on {', '.join(map(repr, deferred))} of table {info.name!r}"


def _score(value: Any) -> float:
    return float("nan") if value is None else float(value)
