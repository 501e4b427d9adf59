"""How servers of PostgreSQL's protocol differ where a table is made, written and searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vecferry.io.postgresql.catalog import ColumnInfo, TableInfo, creation, indexing
from vecferry.io.postgresql.settings import PgColumn, WriterSettings
from vecferry.io.postgresql.statements import search_statement

Create = Callable[[WriterSettings, str | None, bool], list[str]]
"""The statements that create a table, to be run in one transaction.

The second argument is the schema of pgvector, where search_path does not lead there; the third says
whether the table gets its indexes now.
"""
Index = Callable[[WriterSettings, Sequence[PgColumn], TableInfo], list[str]]
"""The statements that index columns of vectors, to be run in one transaction."""
Search = Callable[[TableInfo, ColumnInfo, str, str], str]
"""The statement that searches a column, by its metric and the kind of its index."""
Copy = Callable[[TableInfo, Sequence[ColumnInfo], str], tuple[str, int]]
"""The COPY that writes columns in a writeMode, and how many NULLs each row ends in."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """What is a server's own.

    Attributes:
      name: how messages call such a server.
      probe: an SQL condition that is true at such a server.
      create: makes the statements that create a table.
      index: makes the statements that index a table which holds rows already.
      alone: what begins the transaction of these, so that no other run does the same meanwhile.
      ripen: makes the statement that then lets the index take in those rows at once, if need be.
      search: makes the statement that searches a table.
      copy: makes a COPY that replaces rows by key; None if rows go in by INSERT … ON CONFLICT.
      keeps_versions: whether a write can leave a newer row alone, as versionColumn asks for.
    """

    name: str
    probe: str
    create: Create
    search: Search
    index: Index
    alone: Callable[[str], list[str]] = lambda table: []
    ripen: Callable[[TableInfo], str] | None = None
    copy: Copy | None = None
    keeps_versions: bool = True


def _alone(table: str) -> list[str]:
    return [f"LOCK TABLE {table} IN SHARE UPDATE EXCLUSIVE MODE"]


POSTGRESQL = Dialect(
    name="PostgreSQL",
    probe="true",
    create=creation,
    search=search_statement,
    index=indexing,
    alone=_alone,
)
