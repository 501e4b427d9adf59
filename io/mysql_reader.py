"""Reads MySQL tables into rows, without Beam."""

from __future__ import annotations

from typing import ClassVar

from vecferry.io.mysql_client import MySqlDatabase
from vecferry.io.table_database import Database
from vecferry.io.table_reader import TableReader
from vecferry.io.table_settings import TableConnection


class MySqlReader(TableReader):
    """The reader of the stepType mysql."""

    kind: ClassVar[str] = "mysql"

    def connect(self, connection: TableConnection, *, quick: bool = False) -> Database:
        """A connection of PyMySQL."""
        return MySqlDatabase(connection, quick=quick)
