"""A table as the target of a job: checked, made ready, written to, searched."""

from __future__ import annotations

import contextlib
import functools
import logging
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vecferry.errors import JobError, TerminalError
from vecferry.io.postgresql.catalog import (
    ColumnInfo,
    TableInfo,
    creation,
    filled,
    is_indexed,
    mismatches,
    planned,
    quoted_table,
    read_table,
    unmapped,
)
from vecferry.io.postgresql.checks import (
    absent,
    comment_statement,
    mark_in,
    missing,
    read_comment,
    remember,
)
from vecferry.io.postgresql.client import Pool, classify, connect, where_of
from vecferry.io.postgresql.encode import NULL
from vecferry.io.postgresql.rows import DELETING, BlockEncoder, RowEncoder, key_texts
from vecferry.io.postgresql.session import Session, session_of
from vecferry.io.postgresql.settings import WriterSettings
from vecferry.io.postgresql.statements import (
    Binary,
    Statements,
    binary_dumper,
    fixed_copy,
    query_text,
    search_statement,
    vector_column_of,
)
from vecferry.io.sink.mark import Marking, mark_of, tell_once
from vecferry.io.sink.store import STALE, WRITTEN, Block, Outcome, Record, WriteLimits
from vecferry.io.sink.vectors import checked
from vecferry.io.sink.writer import BlockWriter, SinkWriter
from vecferry.io.tables.settings import TableConnection
from vecferry.process import once
from vecferry.retry import call_with_retries
from vecferry.rows import Change, Reject, Row
from vecferry.steps import StepContext

_COPY_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"
MOST_GRAVES = 100_000
"""Keys whose delete is remembered, so that an older change that comes late does not revive them."""


class Tombstones:
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
        self._tombstones = Tombstones()

    def _connect(self) -> Any:
        connection = self._open()
        connection.adapters.register_dumper(Binary, binary_dumper())
        return connection

    def classify(self, error: Exception) -> Exception:
        """See `vecferry.io.postgresql.client.classify`."""
        return classify(error)

    def send_block(self, block: Block) -> list[Outcome] | None:
        """Writes a block by one statement, which is a transaction; not on Hologres."""
        if self._tombstones:
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
        if tombstones := self._tombstones:
            stale = {i for i, r in enumerate(records) if tombstones.outlives(r.key, r.body[1])}
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
                self._tombstones.add(records[i].key, version)
        if self._tombstones:
            for i in writes:
                self._tombstones.remove(records[i].key)

    def close(self) -> None:
        """Closes the connections."""
        self._pool.close()


logger = logging.getLogger(__name__)

WRITES_IN_FLIGHT = 4
SEARCH_SECONDS = 120


class TableTarget:
    """The table that a step writes to.

    `check`, `prepare` and `conclude` are for the launcher, `operator` for the workers.
    """

    def __init__(
        self, settings: WriterSettings, connection: TableConnection | None, context: StepContext
    ) -> None:
        found = connection or settings.own_connection()
        if found is None:
            raise JobError(
                f"step {context.step!r}: name a data source as datasource, or write "
                'connection: [{"jdbcUrl": "jdbc:postgresql://host:port/database", "table": […]}]'
            )
        self.settings, self.connection, self.context = settings, found, context
        self._where = where_of(found)

    def check(self) -> list[str]:
        """Whether this job can write there; changes nothing. Gives notes for people, also logged.

        Raises:
          JobError: with every reason why it can't.
        """
        with self._session() as session:
            info = read_table(session.connection, self.settings.table)
            self._refuse(session.problems())
            if info is None:
                self._refuse(self._missing(session))
                return self._tell(planned(self.settings), session)
            self._refuse(self._unfit(session, info))
            notes = self._tell(info, session)
            if self._recreates:
                return notes
            remarks = self._marking(session, info).remarks()
            return [*notes, *tell_once(self.context, "mark", remarks)]

    def prepare(self) -> None:
        """Creates or recreates the table as the job says, then runs `preSql`; once in a job.

        A table without a row is marked with what makes its vectors.

        Raises:
          JobError: it can't be done, or a statement fails.
        """
        settings = self.settings
        with self._session() as session:
            connection = session.connection
            info = read_table(connection, settings.table)
            self._refuse([] if info is None else self._unfit(session, info))
            with connection.transaction():
                if info is not None and self._recreates:
                    connection.execute(f"DROP TABLE {quoted_table(settings)}")
                    info = None
                if info is None:
                    self._refuse(self._missing(session))
                    for statement in self._creation(session):
                        connection.execute(statement)
            session.run(settings.pre_sql, "preSql")
            if info is not None:
                remember(session.connection, settings, self._marking(session, info))

    @property
    def concludes(self) -> bool:
        """Whether something is left to do once the job is done."""
        return bool(self.settings.post_sql)

    def conclude(self) -> list[str]:
        """Runs `postSql`, once, when the job is done. Raises JobError where a statement fails."""
        if self.settings.post_sql:
            with self._session() as session:
                session.run(self.settings.post_sql, "postSql")
        return []

    def unfinished(self) -> str | None:
        """Nothing that a later run would not do, too."""
        return None

    def operator(self) -> SinkWriter:
        """A writer for one bundle; waits for a server that is away."""
        context, settings = self.context, self.settings
        store = once(("table-store", context.run, context.step), self._store)
        limits = WriteLimits(
            rows=settings.batch_size,
            bytes=settings.batch_byte_size,
            in_flight=max(1, WRITES_IN_FLIGHT // context.parallelism),
        )
        return (SinkWriter if store.hologres else BlockWriter)(store, limits, context)

    def search(self, vector: Any, k: int, vector_column: str | None = None) -> list[dict[str, Any]]:
        """The `k` rows nearest to `vector`, nearest first: `score` and every column but vectors.

        `vector_column` is the table's column, or the job's that goes into it; by default the first.
        """
        with self._session() as session:
            info = self._existing(session)
            tell_once(self.context, "mark", self._marking(session, info).strangers())
            column = vector_column_of(self.settings, info, vector_column)
            metric, index = self._metric(column)
            try:
                value = checked(column.name, column.dimension, metric)(np.asarray(vector))
            except TerminalError as e:
                raise JobError(f"{self._table} can't be searched with this: {e}") from None
            hologres = index if session.hologres else None
            statement = search_statement(info, column, metric, hologres=hologres)
            given = {"query": query_text(value.tolist(), column), "k": k}
            connection = session.connection
            connection.execute(f"SET statement_timeout = {SEARCH_SECONDS * 1000}")
            rows = connection.execute(statement, given).fetchall()
        names = [c.name for c in info.columns if not c.is_vector]
        return [{"score": _score(s), **dict(zip(names, row, strict=True))} for s, *row in rows]

    def row_count(self) -> int:
        """How many rows the table holds now."""
        with self._session() as session:
            count = session.connection.execute(
                f"SELECT count(*) FROM {quoted_table(self.settings)}"
            )
            return int(count.fetchone()[0])

    def preview(self, change: Change | Row) -> dict[str, Any] | Reject:
        """The record as the server would get it, or the reject it would become. Writes nothing."""
        change = change if isinstance(change, Change) else Change(change)
        key = ("table-preview", self.context.run, self.context.step)
        encoder = once(key, self._preview_encoder)
        try:
            return encoder.shown(change)
        except TerminalError as e:
            return self.context.reject(e.reason, str(e), row=change)

    def _preview_encoder(self) -> RowEncoder:
        with self._session() as session:
            info = read_table(session.connection, self.settings.table)
        return RowEncoder(self.settings, info or planned(self.settings))

    def _store(self) -> TableStore:
        open_one = functools.partial(connect, self.connection)
        connection = call_with_retries(
            open_one, deadline=self.context.retry_deadline, what=self._where
        )
        with self._session(connection) as session:
            info = self._existing(session)
            self._refuse([*session.problems(), *mismatches(self.settings, info)])
            self._tell(info, session)
            return TableStore(self.settings, info, open_one, hologres=session.hologres)

    def _session(self, opened: Any = None) -> contextlib.AbstractContextManager[Session]:
        return session_of(self.settings, self.connection, self.context.step, opened)

    @property
    def _table(self) -> str:
        return f"table {self.settings.table!r}"

    def _existing(self, session: Session) -> TableInfo:
        info = read_table(session.connection, self.settings.table)
        if info is None:
            raise JobError(f"{self._where}: {absent(self.settings, session)}")
        return info

    def _missing(self, session: Session) -> list[str]:
        """Why the job can't do without the table, which is not there."""
        made = functools.partial(self._creation, session)
        return missing(self.settings, session, self._where, made)

    def _unfit(self, session: Session, info: TableInfo) -> list[str]:
        """Why the job can't have the table as it is."""
        settings = self.settings
        if not self._recreates:
            return [*mismatches(settings, info), *self._marking(session, info).refusals()]
        if settings.owns_target or self._is_empty(session):
            return []
        return [
            f"{self._table} holds rows, which recreate would drop; set ownsTarget: true if they "
            "may go, or schemaCreateMode to createIfNotExist"
        ]

    @property
    def _recreates(self) -> bool:
        return self.settings.schema_create_mode == "recreate"

    def _is_empty(self, session: Session) -> bool:
        statement = f"SELECT 1 FROM {quoted_table(self.settings)} LIMIT 1"
        return session.connection.execute(statement).fetchone() is None

    def _creation(self, session: Session) -> list[str]:
        """The statements that create the table, and mark it with what makes its vectors."""
        mark = mark_of(self.context, self.settings.sources())
        made = creation(self.settings, hologres=session.hologres)
        return [*made, comment_statement(self.settings, "", mark)]

    def _marking(self, session: Session, info: TableInfo) -> Marking:
        found = mark_in(read_comment(session.connection, self.settings))
        is_empty = functools.partial(self._is_empty, session)
        into = filled(self.settings, info)
        return Marking(self.context, self._table, found, into, is_empty, aliases=False)

    def _refuse(self, problems: list[str]) -> None:
        if problems:
            raise JobError([f"step {self.context.step!r}: {p}" for p in problems])

    def _tell(self, info: TableInfo, session: Session) -> list[str]:
        """What a person should know of this job; logged once in a run and process."""
        notes = list(self._notes(info, session))

        def log() -> bool:
            for note in notes:
                logger.warning("step %r: %s", self.context.step, note)
            return True

        once(("table-notes", self.context.run, self.context.step), log)
        return notes

    def _notes(self, info: TableInfo, session: Session) -> Iterator[str]:
        if left := unmapped(self.settings):
            yield f"columnMapping fills nothing into {', '.join(left)}"
        if self.settings.source_type == "hologres" and not session.hologres:
            yield "the server is no Hologres: rows are written as into PostgreSQL, without an index"
        for column in info.vectors():
            if column.type.name in ("vector", "halfvec") and not is_indexed(column):
                yield f"{column.name!r} has too many dimensions for an index of pgvector"

    def _metric(self, column: ColumnInfo) -> tuple[str, str]:
        """How a column is compared, and by which index of Hologres."""
        job = next((c for c in self.settings.column if c.name == column.name), None)
        metric = (job.metric_type if job else None) or column.metric or "COSINE"
        return metric, self.settings.index_of(job) if job else self.settings.indexes[0]


def _score(value: Any) -> float:
    return float("nan") if value is None else float(value)
