"""What the columns of a table are and were: as the catalog tells, and as a position keeps it.

Rows of the log may be older than the table is now. A position keeps what the columns were there,
because a log without names (`binlog_row_metadata` is not FULL) tells types only.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from vecferry.io.mysql.client import MySqlDatabase
from vecferry.io.mysql_cdc.columns import Column, Columns, described
from vecferry.io.tables.database import Table

_ASKED = (
    "column_name", "data_type", "column_type", "character_set_name", "character_octet_length",
    "numeric_scale", "datetime_precision", "extra",
)  # fmt: skip


def columns_of(database: MySqlDatabase, table: Table) -> Columns:
    """All columns of a table as the catalog has them now, hidden ones included.

    Empty for a table that is not there.
    """
    schema, name = table.path
    asked = ", ".join(f"{column} AS {column}" for column in _ASKED)
    rows = database.texts(
        f"SELECT {asked} FROM information_schema.columns "
        f"WHERE table_schema = {database.text_literal(schema)} "
        f"AND table_name = {database.text_literal(name)} ORDER BY ordinal_position"
    )
    return described(rows)


def told(columns: Columns) -> list[dict[str, Any]]:
    """Columns as values of JSON; what is as usual is left out."""
    usual = {field.name: field.default for field in dataclasses.fields(Column)}
    found = []
    for column in columns.columns:
        given = dataclasses.asdict(column)
        given["members"] = list(column.members)
        found.append({k: v for k, v in given.items() if v != usual[k] and v != []})
    return found


def columns_from(stored: list[Mapping[str, Any]]) -> Columns:
    """What `told` has told."""
    return Columns(
        tuple(Column(**{**given, "members": tuple(given.get("members", ()))}) for given in stored)
    )
