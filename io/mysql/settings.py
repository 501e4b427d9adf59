"""What a job says of MySQL tables, and a data source of a MySQL database."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from vecferry.fields import SourceType, in_form
from vecferry.io.tables.connection import TableConnection
from vecferry.io.tables.settings import TableSettings


class MySqlConnection(TableConnection):
    """A database of MySQL, MariaDB, PolarDB for MySQL or RDS for MySQL."""

    product: ClassVar[str] = "MySQL"
    scheme: ClassVar[str] = "mysql"
    default_port: ClassVar[int] = 3306

    type: SourceType[Literal["mysql"]] = "mysql"
    database: str = Field(
        default="",
        description="the database of the tables; without it each table is named `database.table`",
        examples=["shop"],
        json_schema_extra=in_form("connection"),
    )  # tables may be written database.table


class MySqlSettings(TableSettings):
    """The `mysql` reader, as DataWorks Data Integration and DataX write it."""

    connection_class: ClassVar[type[TableConnection]] = MySqlConnection

    @model_validator(mode="after")
    def _within_a_database(self) -> MySqlSettings:
        """A URL of the step needs no database if the tables name theirs."""
        for group, tables, _ in self.groups:
            if self.needs_datasource:
                break
            for connection in self.candidates(group):
                bare = [table for table in tables if "." not in table]
                if bare and not connection.database:
                    raise ValueError(
                        f"table {bare[0]!r}: the jdbcUrl names no database; write database.table, "
                        "or add the database to the URL"
                    )
        return self
