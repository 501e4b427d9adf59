"""What a job says of MySQL tables, and a data source of a MySQL database."""

from __future__ import annotations

from typing import ClassVar, Literal

from vecferry.io.tables.connection import TableConnection
from vecferry.io.tables.settings import TableSettings


class MySqlConnection(TableConnection):
    """A database of MySQL, MariaDB, PolarDB for MySQL or RDS for MySQL."""

    product: ClassVar[str] = "MySQL"
    scheme: ClassVar[str] = "mysql"
    default_port: ClassVar[int] = 3306

    type: Literal["mysql"] = "mysql"


class MySqlSettings(TableSettings):
    """The `mysql` reader, as DataWorks Data Integration and DataX write it."""

    connection_class: ClassVar[type[TableConnection]] = MySqlConnection
