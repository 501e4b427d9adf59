"""What information_schema of a MySQL server says of a table."""

from __future__ import annotations

import re
from typing import Any, Protocol

from vecferry.errors import JobError, near
from vecferry.io.tables.connection import TableConnection
from vecferry.io.tables.database import Column, Table

_INTEGERS = {"tinyint", "smallint", "mediumint", "int", "bigint"}
_ORDERED = _INTEGERS | {
    "decimal", "char", "varchar", "binary", "varbinary", "date", "datetime", "timestamp",
}  # fmt: skip
"""Enums compare as texts and sort as numbers; floats are rounded on the way; long texts sort by
their beginnings."""
_DOT = re.compile(r"`(?:[^`]|``)*`|\.")
"""A dot outside of names in backticks, or such a name."""
_ROUNDED = {"float", "double", "year"}


class Catalog(Protocol):
    """What is asked of the server."""

    def texts(self, sql: str) -> list[dict[str, str | None]]:
        """A small result."""

    def quote(self, name: str) -> str:
        """A name as SQL."""

    def unquoted(self, name: str) -> str:
        """A name without backticks."""

    def text_literal(self, text: str) -> str:
        """A text as SQL."""


def read_table(server: Catalog, connection: TableConnection, given: str) -> Table:
    """A table of the connection's database, or of another as ``database.table``."""
    found = _find(server, connection, given)
    schema, name = str(found["s"]), str(found["t"])
    condition = (
        f"table_schema = {server.text_literal(schema)} AND table_name = {server.text_literal(name)}"
    )
    columns = tuple(
        _column(row)
        for row in server.texts(
            "SELECT column_name AS c, data_type AS d, is_nullable AS n "
            f"FROM information_schema.columns WHERE {condition} "
            "AND extra NOT LIKE '%INVISIBLE%' ORDER BY ordinal_position"
        )
    )
    indexes = server.texts(
        "SELECT index_name AS i, non_unique AS u, column_name AS c, sub_part AS p "
        f"FROM information_schema.statistics WHERE {condition} "
        "ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index"
    )
    return Table(
        title=f"{schema}.{name}",
        sql=f"{server.quote(schema)}.{server.quote(name)}",
        columns=columns,
        key=_key(columns, indexes),
        indexed=frozenset(_firsts(indexes)),
        rows=_number(found["n"]),
        bytes=_number(found["b"]),
        path=(schema, name),
    )


def _find(server: Catalog, connection: TableConnection, given: str) -> dict[str, str | None]:
    places = [(connection.database, server.unquoted(given))]
    for dot in reversed([m.start() for m in _DOT.finditer(given) if m[0] == "."]):
        places.append((server.unquoted(given[:dot]), server.unquoted(given[dot + 1 :])))
    for schema, name in places:
        rows = server.texts(
            "SELECT table_schema AS s, table_name AS t, table_rows AS n, data_length AS b "
            "FROM information_schema.tables WHERE table_schema = "
            f"{server.text_literal(schema)} AND table_name = {server.text_literal(name)}"
        )
        if rows:
            return rows[0]
    schema, name = places[min(1, len(places) - 1)]
    if not schema:
        raise JobError(
            f"table {given!r}: the data source names no database; write database.table, or add "
            "database to the data source"
        )
    rows = server.texts(
        "SELECT table_name AS t FROM information_schema.tables "
        f"WHERE table_schema = {server.text_literal(schema)} ORDER BY table_name"
    )
    names = [str(row["t"]) for row in rows]
    shown = ", ".join(names[:20]) + (" …" if len(names) > 20 else "") or "none"
    raise JobError(
        f"table {given!r} is not in the database {schema!r}, or user {connection.username!r} may "
        f"not read it{near(name, names)}; it has {shown}"
    )


def _column(row: dict[str, str | None]) -> Column:
    kind = str(row["d"]).lower()
    return Column(
        name=str(row["c"]),
        type=kind,
        nullable=row["n"] == "YES",
        integer=kind in _INTEGERS,
        ordered=kind in _ORDERED,
        exact=kind not in _ROUNDED,
    )


def _key(columns: tuple[Column, ...], indexes: list[dict[str, Any]]) -> tuple[Column, ...]:
    """The primary key, else the first unique index over whole columns that are never null."""
    known = {c.name: c for c in columns}
    names = dict.fromkeys(row["i"] for row in indexes if row["u"] == "0")
    for name in names:
        parts = [row for row in indexes if row["i"] == name]
        key = [known.get(str(row["c"])) for row in parts if row["p"] is None]
        if len(key) == len(parts) and all(c and not c.nullable for c in key):
            return tuple(c for c in key if c)
    return ()


def _firsts(indexes: list[dict[str, Any]]) -> list[str]:
    firsts: dict[str, Any] = {}
    for row in indexes:
        firsts.setdefault(str(row["i"]), row)
    return [str(row["c"]) for row in firsts.values() if row["c"] and row["p"] is None]


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
