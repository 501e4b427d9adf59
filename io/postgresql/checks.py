"""Whether a job fits the table that it writes to, and what to do if the table is missing. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from vecferry.errors import near
from vecferry.io.postgresql.catalog import (
    RIGHTS,
    ColumnInfo,
    ServerInfo,
    Surroundings,
    TableInfo,
    name_parts,
    quote,
)
from vecferry.io.postgresql.settings import NO_KEYS, VECTORS, PgColumn, WriterSettings
from vecferry.rows import CHUNK_INDEX


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
    needed = ("SELECT", "INSERT") if settings.write_mode == "ignore" else RIGHTS
    if lacks := ", ".join(right for right in needed if right in info.lacks):
        name = ".".join(f'"{part}"' for part in (info.schema, info.relation))
        yield f'can\'t be written by this user: GRANT {lacks} ON {name} TO "{info.user}"'
    into = filled(settings, info)
    names = [c.name for c in info.columns]
    if not info.keys:
        yield (
            "has no primary key, by which rows are replaced: ALTER TABLE … ADD PRIMARY KEY (…), "
            "or write into another table"
        )
    if info.deferrable:
        yield (
            "has a primary key that is DEFERRABLE, by which rows can't be replaced (ON CONFLICT "
            "refuses such a key): make the key anew without DEFERRABLE"
        )
    for key in info.keys:
        if key.type.array or key.type.name in (*NO_KEYS, *VECTORS):
            yield f"has {key.name!r}, a {key.type}, in its primary key, which is not supported"
    for name in into:
        if name not in names:
            yield f"has no column {name!r}{near(name, names)} (it has {', '.join(names)})"
    yield from _version_problems(settings, info)
    yield from _document_problems(settings, info, into)
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


def _document_problems(
    settings: WriterSettings, info: TableInfo, into: Mapping[str, str]
) -> Iterator[str]:
    if not settings.parent_key:
        return
    names = {column: name for name, column in into.items()}
    for source in settings.parent_key:
        found = info.column(names.get(source, source))
        if found is None or source not in names:
            yield f"has no column for {source!r}, by which parentKey finds the chunks of a document"
        elif found.type.array or found.type.name in (*NO_KEYS, *VECTORS):
            yield f"has {found.name!r}, a {found.type}, in parentKey, which is not supported"
    found = info.column(names.get(CHUNK_INDEX, CHUNK_INDEX))
    if found is None or CHUNK_INDEX not in names:
        yield f"has no column for {CHUNK_INDEX!r}, by which parentKey counts the chunks"
    elif found.type.array or found.type.name not in ("smallint", "integer", "bigint"):
        yield f"has {found.name!r} as {found.type}, and chunks are counted in a bigint or integer"


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


def missing(
    settings: WriterSettings, there: Surroundings, server: ServerInfo, statements: Sequence[str]
) -> list[str]:
    """Why the job can't do without the table that is missing; empty if the job will create it.

    Args:
      settings: the writer's.
      there: what is there in place of the table.
      server: what the server is, and where its pgvector lives.
      statements: those that create the table; empty if the settings don't suffice for them.
    """
    what, nowhere = there.absent(settings.table), there.schema is None
    if settings.schema_create_mode == "ignore":
        remedy = "create it, or set schemaCreateMode to createIfNotExist"
        if nowhere:
            remedy = "create it and the table in it, or name another"
        if statements:
            remedy += f". The statement would be: {' '.join('; '.join(statements).split())}"
        return [f"{what}; {remedy}"]
    if nowhere:
        schema, _ = name_parts(settings.table)
        remedy = f"have it created (CREATE SCHEMA {quote(schema)}), or name" if schema else "name"
        return [f"{what}; {remedy} another in table"]
    problems = settings.creation_problems()
    if any(c.sql and c.sql.name in VECTORS for c in settings.column):
        problems += _without_vectors(server)
    if not there.allowed and there.schema is not None:
        grant = f"GRANT USAGE, CREATE ON SCHEMA {quote(there.schema)} TO {quote(there.user)}"
        problems.append(f"this user may not create tables in schema {there.schema!r}: {grant}")
    return [f"{what} and can't be created: {p}" for p in problems]


def _without_vectors(server: ServerInfo) -> list[str]:
    """Why pgvector's types can't be used here."""
    if server.pgvector is None:
        return [
            "the database lacks pgvector: have someone with the right run CREATE EXTENSION vector"
        ]
    if server.usable:
        return []
    grant = f"GRANT USAGE ON SCHEMA {quote(server.pgvector)} TO {quote(server.user)}"
    return [f"pgvector is in schema {server.pgvector!r}, which this user may not use: {grant}"]
