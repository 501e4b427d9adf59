"""What a PostgreSQL database holds; see `vecferry.browse`.

Stands apart from `vecferry.io.hologres.browse` because the kind of PostgreSQL names it.
"""

from __future__ import annotations

from typing import ClassVar

from vecferry.io.postgresql.source import PostgresDatabase
from vecferry.io.tables.browse import TableBrowser


class PostgresBrowser(TableBrowser):
    """Schemas, and tables in them."""

    step_type: ClassVar[str] = "postgresql"
    schema_kind: ClassVar[str] = "schema"

    def connect(self) -> PostgresDatabase:
        """A connection of psycopg."""
        return PostgresDatabase(self.connection, quick=True)

    def version_sql(self) -> str:
        """As the server writes it."""
        return "SELECT version() AS v"

    def schemas_sql(self, after: str | None) -> str:
        """All schemas that the user may use, the server's own left out."""
        return (
            "SELECT nspname AS name FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' "
            "AND nspname NOT IN ('information_schema', 'hologres', 'hologres_statistic') "
            f"AND has_schema_privilege(oid, 'USAGE'){self._behind('nspname', after)} "
            "ORDER BY nspname"
        )

    def tables_sql(self, schema: str, after: str | None) -> str:
        """Tables and views of all kinds; the numbers are those of the last ANALYZE."""
        return (
            "SELECT c.relname AS name, CASE WHEN c.relkind IN ('v', 'm') THEN 'view' ELSE 'table' "
            "END AS kind, c.reltuples::bigint AS n, c.relpages::bigint * 8192 AS b "
            "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace "
            f"WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition "
            f"AND s.nspname = {self._literal(schema)}{self._behind('c.relname', after)} "
            "ORDER BY c.relname"
        )

    def _behind(self, column: str, after: str | None) -> str:
        return "" if after is None else f" AND {column} > {self._literal(after)}"

    def _literal(self, text: str) -> str:
        database = self.database
        assert isinstance(database, PostgresDatabase)
        return database.text_literal(text)
