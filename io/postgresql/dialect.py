"""How servers of PostgreSQL's protocol differ where a table is made, written and searched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vecferry.io.postgresql.catalog import ColumnInfo, TableInfo, creation
from vecferry.io.postgresql.settings import WriterSettings
from vecferry.io.postgresql.statements import search_statement

Create = Callable[[WriterSettings, str | None], list[str]]
"""The statements that create a table with its indexes, to be run in one transaction.

The second argument is the schema of pgvector, where search_path does not lead there.
"""
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
      search: makes the statement that searches a table.
      copy: makes a COPY that replaces rows by key; None if rows go in by INSERT … ON CONFLICT.
      keeps_versions: whether a write can leave a newer row alone, as versionColumn asks for.
    """

    name: str
    probe: str
    create: Create
    search: Search
    copy: Copy | None = None
    keeps_versions: bool = True


POSTGRESQL = Dialect(name="PostgreSQL", probe="true", create=creation, search=search_statement)
