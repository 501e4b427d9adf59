"""What the catalog of a PostgreSQL server says of a table."""

from __future__ import annotations

import json
from typing import Any, Protocol

from vecferry.errors import JobError, near
from vecferry.io.tables.database import Column, Refused, Table
from vecferry.io.tables.settings import TableConnection

_INTEGERS = {"int2", "int4", "int8"}
_ORDERED = _INTEGERS | {
    "numeric", "text", "varchar", "bpchar", "uuid", "date", "timestamp", "timestamptz", "bytea",
}  # fmt: skip
_COLUMNS = """
SELECT a.attname AS c, a.attnotnull AS n, coalesce(b.typname, t.typname) AS d,
       coalesce(b.typtype, t.typtype) AS k
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
WHERE a.attrelid = {oid} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
_INDEXES = """
SELECT i.indexrelid AS i, i.indisunique AS u, a.attname AS c, k.n AS n,
       i.indpred IS NULL AND i.indexprs IS NULL AS whole
FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k(att, n)
LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.att
WHERE i.indrelid = {oid} AND i.indisvalid AND k.n <= i.indnkeyatts
ORDER BY NOT i.indisprimary, i.indexrelid, k.n"""
_TABLE = """
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


class Catalog(Protocol):
    """What is asked of the server."""

    def texts(self, sql: str) -> list[dict[str, str | None]]:
        """A small result."""

    def quote(self, name: str) -> str:
        """A name as SQL."""

    def text_literal(self, text: str) -> str:
        """A text as SQL."""


def read_table(server: Catalog, connection: TableConnection, given: str) -> Table:
    """A table as the session's search_path finds it, or one given as ``schema.table``."""
    oid = _oid(server, given)
    if oid is None:
        names = [str(row["t"]) for row in server.texts(_NAMES)]
        shown = ", ".join(names[:20]) + (" …" if len(names) > 20 else "") or "none"
        raise JobError(
            f"table {given!r} is not in the database {connection.database!r}"
            f"{near(given, names)}; it has {shown}"
        )
    (found,) = server.texts(_TABLE.format(oid=oid))
    columns = tuple(_column(row) for row in server.texts(_COLUMNS.format(oid=oid)))
    indexes = server.texts(_INDEXES.format(oid=oid))
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


def planned_rows(server: Catalog, sql: str) -> float:
    """How many rows the planner expects of a statement."""
    (found,) = server.texts(f"EXPLAIN (FORMAT JSON) {sql}")
    return float(json.loads(str(next(iter(found.values()))))[0]["Plan"]["Plan Rows"])


def _oid(server: Catalog, given: str) -> str | None:
    quoted = server.text_literal(server.quote(given))
    for name in (quoted, server.text_literal(given)):
        try:
            (found,) = server.texts(f"SELECT to_regclass({name})::oid AS o")
        except Refused:  # no syntax of a name
            continue
        if found["o"]:
            return found["o"]
    return None


def _column(row: dict[str, str | None]) -> Column:
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
