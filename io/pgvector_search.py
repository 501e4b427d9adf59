"""Searching a table: its vector column, and statements for pgvector, Hologres or neither. Pure."""

from __future__ import annotations

from vecferry.errors import JobError, near
from vecferry.io.pgvector_columns import VECTORS
from vecferry.io.pgvector_ddl import escaped, quote
from vecferry.io.pgvector_settings import WriterSettings
from vecferry.io.pgvector_sql import table_name
from vecferry.io.pgvector_table import ColumnInfo, TableInfo

OPERATORS = {"COSINE": "<=>", "IP": "<#>", "L2": "<->"}
SCORES = {"COSINE": "1 - ({})", "IP": "-({})", "L2": "{}"}
HOLOGRES = {
    "COSINE": ("cosine_distance", "DESC"),
    "IP": ("inner_product_distance", "DESC"),
    "L2": ("euclidean_distance", "ASC"),
}


def search_statement(
    info: TableInfo, column: ColumnInfo, metric: str, *, hologres: str | None = None
) -> str:
    """Gives `score` and every column but vectors; its parameters are `query` and `k`, by name.

    `query` is a text: ``[1,2]`` for pgvector's types, else ``{1,2}``. `hologres` is the kind of
    index there, ``HGraph``, ``Proxima`` or ``none``; None is PostgreSQL.
    """
    others = [escaped(quote(c.name)) for c in info.columns if not c.is_vector]
    table, name = escaped(table_name(info)), escaped(quote(column.name))
    if hologres is not None:
        function, order = HOLOGRES[metric]
        prefix = {"HGraph": "approx_", "Proxima": "pm_approx_"}.get(hologres, "")
        return (
            f"SELECT {prefix}{function}({name}, %(query)s::float4[]) AS score, {', '.join(others)} "
            f"FROM {table} ORDER BY score {order} LIMIT %(k)s"
        )
    if column.type.name in VECTORS:
        distance = f"{name} {OPERATORS[metric]} %(query)s::{column.type.name}"
        score = SCORES[metric].format(distance)
        return (
            f"SELECT ({score})::float8 AS score, {', '.join(others)} FROM {table} "
            f"WHERE {name} IS NOT NULL ORDER BY {distance} LIMIT %(k)s"
        )
    return _exact(table, name, others, metric)


def _exact(table: str, name: str, others: list[str], metric: str) -> str:
    """Reads the whole table: for ``float4[]``, which plain PostgreSQL has no operators for."""
    sums = {
        "COSINE": "sum(u.a::float8 * u.b) / nullif(sqrt(sum(u.a::float8 ^ 2) * sum(u.b ^ 2)), 0)",
        "IP": "sum(u.a::float8 * u.b)",
        "L2": "sqrt(sum((u.a::float8 - u.b) ^ 2))",
    }
    order = "ASC" if metric == "L2" else "DESC"
    return (
        f"SELECT (SELECT {sums[metric]} FROM unnest(t.{name}, %(query)s::float8[]) AS u(a, b)) "
        f"AS score, {', '.join(others)} FROM {table} t WHERE t.{name} IS NOT NULL "
        f"ORDER BY score {order} NULLS LAST LIMIT %(k)s"
    )


def query_text(vector: list[float], column: ColumnInfo) -> str:
    """A vector as the text of its type."""
    numbers = ",".join(map(repr, vector))
    return f"[{numbers}]" if column.type.name in VECTORS else f"{{{numbers}}}"


def vector_column_of(settings: WriterSettings, info: TableInfo, name: str | None) -> ColumnInfo:
    """The vector column of that name, or that the job's column of that name goes into; the first.

    JobError names those that there are.
    """
    vectors = info.vectors() or [c for c in info.columns if c.type.is_floats]
    into = {source: column for column, source in settings.sources().items()}
    for column in vectors:
        if name is None or column.name in (name, into.get(name)):
            return column
    names = [c.name for c in vectors]
    raise JobError(
        f"table {settings.table!r} has no vector column {name!r}{near(name or '', names)} "
        f"(it has {', '.join(names) or 'none'})"
    )
