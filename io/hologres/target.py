"""A table of Hologres as the target of a job; a PostgreSQL server may stand in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import orjson

from vecferry.io.postgresql.catalog import (
    ColumnInfo,
    TableInfo,
    escaped,
    quote,
    quoted_table,
    table_name,
    table_statement,
)
from vecferry.io.postgresql.dialect import Dialect
from vecferry.io.postgresql.settings import PgColumn, WriterSettings
from vecferry.io.postgresql.target import PostgresTarget

METRICS = {"COSINE": "Cosine", "IP": "InnerProduct", "L2": "Euclidean"}
SCORES = {
    "COSINE": ("cosine_distance", "DESC"),
    "IP": ("inner_product_distance", "DESC"),
    "L2": ("euclidean_distance", "ASC"),
}
"""The function that compares by a metric, and the order in which the best comes first."""
PREFIXES = {"HGraph": "approx_", "Proxima": "pm_approx_"}
"""Kind of index -> what begins the name of a function that uses it."""


def creation(
    settings: WriterSettings, vectors_in: str | None = None, indexed: bool = True
) -> list[str]:
    """The statements that create the table; vector indexes are properties of a table here."""
    vectors = [c for c in settings.column if c.is_vector and indexed]
    graphs = [c for c in vectors if settings.index_of(c) == "HGraph"]
    after = f"\nWITH (vectors = '{_properties(graphs, 'HGraph')}')" if graphs else ""
    return [table_statement(settings, after), *_older(settings, vectors)]


def indexing(settings: WriterSettings, columns: Sequence[PgColumn], info: TableInfo) -> list[str]:
    """The statements that give a table that is there its vector indexes.

    https://www.alibabacloud.com/help/en/hologres/user-guide/hgraph-index-usage-guide
    """
    names = {c.name for c in info.vectors()}
    columns, out = [c for c in columns if c.name in names], []
    if graphs := [c for c in columns if settings.index_of(c) == "HGraph"]:
        properties = _properties(graphs, "HGraph")
        out.append(f"ALTER TABLE {quoted_table(settings)} SET (vectors = '{properties}')")
    return [*out, *_older(settings, columns)]


def _older(settings: WriterSettings, columns: Sequence[PgColumn]) -> list[str]:
    found = [c for c in columns if settings.index_of(c) == "Proxima"]
    if not found:
        return []
    name = quoted_table(settings).replace("'", "''")
    properties = _properties(found, "Graph")
    return [f"CALL set_table_property('{name}', 'proxima_vectors', '{properties}')"]


def ripening(info: TableInfo) -> str:
    """The statement that merges a table's files, in which its index is built."""
    name = table_name(info).replace("'", "''")
    return f"SELECT hologres.hg_full_compact_table('{name}', 'max_file_size_mb=4096')"


def _properties(columns: list[PgColumn], algorithm: str) -> str:
    """The property ``vectors`` or ``proxima_vectors`` as the text of an SQL literal."""
    found: dict[str, Any] = {}
    for column in columns:
        given = {"algorithm": algorithm, "distance_method": METRICS[column.metric]}
        more = {"builder_params": column.index_params} if column.index_params else {}
        found[column.name] = {**given, **more}
    return orjson.dumps(found).decode().replace("'", "''")


def copy_statement(
    info: TableInfo, columns: Sequence[ColumnInfo], write_mode: str
) -> tuple[str, int]:
    """Hologres' own COPY, which replaces by key, and how many NULLs each row ends in.

    The COPY updates the columns that it is given, so `replace` gives it the others as NULL.
    https://www.alibabacloud.com/help/en/hologres/developer-reference/copy
    """
    names = [c.name for c in columns]
    empty: list[str] = []
    if write_mode == "replace":
        known = set(names)
        empty = [
            c.name for c in info.columns if c.name not in known and not (c.not_null or c.computed)
        ]
    into = ", ".join(quote(n) for n in [*names, *empty])
    conflict = "IGNORE" if write_mode == "ignore" else "UPDATE"
    return (
        f"COPY {table_name(info)} ({into}) FROM STDIN "
        f"WITH (STREAM_MODE TRUE, FORMAT BINARY, ON_CONFLICT {conflict})",
        len(empty),
    )


def search_statement(info: TableInfo, column: ColumnInfo, metric: str, index: str) -> str:
    """Gives `score` and every column but vectors; its parameters are `query` and `k`, by name."""
    others = [escaped(quote(c.name)) for c in info.columns if not c.is_vector]
    table, name = escaped(table_name(info)), escaped(quote(column.name))
    function, order = SCORES[metric]
    return (
        f"SELECT {PREFIXES.get(index, '')}{function}({name}, %(query)s::float4[]) AS score, "
        f"{', '.join(others)} FROM {table} ORDER BY score {order} LIMIT %(k)s"
    )


HOLOGRES = Dialect(
    name="Hologres",
    probe="EXISTS (SELECT 1 FROM pg_catalog.pg_proc WHERE proname = 'hg_version')",
    create=creation,
    search=search_statement,
    index=indexing,
    ripen=ripening,
    copy=copy_statement,
    keeps_versions=False,
)


class HologresTarget(PostgresTarget):
    """The table that the step `hologres` writes to."""

    way_to_versions = ""
    dialect: ClassVar[Dialect] = HOLOGRES
