"""Reads MySQL tables into rows, without Beam."""

from __future__ import annotations

from typing import ClassVar

from vecferry.io.mysql.client import MySqlDatabase
from vecferry.io.tables.connection import TableConnection
from vecferry.io.tables.database import Database
from vecferry.io.tables.source import TableSource


class MySqlSource(TableSource):
    """The reader of the stepType mysql."""

    kind: ClassVar[str] = "mysql"

    def connect(self, connection: TableConnection, *, quick: bool = False) -> Database:
        """A connection of PyMySQL."""
        return MySqlDatabase(connection, quick=quick)
