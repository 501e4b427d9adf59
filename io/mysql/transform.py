"""Reads MySQL tables in an own Beam pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from vecferry.io.mysql.settings import MySqlConnection, MySqlSettings
from vecferry.io.mysql.source import MySqlSource
from vecferry.io.tables.transform import ReadTables


@dataclass(kw_only=True, eq=False)
class ReadFromMySQL(ReadTables):
    """Reads tables of MySQL, MariaDB, PolarDB or RDS as rows, in parallel by ranges of a key.

    Takes the beginning of a pipeline; gives `rows` (dicts that know their origin) and `rejected`
    (`vecferry.rows.Reject`, rows with a value that Python can't hold).

    See `ReadTables` for the arguments and the errors.
    """

    settings: MySqlSettings
    connection: MySqlConnection | None = None

    step_type = "mysql"
    source = MySqlSource
