"""Queries of the MaxCompute server of the tests, run by SQLite."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass, field

import pyarrow as pa

from tests.io.odps.tables import Rows, Table, arrow_type

_SELECT = re.compile(
    r"SELECT (?P<what>.*?)\s+FROM\s+`(?P<project>\w+)`\.`(?P<table>\w+)`(?P<rest>.*)", re.S | re.I
)


@dataclass
class Instance:
    """A query: its result or its error, and how often its state is still 'running'."""

    result: Rows | None = None
    columns: dict[str, str] = field(default_factory=dict)
    error: str = ""
    looks: int = 1
    query: str = ""
    stopped: bool = False


def executed(project: str, tables: dict[str, Table], query: str) -> Instance:
    """Runs a query of the form SELECT columns FROM table WHERE condition, by SQLite."""
    explained = query.strip().upper().startswith("EXPLAIN")
    found = _SELECT.search(query)
    if found is None or found["project"] != project:
        return Instance(error="ODPS-0130161:[1,1] Parse exception - invalid query", query=query)
    table = tables.get(found["table"])
    if table is None:
        return Instance(error="ODPS-0130131:[1,1] Table not found", query=query)
    whole = table.all_rows()
    names = [n.strip("`") for n in re.findall(r"`\w+`(?=\s*(?:,|$))", found["what"])]
    kinds = {**table.columns, **table.keys}
    columns = {n: "string" if kinds[n] == "json" else kinds[n] for n in names}
    try:
        chosen = _row_numbers(whole, found["rest"])
    except sqlite3.Error as e:
        return Instance(error=f"ODPS-0130071:[1,1] Semantic analysis exception - {e}", query=query)
    result = whole.select(names).take(pa.array([] if explained else chosen, pa.int64()))
    sent = pa.table([_as_sent(result.column(n), columns[n]) for n in names], names=names)
    return Instance(result=Rows(sent), columns=columns, query=query)


def _as_sent(column: pa.ChunkedArray, kind: str) -> pa.Array:
    wanted, array = arrow_type(kind, of_instance=True), column.combine_chunks()
    if not pa.types.is_struct(wanted) or pa.types.is_struct(array.type):
        return array
    ticks = array.cast(pa.int64()).to_pylist()
    split = [None if t is None else {"sec": t // 10**9, "nano": t % 10**9} for t in ticks]
    return pa.array(split, wanted)


def _row_numbers(table: pa.Table, rest: str) -> list[int]:
    plain = (int, float, str, bool, type(None))
    db = sqlite3.connect(":memory:")
    names = ", ".join(f'"{n}"' for n in table.column_names)
    db.execute(f'CREATE TABLE t ("_row", {names})')
    marks = ", ".join("?" * (table.num_columns + 1))
    rows = (
        (n, *(v if isinstance(v, plain) else str(v) for v in row.values()))
        for n, row in enumerate(table.to_pylist())
    )
    db.executemany(f"INSERT INTO t VALUES ({marks})", rows)
    where = rest.strip().rstrip(";").replace(" AS DATE)", " AS TEXT)")
    return [n for (n,) in db.execute(f'SELECT "_row" FROM t {where} ORDER BY "_row"')]
