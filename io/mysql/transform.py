"""Reads MySQL tables in an own Beam pipeline."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from vecferry.beam import MakeSource, ReaderTransform
from vecferry.io.mysql.settings import MySqlConnection, MySqlSettings
from vecferry.io.mysql.source import MySqlSource
from vecferry.steps import StepContext


@dataclass(kw_only=True, eq=False)
class ReadFromMySQL(ReaderTransform):
    """Reads tables of MySQL, MariaDB, PolarDB or RDS as rows, in parallel by ranges of a key.

    Takes the beginning of a pipeline; gives `rows` (dicts that know their origin) and `rejected`
    (`vecferry.rows.Reject`, rows with a value that Python can't hold).

    Args:
      settings: the tables or queries, and their columns.
      connection: the database; None where `settings.connection` says where the tables are.
      context: the run that this step is part of; needed for throttling only.
    """

    settings: MySqlSettings
    connection: MySqlConnection | None = None

    step_type = "mysql"

    def __post_init__(self) -> None:
        context = self.context or StepContext(step="Read", step_type=self.step_type)
        MySqlSource(self.settings, self.connection, context)

    def reader(self, context: StepContext) -> MakeSource:
        """Makes a `MySqlSource`."""
        return functools.partial(MySqlSource, self.settings, self.connection, context)
