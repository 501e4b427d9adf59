"""What is there: tables to read, tables to write to and their marks; and how a table is created."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vecferry.errors import JobError, near
from vecferry.io.postgresql.client import words
from vecferry.io.postgresql.settings import VECTORS, PgColumn, SqlType, WriterSettings, sql_type
from vecferry.io.sink.mark import NAME, Mark, from_json, to_text
from vecferry.io.tables.connection import TableConnection
from vecferry.io.tables.database import Column, Refused, Table
from vecferry.rows import CHUNK_INDEX

if TYPE_CHECKING:
    from vecferry.io.postgresql.client import Connection
    from vecferry.io.postgresql.dialect import Dialect

RIGHTS = ("SELECT", "INSERT", "UPDATE")
_TABLE = """
SELECT c.oid, n.nspname, c.relname, c.relkind, current_user,
       ARRAY(SELECT p FROM unnest(%s::text[]) AS p
             WHERE NOT has_table_privilege(c.oid, p))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(%s)
"""
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef,
       a.attidentity::text, {generated}, a.attnum, a.atttypid, t.typarray,
       CASE WHEN pg_type_is_visible(t.oid) THEN NULL ELSE n.nspname END
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_CONSTRAINTS = """
SELECT contype::text, conkey, pg_get_constraintdef(oid), condeferrable
FROM pg_catalog.pg_constraint WHERE conrelid = %s AND contype IN ('p', 'c')
"""
_INDEXES = "SELECT pg_get_indexdef(indexrelid) FROM pg_catalog.pg_index WHERE indrelid = %s"
_SERVER = """
SELECT current_setting('transaction_read_only') = 'on',
       (SELECT n.nspname FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'),
       coalesce((SELECT n.nspname = ANY(current_schemas(true)) FROM pg_catalog.pg_extension e
        JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'), true),
       coalesce((SELECT has_schema_privilege(e.extnamespace, 'USAGE')
        FROM pg_catalog.pg_extension e WHERE e.extname = 'vector'), true),
       current_user, {probe}
"""
_SCHEMA = """
SELECT n.nspname, has_schema_privilege(n.oid, 'USAGE') AND has_schema_privilege(n.oid, 'CREATE'),
       current_user
FROM pg_catalog.pg_namespace n WHERE n.nspname = coalesce(%s, current_schema())
"""
_SCHEMAS = """
SELECT nspname FROM pg_catalog.pg_namespace
WHERE nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%' ORDER BY 1 LIMIT 200
"""
_NEIGHBOURS = """
SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname = coalesce(%s, current_schema()) ORDER BY 1 LIMIT 200
"""
_LENGTH = re.compile(r'array_length\("?(?P<name>[^",()]+)"?, 1\) = (?P<dimension>[0-9]+)')
_VECTOR_INDEX = re.compile(
    r'USING (?:hnsw|ivfflat) \((?:"(?P<quoted>[^"]+)"|(?P<name>\w+))'
    r'(?: (?:(?:\w+|"[^"]+")\.)?(?:vector|halfvec)_(?P<ops>\w+)_ops)?'
)
_WORD = re.compile(r"[A-Za-z_]\w*")
_OPS = {"cosine": "COSINE", "ip": "IP", "l2": "L2", None: "L2"}


@dataclass(frozen=True, kw_only=True)
class ColumnInfo:
    """A column of the table. `metric` is that of its vector index, also of one that is yet to be
    built; None where it has no index.

    `oid` is the server's number for its type, `array_oid` that of arrays of it; 0 is unknown.
    `type_schema` is the schema of its type, where search_path does not lead to the type.
    """

    name: str
    type: SqlType
    primary: bool = False
    not_null: bool = False
    has_default: bool = False
    computed: bool = False
    dimension: int | None = None
    metric: str | None = None
    oid: int = 0
    array_oid: int = 0
    type_schema: str | None = None

    @property
    def prefix(self) -> str:
        """What stands before its type, and before the operators of the type, in a statement."""
        return f"{quote(self.type_schema)}." if self.type_schema else ""

    @property
    def is_vector(self) -> bool:
        """Whether it holds vectors: pgvector's types, or float4[] of a known length."""
        if self.type.name in VECTORS:
            return True
        return self.type.is_floats and self.dimension is not None

    @property
    def optional(self) -> bool:
        """Whether a row may leave it out."""
        return not self.not_null or self.has_default or self.computed


@dataclass(frozen=True, kw_only=True)
class TableInfo:
    """A table. `name` is what the job calls it, `relation` its own name in its schema.

    `lacks` are the rights on the table that `user`, who asks, does not have. `deferrable`: its
    primary key is checked at the end of a transaction. `mark` says what made its vectors. `oid` is
    the server's number for it.
    """

    name: str
    schema: str | None
    relation: str
    columns: tuple[ColumnInfo, ...]
    lacks: tuple[str, ...] = ()
    user: str = ""
    is_table: bool = True
    deferrable: bool = False
    mark: Mark | None = None
    oid: int = 0

    def column(self, name: str) -> ColumnInfo | None:
        """The column of that name."""
        return next((c for c in self.columns if c.name == name), None)

    @property
    def keys(self) -> list[ColumnInfo]:
        """The columns of the primary key."""
        return [c for c in self.columns if c.primary]

    def vectors(self) -> list[ColumnInfo]:
        """The columns that hold vectors."""
        return [c for c in self.columns if c.is_vector]


def name_parts(table: str) -> tuple[str | None, str]:
    """Schema, or None, and name of a table."""
    *schema, name = (part.strip('"') for part in table.split("."))
    return (schema[0] if schema else None), name


def read_table(connection: Connection, table: str) -> TableInfo | None:
    """The table to write to, as it is on the server; None if there is none."""
    from psycopg import sql

    schema, name = name_parts(table)
    quoted = sql.Identifier(*(p for p in (schema, name) if p)).as_string(connection)
    row = connection.execute(_TABLE, [list(RIGHTS), quoted]).fetchone()
    if row is None:
        return None
    oid, schema, name, kind, user, lacks = row
    mark = mark_in(read_comment(connection, quoted))
    newer = connection.info.server_version >= 120000
    text = _COLUMNS.format(generated="a.attgenerated::text" if newer else "''")
    rows = connection.execute(text, [oid]).fetchall()
    keys: set[int] = set()
    deferrable = False
    lengths: dict[str, int] = {}
    for what, numbers, definition, late in connection.execute(_CONSTRAINTS, [oid]).fetchall():
        if what == "p":
            keys, deferrable = set(numbers), late
        elif found := _LENGTH.search(definition):
            lengths[found["name"]] = int(found["dimension"])
    metrics = {**_promised(mark), **indexed_columns(connection, oid)}
    columns = tuple(
        _described(row, row[6] in keys, lengths.get(row[0]), metrics.get(row[0])) for row in rows
    )
    kind = kind if isinstance(kind, str) else bytes(kind).decode()
    return TableInfo(
        name=table,
        schema=schema,
        relation=name,
        columns=columns,
        lacks=tuple(lacks),
        user=user,
        is_table=kind in ("r", "p"),
        deferrable=deferrable,
        mark=mark,
        oid=oid,
    )


def indexed_columns(connection: Connection, oid: int) -> dict[str, str | None]:
    """The metric of the index on each column of vectors that has one."""
    out = {}
    for (definition,) in connection.execute(_INDEXES, [oid]).fetchall():
        if found := _VECTOR_INDEX.search(definition):
            out[found["quoted"] or found["name"]] = _OPS.get(found["ops"])
    return out


def _promised(mark: Mark | None) -> dict[str, str | None]:
    """The metrics of indexes that are yet to be built: rows are to fit them."""
    deferred = {} if mark is None else mark.deferred or {}
    return {name: _remembered(name, told).metric for name, told in deferred.items()}


def _described(row: Any, primary: bool, length: int | None, metric: str | None) -> ColumnInfo:
    name, type_name, not_null, has_default, identity, generated, _, oid, array_oid, schema = row
    if schema is not None and type_name.startswith(quote(schema)):  # a name in quotes
        type_name = type_name.removeprefix(f"{quote(schema)}.")
    try:
        kind = sql_type(type_name)
    except ValueError:  # a quoted name of the user's own
        kind = SqlType(type_name)
    return ColumnInfo(
        name=name,
        type=kind,
        primary=primary,
        not_null=not_null,
        has_default=has_default or bool(identity),
        computed=bool(generated) or identity == "a",
        dimension=kind.limit if kind.name in VECTORS else length,
        metric=metric,
        oid=oid,
        array_oid=array_oid,
        type_schema=schema,
    )


def neighbours(connection: Connection, table: str) -> list[str]:
    """The names of the tables in the same schema."""
    schema, _ = name_parts(table)
    return [name for (name,) in connection.execute(_NEIGHBOURS, [schema]).fetchall()]


@dataclass(frozen=True)
class ServerInfo:
    """What a job must know of the server; `is_like` says whether it is one of the dialect's.

    `pgvector` is the schema of the extension, None without the extension. `visible` says whether
    search_path leads there, `usable` whether `user` may use what is in there.
    """

    read_only: bool
    pgvector: str | None
    visible: bool
    usable: bool
    user: str
    is_like: bool

    @property
    def vectors_in(self) -> str | None:
        """The schema to name before pgvector's types; None if their names will do."""
        return None if self.visible else self.pgvector


def read_server(connection: Connection, probe: str) -> ServerInfo:
    """Asks the server; `probe` is an SQL condition that is true at servers of a dialect."""
    (row,) = connection.execute(_SERVER.format(probe=probe)).fetchall()
    return ServerInfo(*row)


@dataclass(frozen=True)
class Surroundings:
    """What is there in place of a table that is missing.

    `schema` is the schema of its name, None if there is none; `allowed` says whether `user` may
    create tables there. `tables` are those in the schema, `schemas` all that there are.
    """

    schema: str | None
    allowed: bool
    user: str
    tables: tuple[str, ...]
    schemas: tuple[str, ...]

    def absent(self, table: str) -> str:
        """That the table does not exist, with what there is in its place."""
        if self.schema is not None:
            names = self.tables
            return f"table {table!r} does not exist{near(table, names)}{_list(names)}"
        schema, _ = name_parts(table)
        if schema is None:
            return f"table {table!r} names no schema, and no schema of search_path exists"
        return (
            f"schema {schema!r} of table {table!r} does not exist{near(schema, self.schemas)}"
            f"{_list(self.schemas)}"
        )


def _list(names: Sequence[str]) -> str:
    return f" (there are: {', '.join(names[:20])})" if names else ""


def read_surroundings(connection: Connection, table: str) -> Surroundings:
    """Asks the server what there is beside a table that is missing."""
    schema, _ = name_parts(table)
    row = connection.execute(_SCHEMA, [schema]).fetchone()
    if row is None:
        found = connection.execute(_SCHEMAS).fetchall()
        return Surroundings(None, False, "", (), tuple(name for (name,) in found))
    name, allowed, user = row
    return Surroundings(name, allowed, user, tuple(neighbours(connection, table)), ())


def planned(settings: WriterSettings, vectors_in: str | None = None) -> TableInfo:
    """The table that these settings would create; pgvector's types are named with their schema."""
    schema, name = name_parts(settings.table)
    columns = [
        ColumnInfo(
            name=c.name,
            type=_planned_type(c),
            primary=c.primary_key,
            not_null=c.primary_key or not c.nullable,
            dimension=c.dimensions if c.is_vector else None,
            metric=c.metric if c.is_vector else None,
            type_schema=vectors_in if c.sql is not None and c.sql.name in VECTORS else None,
        )
        for c in settings.column
    ]
    version = settings.version_column
    if version and version not in [c.name for c in columns]:
        columns.append(ColumnInfo(name=version, type=SqlType("bigint")))
    return TableInfo(name=settings.table, schema=schema, relation=name, columns=tuple(columns))


def _planned_type(column: PgColumn) -> SqlType:
    found = column.sql or SqlType("text")
    return SqlType(found.name, column.dimensions) if found.name in VECTORS else found


def quote(name: str) -> str:
    """An identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def escaped(text: str) -> str:
    """A name in a statement that has parameters, which a percent sign begins."""
    return text.replace("%", "%%")


def quoted_table(settings: WriterSettings) -> str:
    """The table's name as a statement has it."""
    return ".".join(quote(p) for p in name_parts(settings.table) if p)


def table_name(info: TableInfo) -> str:
    """The quoted name with its schema."""
    return ".".join(quote(p) for p in (info.schema, info.relation) if p)


OPS = {"COSINE": "cosine", "IP": "ip", "L2": "l2"}
MOST_INDEXED = {"vector": 2000, "halfvec": 4000}
"""The dimensions that an index of pgvector takes."""


def creation(
    settings: WriterSettings, vectors_in: str | None = None, indexed: bool = True
) -> list[str]:
    """The statements that create the table in PostgreSQL, to be run in one transaction."""
    info, table = planned(settings, vectors_in), quoted_table(settings)
    out = [table_statement(settings, vectors_in=vectors_in)]
    for column in info.vectors():
        if column.type.is_floats:  # numbers of a vector don't compress, and trying takes time
            name = quote(column.name)
            out.append(f"ALTER TABLE {table} ALTER COLUMN {name} SET STORAGE EXTERNAL")
    if settings.parent_key:  # each batch looks for the chunks of its documents
        into = {column: name for name, column in settings.sources().items()}
        names = [into.get(n, n) for n in (*settings.parent_key, CHUNK_INDEX)]
        out.append(f"CREATE INDEX ON {table} ({', '.join(map(quote, names))})")
    return [*out, *indexing(settings, settings.column, info)] if indexed else out


def indexing(settings: WriterSettings, columns: Sequence[PgColumn], info: TableInfo) -> list[str]:
    """The statements that index these columns of a table in PostgreSQL."""
    table, out = quoted_table(settings), []
    for column in columns:
        found, index = info.column(column.name), settings.index_of(column)
        if found is None or found.type.name not in VECTORS or index == "none":
            continue
        if is_indexed(found):
            out.append(_index(table, column, found, index))
    return out


def told_of(settings: WriterSettings, columns: Sequence[PgColumn]) -> dict[str, Any]:
    """What a mark says of the indexes of columns that are built after the load."""
    return {
        c.name: {
            "indexType": settings.index_of(c),
            "metricType": c.metric,
            "indexParams": dict(c.index_params),
        }
        for c in columns
    }


def due(settings: WriterSettings, deferred: Mapping[str, Any]) -> list[PgColumn]:
    """The columns whose index was left for later; a job that says their type knows better."""
    own = {c.name: c for c in settings.column if c.type is not None}
    kinds = settings.indexes
    return [own.get(name) or _remembered(name, told, kinds) for name, told in deferred.items()]


def _remembered(name: str, told: Any, kinds: Sequence[str] = ()) -> PgColumn:
    """What a mark, which others may write, says of a column; else what is usual."""
    given = told if isinstance(told, dict) else {}
    kind, params = given.get("indexType"), given.get("indexParams")
    known = isinstance(params, dict) and all(
        _WORD.fullmatch(str(k)) and type(v) is int for k, v in params.items()
    )
    more: dict[str, Any] = {
        "indexType": kind if kind in kinds else None,
        "indexParams": params if known else {},
    }
    try:
        given = {"metricType": given.get("metricType"), **more}
        return PgColumn.model_validate({"name": name, **given})
    except ValueError:
        return PgColumn(name=name)


def table_statement(
    settings: WriterSettings, properties: str = "", vectors_in: str | None = None
) -> str:
    """The statement that creates the table; `properties` stands behind the columns."""
    info = planned(settings, vectors_in)
    lines = [_column(c) for c in info.columns]
    lines.append(f"PRIMARY KEY ({', '.join(quote(c.name) for c in info.keys)})")
    body = ",\n  ".join(lines)
    return f"CREATE TABLE {quoted_table(settings)} (\n  {body}\n){properties}"


def is_indexed(column: ColumnInfo) -> bool:
    """Whether pgvector can index vectors of this length."""
    return (column.dimension or 0) <= MOST_INDEXED.get(column.type.name, 0)


def _column(column: ColumnInfo) -> str:
    name = quote(column.name)
    text = f"{name} {column.prefix}{column.type}"
    if column.not_null and not column.primary:
        text += " NOT NULL"
    if column.type.name not in VECTORS and column.dimension:
        text += f" CHECK (array_ndims({name}) = 1 AND array_length({name}, 1) = {column.dimension})"
    return text


def _index(table: str, column: PgColumn, found: ColumnInfo, kind: str) -> str:
    with_ = ", ".join(f"{k} = {int(v)}" for k, v in column.index_params.items())
    operators = f"{found.prefix}{found.type.name}_{OPS[column.metric]}_ops"
    text = f"CREATE INDEX ON {table} USING {kind} ({quote(column.name)} {operators})"
    return text + (f" WITH ({with_})" if with_ else "")


_LINE = re.compile(rf"^{NAME}: (?P<mark>\{{.*\}})$", re.MULTILINE)


def read_comment(connection: Connection, quoted: str) -> str | None:
    """The comment of a table, empty if there is none; None if the server can't tell it.

    Not to be called in a transaction, which the server's refusal would break.
    """
    import psycopg

    statement = "SELECT obj_description(to_regclass(%s), 'pg_class')"
    try:
        row = connection.execute(statement, [quoted]).fetchone()
    except (psycopg.NotSupportedError, psycopg.ProgrammingError):
        return None
    return (row[0] or "") if row else ""


def mark_in(comment: str | None) -> Mark | None:
    """The mark in a comment; None where it has none."""
    found = _LINE.search(comment or "")
    return from_json(found["mark"]) if found else None


def marked(comment: str, mark: Mark) -> str:
    """A comment with a mark in place of the one that it had, else below what it says."""
    line = f"{NAME}: {to_text(mark)}"
    if _LINE.search(comment):
        return _LINE.sub(lambda _: line, comment, count=1)
    return f"{comment}\n{line}" if comment else line


def comment_statement(settings: WriterSettings, comment: str, mark: Mark) -> str:
    """The statement that puts a mark into the table's comment."""
    from psycopg import sql

    text = sql.Literal(marked(comment, mark)).as_string(None)
    return f"COMMENT ON TABLE {quoted_table(settings)} IS {text}"


class TableCatalog:
    """The table that a job writes to, over one connection; see `vecferry.io.sink.target.Catalog`.

    Args:
      connection: of psycopg, to be closed by whoever opened it.
      settings: the writer's.
      where: the database, for messages.
      own: the dialect of the step.
      other: the dialect of a server that stands in for one of `own`.
    """

    def __init__(
        self,
        connection: Connection,
        settings: WriterSettings,
        where: str,
        own: Dialect,
        other: Dialect,
    ) -> None:
        self.connection, self.where = connection, where
        self._settings, self._own, self._other = settings, own, other

    @functools.cached_property
    def server(self) -> ServerInfo:
        """What a job must know of the server."""
        return read_server(self.connection, self._own.probe)

    @property
    def dialect(self) -> Dialect:
        """The server's dialect."""
        return self._own if self.server.is_like else self._other

    def describe(self) -> TableInfo | None:
        """The table as it is on the server."""
        return read_table(self.connection, self._settings.table)

    def surroundings(self) -> Surroundings:
        """What there is beside a table that is missing."""
        return read_surroundings(self.connection, self._settings.table)

    def absent(self) -> str:
        """That the table does not exist, with what there is in its place."""
        return self.surroundings().absent(self._settings.table)

    def creation(self, mark: Mark) -> list[str]:
        """The statements that create and mark the table; none if the settings don't suffice."""
        if self._settings.creation_problems():
            return []
        indexed = mark.deferred is None
        made = self.dialect.create(self._settings, self.server.vectors_in, indexed)
        return [*made, comment_statement(self._settings, "", mark)]

    def create(self, mark: Mark, replaced: TableInfo | None) -> None:
        """Creates the table in one transaction, after `replaced` was dropped in it."""
        import psycopg

        try:
            with self.connection.transaction():
                if replaced is not None:
                    self.connection.execute(f"DROP TABLE {quoted_table(self._settings)}")
                for statement in self.creation(mark):
                    self.connection.execute(statement)
        except (psycopg.errors.DuplicateTable, psycopg.errors.UniqueViolation):
            if replaced is not None or self.describe() is None:
                raise

    def remember(self, info: TableInfo, mark: Mark) -> None:
        """Puts the mark into the table's comment."""
        import psycopg

        try:
            for statement in self.remembering(mark):
                self.connection.execute(statement)
        except psycopg.Error as e:  # the table is somebody else's
            raise JobError(words(e)) from e

    def remembering(self, mark: Mark) -> list[str]:
        """The statement that marks the table; none if what its comment says would be lost."""
        comment = read_comment(self.connection, quoted_table(self._settings))
        return [] if comment is None else [comment_statement(self._settings, comment, mark)]

    def is_empty(self) -> bool:
        """Whether the table holds no row."""
        statement = f"SELECT 1 FROM {quoted_table(self._settings)} LIMIT 1"
        return self.connection.execute(statement).fetchone() is None

    def count(self) -> int:
        """How many rows the table holds, however long the server counts."""
        self.connection.silence = None
        statement = f"SELECT count(*) FROM {quoted_table(self._settings)}"
        ((count,),) = self.connection.execute(statement).fetchall()
        return int(count)

    def run(self, statements: list[str], what: str) -> None:
        """Runs statements of the job, however long they take.

        Raises:
          JobError: a statement fails; the message names the parameter `what`.
        """
        import psycopg

        self.connection.silence = None
        for statement in statements:
            try:
                self.connection.execute(statement.replace("@table", quoted_table(self._settings)))
            except psycopg.Error as e:
                raise JobError(
                    f"{what} failed: {words(e)}; correct the statement, the table, or the rights "
                    "of the user"
                ) from e


_INTEGERS = {"int2", "int4", "int8"}
_ORDERED = _INTEGERS | {
    "numeric", "text", "varchar", "bpchar", "uuid", "date", "timestamp", "timestamptz", "bytea",
}  # fmt: skip
_READ_COLUMNS = """
SELECT a.attname AS c, a.attnotnull AS n, coalesce(b.typname, t.typname) AS d,
       coalesce(b.typtype, t.typtype) AS k
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_READ_INDEXES = """
SELECT i.indexrelid AS i, i.indisunique AS u, a.attname AS c, k.n AS n,
       i.indpred IS NULL AND i.indexprs IS NULL AS whole
FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(att, n)
LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.att
WHERE i.indrelid = {oid} AND i.indisvalid AND k.n <= i.indnkeyatts
ORDER BY NOT i.indisprimary, i.indexrelid, k.n"""
_READ_TABLE = """
SELECT n.nspname AS s, c.relname AS t, pg_table_size(c.oid) AS b,
       c.relkind IN ('r', 'm') AND (c.reltoastrelid = 0
           OR pg_relation_size(c.reltoastrelid) = 0) AS narrow,
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid) AS heirs
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {oid}"""
_NAMES = """
SELECT c.oid::regclass::text AS t FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'v', 'm', 'f', 'p')
AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"""


class Server(Protocol):
    """What is asked of the server."""

    def texts(self, sql: str) -> list[dict[str, str | None]]:
        """A small result."""

    def quote(self, name: str) -> str:
        """A name as SQL."""

    def text_literal(self, text: str) -> str:
        """A text as SQL."""


def source_table(server: Server, connection: TableConnection, given: str) -> Table:
    """The table to read, by its name in search_path or by ``schema.table``.

    Raises:
      JobError: there is none; the message names the nearest one.
    """
    oid = _oid(server, given)
    if oid is None:
        names = [str(row["t"]) for row in server.texts(_NAMES)]
        shown = ", ".join(names[:20]) + (" …" if len(names) > 20 else "") or "none"
        raise JobError(
            f"table {given!r} is not in the database {connection.database!r}"
            f"{near(given, names)}; it has {shown}"
        )
    (found,) = server.texts(_READ_TABLE.format(oid=oid))
    columns = tuple(_read_column(row) for row in server.texts(_READ_COLUMNS.format(oid=oid)))
    indexes = server.texts(_READ_INDEXES.format(oid=oid))
    sql = f"{server.quote(str(found['s']))}.{server.quote(str(found['t']))}"
    return Table(
        title=f"{found['s']}.{found['t']}",
        sql=sql,
        columns=columns,
        # Rows of tables that inherit from it come as well, and their keys are their own.
        key=() if found["heirs"] == "t" else _key(columns, indexes),
        indexed=frozenset(str(r["c"]) for r in indexes if r["n"] == "1" and r["c"]),
        rows=round(planned_rows(server, f"SELECT 1 FROM {sql}")),
        bytes=int(found["b"] or 0),
        narrow=found["narrow"] == "t" and found["heirs"] != "t",
    )


def planned_rows(server: Server, sql: str) -> float:
    """How many rows the planner expects of a statement."""
    (found,) = server.texts(f"EXPLAIN (FORMAT JSON) {sql}")
    return float(json.loads(str(next(iter(found.values()))))[0]["Plan"]["Plan Rows"])


def _oid(server: Server, given: str) -> str | None:
    quoted = server.text_literal(server.quote(given))
    for name in (quoted, server.text_literal(given)):
        try:
            (found,) = server.texts(f"SELECT to_regclass({name})::oid AS o")
        except Refused:  # no syntax of a name
            continue
        if found["o"]:
            return found["o"]
    return None


def _read_column(row: dict[str, str | None]) -> Column:
    kind = str(row["d"])
    return Column(
        name=str(row["c"]),
        type=kind,
        nullable=row["n"] != "t",
        integer=kind in _INTEGERS,
        ordered=kind in _ORDERED or row["k"] == "e",
        exact=True,
    )


def _key(columns: tuple[Column, ...], indexes: list[dict[str, Any]]) -> tuple[Column, ...]:
    """The primary key, else the first unique index over columns that are never null."""
    known = {c.name: c for c in columns}
    for index in dict.fromkeys(r["i"] for r in indexes if r["u"] == "t" and r["whole"] == "t"):
        key = [known.get(str(r["c"])) for r in indexes if r["i"] == index]
        if all(c and not c.nullable for c in key):
            return tuple(c for c in key if c)
    return ()
