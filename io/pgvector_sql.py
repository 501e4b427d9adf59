"""The statements that write into one table, on PostgreSQL and on Hologres. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vecferry.io.pgvector_batch import Columns, bigints
from vecferry.io.pgvector_ddl import escaped, quote
from vecferry.io.pgvector_table import ColumnInfo, TableInfo


def table_name(info: TableInfo) -> str:
    """The quoted name with its schema."""
    return ".".join(quote(p) for p in (info.schema, info.name) if p)


class Statements:
    """What is sent to PostgreSQL for each batch.

    Rows come as arrays, one for each column, and go into the table by one statement. `columns` are
    those that are written; `tells_stale` says that it gives the places of rows that it left out.
    """

    def __init__(
        self,
        info: TableInfo,
        columns: Sequence[ColumnInfo],
        *,
        write_mode: str,
        version: str | None,
    ) -> None:
        self.table = escaped(table_name(info))
        self._columns, self._keys = columns, info.keys
        self._version = _quoted(version) if version else None
        self._version_name = version
        self._mode, self._info = write_mode, info
        self.tells_stale = bool(version) or write_mode == "ignore"
        self.sent = Columns(columns)
        self.insert = self._insert()
        self.delete = self._delete()
        self.undeleted = self._undeleted()

    def parameters(
        self, rows: Sequence[Sequence[bytes]], versions: Sequence[int | None]
    ) -> dict[str, Any]:
        """What `insert` is given for rows, each as fields of the columns, and their versions."""
        given = self.sent.parameters(rows)
        if self._version:
            given["v"] = bigints(versions)
        return given

    def _insert(self) -> str:
        into = [_quoted(c.name) for c in self._columns]
        names, given, values = self.sent.names, self.sent.given, self.sent.values
        if self._version:
            into.append(self._version)
            names, given, values = [*names, "v"], [*given, "%(v)b"], [*values, "k.v"]
        keys = [_quoted(c.name) for c in self._keys]
        text = (
            f"INSERT INTO {self.table} AS t ({', '.join(into)}) SELECT {', '.join(values)} "
            f"FROM unnest({', '.join(given)}) AS k({', '.join(names)}) "
            f"ON CONFLICT ({', '.join(keys)}) {self._resolve()}"
        )
        if not self.tells_stale:
            return text
        at = [i for i, c in enumerate(self._columns) if c.primary]
        written = ", ".join(f"t.{_quoted(self._columns[i].name)} AS c{i}" for i in at)
        same = " AND ".join(f"w.c{i} = {self.sent.values[i]}" for i in at)
        return (
            f"WITH w AS ({text} RETURNING {written}) SELECT k.n "
            f"FROM unnest({', '.join(f'%(c{i})b' for i in at)}) "
            f"WITH ORDINALITY AS k({', '.join(f'c{i}' for i in at)}, n) "
            f"WHERE NOT EXISTS (SELECT 1 FROM w WHERE {same})"
        )

    def _resolve(self) -> str:
        sets = [
            f"{_quoted(c.name)} = excluded.{_quoted(c.name)}"
            for c in self._columns
            if not c.primary
        ]
        if self._mode == "replace":
            written = {c.name for c in self._columns}
            sets += [
                f"{_quoted(c.name)} = DEFAULT"
                for c in self._info.columns
                if c.name not in written and not c.computed and c.name != self._version_name
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

    def _delete(self) -> str:
        """Deletes by key; its parameters are a list of texts for each column of the key."""
        arrays, names, same = self._given()
        text = f"DELETE FROM {self.table} t USING unnest({arrays}) AS k({names}) WHERE {same}"
        if self._version:
            text += f" AND (t.{self._version} IS NULL OR k.v IS NULL OR t.{self._version} <= k.v)"
        return text

    def _undeleted(self) -> str:
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
            f"t.{_quoted(c.name)} = k.{n}" for c, n in zip(self._keys, names, strict=True)
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


def _quoted(name: str) -> str:
    return escaped(quote(name))
