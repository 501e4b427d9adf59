"""The statements that write into one table, on PostgreSQL and on Hologres. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from vecferry.io.pgvector_ddl import quote
from vecferry.io.pgvector_table import ColumnInfo, TableInfo
from vecferry.io.pgvector_values import is_binary

STAGING = "pg_temp.vecferry_rows"
PLACE, VERSION = "vecferry_place", "vecferry_version"
PLAIN_BYTES = 6000
"""Vectors below this stay in their page of the staging table, which is cheaper than out of it."""


def table_name(info: TableInfo) -> str:
    """The quoted name with its schema."""
    return ".".join(quote(p) for p in (info.schema, info.name) if p)


class Statements:
    """What is sent to PostgreSQL for each batch.

    Rows are copied into a temporary table of the connection, and go from there into the target by
    one statement. `columns` are those that are written; `places` says that each row has its number
    in the batch with it, so that the stale ones can be told.
    """

    def __init__(
        self,
        info: TableInfo,
        columns: Sequence[ColumnInfo],
        *,
        write_mode: str,
        version: str | None,
    ) -> None:
        self.table = table_name(info)
        self._columns, self._keys = columns, info.keys
        self._version = quote(version) if version else None
        self._mode, self._info = write_mode, info
        self.places = bool(version) or write_mode == "ignore"
        self.fields = len(columns) + bool(version) + self.places

    def stage(self) -> list[str]:
        """Creates the temporary table, empty after each commit."""
        parts = [_staged(c) for c in self._columns]
        parts += [f"NULL::bigint AS {VERSION}"] if self._version else []
        parts += [f"NULL::integer AS {PLACE}"] if self.places else []
        name = STAGING.partition(".")[2]
        out = [
            f"CREATE TEMPORARY TABLE {name} ON COMMIT DELETE ROWS "
            f"AS SELECT {', '.join(parts)} FROM {self.table} WITH NO DATA"
        ]
        vectors = [c for c in self._columns if c.is_vector]
        small = 8 * sum(c.dimension or PLAIN_BYTES for c in vectors) < PLAIN_BYTES
        how = "PLAIN" if small else "EXTERNAL"
        out += [
            f"ALTER TABLE {STAGING} ALTER COLUMN {quote(c.name)} SET STORAGE {how}" for c in vectors
        ]
        return out

    @property
    def copy(self) -> str:
        """Takes the rows."""
        return f"COPY {STAGING} FROM STDIN (FORMAT BINARY)"

    @property
    def insert(self) -> str:
        """Brings the staged rows into the table."""
        into = [quote(c.name) for c in self._columns]
        values = [_cast(c) for c in self._columns]
        if self._version:
            into.append(self._version)
            values.append(f"s.{VERSION}")
        keys = ", ".join(quote(c.name) for c in self._keys)
        return (
            f"INSERT INTO {self.table} AS t ({', '.join(into)}) "
            f"SELECT {', '.join(values)} FROM {STAGING} s ON CONFLICT ({keys}) {self._resolve()}"
        )

    def _resolve(self) -> str:
        sets = [
            f"{quote(c.name)} = excluded.{quote(c.name)}" for c in self._columns if not c.primary
        ]
        if self._mode == "replace":
            written = {c.name for c in self._columns}
            sets += [
                f"{quote(c.name)} = DEFAULT"
                for c in self._info.columns
                if c.name not in written and not c.computed and quote(c.name) != self._version
            ]
        version = self._version
        if version:
            sets.append(f"{version} = excluded.{version}")
        if self._mode == "ignore" or not sets:
            return "DO NOTHING"
        text = f"DO UPDATE SET {', '.join(sets)}"
        if version:
            text += (
                f" WHERE t.{version} IS NULL OR excluded.{version} IS NULL "
                f"OR t.{version} <= excluded.{version}"
            )
        return text

    @property
    def stale(self) -> str:
        """The places of staged rows that the table has newer: asked after the insert.

        Under ``ignore`` those that it has at all: asked before the insert.
        """
        same = " AND ".join(f"t.{quote(c.name)} = {_cast(c)}" for c in self._keys)
        newer = f" WHERE t.{self._version} > s.{VERSION}" if self._version else ""
        return f"SELECT s.{PLACE} FROM {STAGING} s JOIN {self.table} t ON {same}{newer}"

    @property
    def delete(self) -> str:
        """Deletes by key; its parameters are a list of texts for each column of the key."""
        arrays, names, same = self._given()
        text = f"DELETE FROM {self.table} t USING unnest({arrays}) AS k({names}) WHERE {same}"
        if self._version:
            text += f" AND (t.{self._version} IS NULL OR k.v IS NULL OR t.{self._version} <= k.v)"
        return text

    @property
    def undeleted(self) -> str:
        """The places, from 1 on, of deletes that a newer row has survived."""
        arrays, names, same = self._given()
        return (
            f"SELECT k.n FROM unnest({arrays}) WITH ORDINALITY AS k({names}, n) "
            f"JOIN {self.table} t ON {same} WHERE t.{self._version} > k.v"
        )

    def _given(self) -> tuple[str, str, str]:
        arrays = [f"%s::text[]::{c.type}[]" for c in self._keys]
        names = [f"k{i}" for i in range(len(self._keys))]
        same = " AND ".join(
            f"t.{quote(c.name)} = k.{n}" for c, n in zip(self._keys, names, strict=True)
        )
        if self._version:
            arrays.append("%s::bigint[]")
            names.append("v")
        return ", ".join(arrays), ", ".join(names), same


def fixed_copy(info: TableInfo, columns: Sequence[ColumnInfo], write_mode: str) -> tuple[str, int]:
    """Hologres' own COPY, which replaces by key, and how many NULLs each row ends in.

    It updates the columns that it is given, so `replace` gives it the others as NULL.
    https://www.alibabacloud.com/help/en/hologres/developer-reference/copy
    """
    names = [c.name for c in columns]
    empty: list[str] = []
    if write_mode == "replace":
        known = set(names)
        empty = [c.name for c in info.columns if c.name not in known and _may_be_null(c)]
    into = ", ".join(quote(n) for n in [*names, *empty])
    conflict = "IGNORE" if write_mode == "ignore" else "UPDATE"
    return (
        f"COPY {table_name(info)} ({into}) FROM STDIN "
        f"WITH (STREAM_MODE TRUE, FORMAT BINARY, ON_CONFLICT {conflict})",
        len(empty),
    )


def _may_be_null(column: ColumnInfo) -> bool:
    return not column.not_null and not column.computed


def _staged(column: ColumnInfo) -> str:
    name = quote(column.name)
    return name if is_binary(column.type) else f"{name}::text AS {name}"


def _cast(column: ColumnInfo) -> str:
    name = f"s.{quote(column.name)}"
    return name if is_binary(column.type) else f"{name}::{column.type}"
