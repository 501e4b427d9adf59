"""What a job says of PostgreSQL tables, and a data source of a PostgreSQL database."""

from __future__ import annotations

from typing import ClassVar, Literal

from vecferry.io.table_settings import TableConnection, TableSettings


class PostgresConnection(TableConnection):
    """A database of PostgreSQL, or of a server that speaks as it does."""

    scheme: ClassVar[str] = "postgresql"
    default_port: ClassVar[int] = 5432

    type: Literal["postgresql"] = "postgresql"


class PostgresSettings(TableSettings):
    """The `postgresql` reader, as DataWorks Data Integration and DataX write it."""

    connection_class: ClassVar[type[TableConnection]] = PostgresConnection
