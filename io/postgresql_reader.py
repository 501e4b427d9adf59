"""Reads PostgreSQL tables into rows, without Beam."""

from __future__ import annotations

from typing import ClassVar

from vecferry.io.postgresql_client import PostgresDatabase
from vecferry.io.table_database import Database
from vecferry.io.table_reader import TableReader
from vecferry.io.table_settings import TableConnection


class PostgresReader(TableReader):
    """The reader of the stepType postgresql."""

    kind: ClassVar[str] = "postgresql"

    def connect(self, connection: TableConnection, *, quick: bool = False) -> Database:
        """A connection of psycopg."""
        return PostgresDatabase(connection, quick=quick)
