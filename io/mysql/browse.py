"""What a MySQL server holds; see `vecferry.browse`."""

from __future__ import annotations

from typing import ClassVar

from vecferry.io.mysql.client import MySqlDatabase
from vecferry.io.tables.browse import TableBrowser

_OWN = "('information_schema', 'performance_schema', 'mysql', 'sys')"


class MySqlBrowser(TableBrowser):
    """Databases, and tables in them."""

    step_type: ClassVar[str] = "mysql"
    schema_kind: ClassVar[str] = "database"

    def connect(self) -> MySqlDatabase:
        """A connection of PyMySQL."""
        return MySqlDatabase(self.connection, quick=True)

    def version_sql(self) -> str:
        """As the server writes it, MariaDB with its name."""
        return "SELECT version() AS v"

    def schemas_sql(self, after: str | None) -> str:
        """All databases that the user may see, the server's own left out."""
        return (
            "SELECT schema_name AS name FROM information_schema.schemata "
            f"WHERE schema_name NOT IN {_OWN}{self._behind('schema_name', after)} "
            "ORDER BY schema_name"
        )

    def tables_sql(self, schema: str, after: str | None) -> str:
        """Tables and views; the numbers of rows are InnoDB's estimates."""
        return (
            "SELECT table_name AS name, table_type AS kind, table_rows AS n, data_length AS b "
            "FROM information_schema.tables WHERE table_schema = "
            f"{self._literal(schema)}{self._behind('table_name', after)} ORDER BY table_name"
        )

    def _behind(self, column: str, after: str | None) -> str:
        return "" if after is None else f" AND {column} > {self._literal(after)}"

    def _literal(self, text: str) -> str:
        database = self.database
        assert isinstance(database, MySqlDatabase)
        return database.text_literal(text)
