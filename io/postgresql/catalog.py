"""The statements that create a table: PostgreSQL with pgvector, or Hologres."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from vecferry.errors import near
from vecferry.io.postgresql.settings import (
    NO_KEYS,
    VECTORS,
    PgColumn,
    SqlType,
    WriterSettings,
    sql_type,
)

_RIGHTS = ("SELECT", "INSERT", "UPDATE")
_TABLE = """
SELECT c.oid, n.nspname, c.relname, c.relkind, current_user,
       ARRAY(SELECT p FROM unnest(%s::text[]) AS p
             WHERE NOT has_table_privilege(c.oid, p))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass(%s)
"""
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.atthasdef,
       a.attidentity::text, {generated}, a.attnum, a.atttypid, t.typarray
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
_CONSTRAINTS = """
SELECT contype::text, conkey, pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint
WHERE conrelid = %s AND contype IN ('p', 'c')
"""
_INDEXES = "SELECT pg_get_indexdef(indexrelid) FROM pg_catalog.pg_index WHERE indrelid = %s"
_NEIGHBOURS = """
SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND n.nspname = coalesce(%s, current_schema()) ORDER BY 1 LIMIT 200
"""
_LENGTH = re.compile(r'array_length\("?(?P<name>[^",()]+)"?, 1\) = (?P<dimension>\d+)')
_VECTOR_INDEX = re.compile(
    r'USING (?:hnsw|ivfflat) \((?:"(?P<quoted>[^"]+)"|(?P<name>\w+))'
    r"(?: (?:\w+\.)?(?:vector|halfvec)_(?P<ops>\w+)_ops)?"
)
_OPS = {"cosine": "COSINE", "ip": "IP", "l2": "L2", None: "L2"}


@dataclass(frozen=True, kw_only=True)
class ColumnInfo:
    """A column of the table. `metric` is that of its vector index, None where it has no index.

    `oid` is the server's number for its type, `array_oid` that of arrays of it; 0 is unknown.
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
    """A table with its schema. `lacks` are the rights on it that `user`, who asks, has not."""

    schema: str | None
    name: str
    columns: tuple[ColumnInfo, ...]
    lacks: tuple[str, ...] = ()
    user: str = ""
    is_table: bool = True

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


def read_table(connection: Any, table: str) -> TableInfo | None:
    """The table on the server; None where it does not exist."""
    from psycopg import sql

    schema, name = name_parts(table)
    quoted = sql.Identifier(*(p for p in (schema, name) if p)).as_string(connection)
    row = connection.execute(_TABLE, [list(_RIGHTS), quoted]).fetchone()
    if row is None:
        return None
    oid, schema, name, kind, user, lacks = row
    newer = connection.info.server_version >= 120000
    text = _COLUMNS.format(generated="a.attgenerated::text" if newer else "''")
    rows = connection.execute(text, [oid]).fetchall()
    keys: set[int] = set()
    lengths: dict[str, int] = {}
    for what, numbers, definition in connection.execute(_CONSTRAINTS, [oid]).fetchall():
        if what == "p":
            keys = set(numbers)
        elif found := _LENGTH.search(definition):
            lengths[found["name"]] = int(found["dimension"])
    metrics = {}
    for (definition,) in connection.execute(_INDEXES, [oid]).fetchall():
        if found := _VECTOR_INDEX.search(definition):
            metrics[found["quoted"] or found["name"]] = _OPS.get(found["ops"])
    columns = tuple(
        _described(row, row[6] in keys, lengths.get(row[0]), metrics.get(row[0])) for row in rows
    )
    kind = kind if isinstance(kind, str) else bytes(kind).decode()
    return TableInfo(
        schema=schema,
        name=name,
        columns=columns,
        lacks=tuple(lacks),
        user=user,
        is_table=kind in ("r", "p"),
    )


def _described(row: Any, primary: bool, length: int | None, metric: str | None) -> ColumnInfo:
    name, type_name, not_null, has_default, identity, generated, _, oid, array_oid = row
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
    )


def neighbours(connection: Any, table: str) -> list[str]:
    """The names of the tables in the same schema."""
    schema, _ = name_parts(table)
    return [name for (name,) in connection.execute(_NEIGHBOURS, [schema]).fetchall()]


def planned(settings: WriterSettings) -> TableInfo:
    """The table that these settings would create."""
    schema, name = name_parts(settings.table)
    columns = [
        ColumnInfo(
            name=c.name,
            type=_planned_type(c),
            primary=c.primary_key,
            not_null=c.primary_key or not c.nullable,
            dimension=c.dimensions if c.is_vector else None,
            metric=c.metric if c.is_vector else None,
        )
        for c in settings.column
    ]
    version = settings.version_column
    if version and version not in [c.name for c in columns]:
        columns.append(ColumnInfo(name=version, type=SqlType("bigint")))
    return TableInfo(schema=schema, name=name, columns=tuple(columns))


def _planned_type(column: PgColumn) -> SqlType:
    found = column.sql or SqlType("text")
    return SqlType(found.name, column.dimensions) if found.name in VECTORS else found


def filled(settings: WriterSettings, info: TableInfo) -> dict[str, str]:
    """Column of the table -> column of the row, for all that is written."""
    sources = settings.sources()
    if not sources and settings.column_mapping is None:
        names = (c.name for c in info.columns if not c.computed)
        return {n: n for n in names if n != settings.version_column}
    return sources


def unmapped(settings: WriterSettings) -> list[str]:
    """The columns of the job that nothing fills."""
    into = settings.sources()
    return [
        c.name for c in settings.column if c.name not in into and c.name != settings.version_column
    ]


def mismatches(settings: WriterSettings, info: TableInfo) -> list[str]:
    """Why the rows of this job don't fit the table that is there; empty if they do."""
    where = f"table {settings.table!r}"
    return [f"{where} {problem}" for problem in _mismatches(settings, info)]


def _mismatches(settings: WriterSettings, info: TableInfo) -> Iterator[str]:
    if not info.is_table:
        yield "is a view or something else that can't be written by key"
        return
    needed = ("SELECT", "INSERT") if settings.write_mode == "ignore" else _RIGHTS
    if lacks := ", ".join(right for right in needed if right in info.lacks):
        name = ".".join(f'"{part}"' for part in (info.schema, info.name))
        yield f'can\'t be written by this user: GRANT {lacks} ON {name} TO "{info.user}"'
    into = filled(settings, info)
    names = [c.name for c in info.columns]
    if not info.keys:
        yield (
            "has no primary key, by which rows are replaced: ALTER TABLE … ADD PRIMARY KEY (…), "
            "or write into another table"
        )
    for key in info.keys:
        if key.type.array or key.type.name in (*NO_KEYS, *VECTORS):
            yield f"has {key.name!r}, a {key.type}, in its primary key, which is not supported"
    for name in into:
        if name not in names:
            yield f"has no column {name!r}{near(name, names)} (it has {', '.join(names)})"
    yield from _version_problems(settings, info)
    for column in settings.column:
        found = info.column(column.name)
        if found is not None:
            yield from _differences(column, found)
    for found in info.columns:
        if found.name in into and found.computed:
            yield f"computes the column {found.name!r} itself; leave it out"
        elif found.name not in into and found.name != settings.version_column:
            if found.primary and not found.computed:
                yield f"has the primary key {found.name!r}, which this job does not fill; map it"
            elif not found.optional:
                yield f"needs the column {found.name!r} ({found.type}), which this job leaves empty"


def _version_problems(settings: WriterSettings, info: TableInfo) -> Iterator[str]:
    name = settings.version_column
    if name is None:
        return
    found = info.column(name)
    if found is None:
        yield f"has no column {name!r} for versions: ALTER TABLE … ADD COLUMN {name} bigint"
    elif found.type.name != "bigint" or found.type.array:
        yield f"has {name!r} as {found.type}, and versions are bigint"


def _differences(column: PgColumn, found: ColumnInfo) -> Iterator[str]:
    wanted = column.sql
    if wanted is not None and wanted.same != found.type.same:
        yield f"has {found.name!r} as {found.type}, and the job as {wanted}"
        return
    if column.primary_key and not found.primary:
        yield f"does not have {found.name!r} in its primary key, as the job has it"
    dimension = column.dimensions
    if dimension and found.dimension and dimension != found.dimension:
        yield (
            f"has {found.name!r} with {found.dimension} dimensions, and the job has {dimension}: "
            "change dimension, or write into another table"
        )
    if dimension and not (found.is_vector or found.type.is_floats):
        yield f"has {found.name!r} as {found.type}, which holds no vectors"


OPS = {"COSINE": "cosine", "IP": "ip", "L2": "l2"}
MOST_INDEXED = {"vector": 2000, "halfvec": 4000}
"""The dimensions that an index of pgvector takes."""
HOLOGRES_METRICS = {"COSINE": "Cosine", "IP": "InnerProduct", "L2": "Euclidean"}


def quote(name: str) -> str:
    """An identifier in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def escaped(text: str) -> str:
    """A name in a statement that has parameters, which a percent sign begins."""
    return text.replace("%", "%%")


def quoted_table(settings: WriterSettings) -> str:
    """The table's name as a statement has it."""
    return ".".join(quote(p) for p in name_parts(settings.table) if p)


def creation(settings: WriterSettings, *, hologres: bool = False) -> list[str]:
    """The statements that create the table, to be run in one transaction.

    `hologres` says that the server is one, which has vector indexes as properties of the table.
    """
    info = planned(settings)
    table = quoted_table(settings)
    lines = [_column(c) for c in info.columns]
    lines.append(f"PRIMARY KEY ({', '.join(quote(c.name) for c in info.keys)})")
    body = ",\n  ".join(lines)
    vectors = [c for c in settings.column if c.is_vector]
    graphs = [c for c in vectors if settings.index_of(c) == "HGraph"]
    after = ""
    if hologres and graphs:
        after = f"\nWITH (vectors = '{_properties(graphs, 'HGraph')}')"
    out = [f"CREATE TABLE {table} (\n  {body}\n){after}"]
    if hologres:
        older = [c for c in vectors if settings.index_of(c) == "Proxima"]
        if older:
            name = table.replace("'", "''")
            properties = _properties(older, "Graph")
            out.append(f"CALL set_table_property('{name}', 'proxima_vectors', '{properties}')")
        return out
    for column in vectors:
        found = info.column(column.name)
        assert found is not None
        if found.type.is_floats:  # numbers of a vector don't compress, and trying takes time
            name = quote(column.name)
            out.append(f"ALTER TABLE {table} ALTER COLUMN {name} SET STORAGE EXTERNAL")
        elif (index := settings.index_of(column)) != "none" and is_indexed(found):
            out.append(_index(table, column, found, index))
    return out


def is_indexed(column: ColumnInfo) -> bool:
    """Whether pgvector can index vectors of this length."""
    return (column.dimension or 0) <= MOST_INDEXED.get(column.type.name, 0)


def _column(column: ColumnInfo) -> str:
    name = quote(column.name)
    text = f"{name} {column.type}"
    if column.not_null and not column.primary:
        text += " NOT NULL"
    if column.type.name not in VECTORS and column.dimension:
        text += f" CHECK (array_ndims({name}) = 1 AND array_length({name}, 1) = {column.dimension})"
    return text


def _index(table: str, column: PgColumn, found: ColumnInfo, kind: str) -> str:
    with_ = ", ".join(f"{k} = {int(v)}" for k, v in column.index_params.items())
    operators = f"{found.type.name}_{OPS[column.metric]}_ops"
    text = f"CREATE INDEX ON {table} USING {kind} ({quote(column.name)} {operators})"
    return text + (f" WITH ({with_})" if with_ else "")


def _properties(columns: list[PgColumn], algorithm: str) -> str:
    """The property ``vectors`` or ``proxima_vectors`` as the text of an SQL literal."""
    found: dict[str, Any] = {}
    for column in columns:
        found[column.name] = {
            "algorithm": algorithm,
            "distance_method": HOLOGRES_METRICS[column.metric],
            "builder_params": column.index_params,
        }
        if not column.index_params:
            del found[column.name]["builder_params"]
    return orjson.dumps(found).decode().replace("'", "''")
