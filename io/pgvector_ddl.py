"""The statements that create a table: PostgreSQL with pgvector, or Hologres."""

from __future__ import annotations

from typing import Any

import orjson

from vecferry.io.pgvector_columns import VECTORS, PgColumn
from vecferry.io.pgvector_settings import WriterSettings
from vecferry.io.pgvector_table import ColumnInfo, name_parts, planned

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
