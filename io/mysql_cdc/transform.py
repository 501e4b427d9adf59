"""Reads tables of MySQL once in an own Beam pipeline, with the versions of a sync."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from vecferry.beam import MakeSource, ReaderTransform
from vecferry.io.mysql.settings import MySqlConnection
from vecferry.io.mysql_cdc.settings import MySqlCdcSettings
from vecferry.io.mysql_cdc.source import MySqlChanges
from vecferry.steps import StepContext


@dataclass(kw_only=True, eq=False)
class ReadFromMySQLSnapshot(ReaderTransform):
    """Reads tables of MySQL as rows, in parallel, once.

    Takes the beginning of a pipeline; gives `rows` (dicts that know their origin) and `rejected`
    (`vecferry.rows.Reject`). A step of a job (`vecferry run`) goes on with the log.

    Args:
      settings: the tables, their columns, a condition.
      connection: the server.
      context: the run that this step is part of; needed for throttling only.
    """

    settings: MySqlCdcSettings
    connection: MySqlConnection

    step_type = "mysql-cdc"

    def reader(self, context: StepContext) -> MakeSource:
        """Makes a `MySqlChanges`, which also reads tables once."""
        return functools.partial(MySqlChanges, self.settings, self.connection, context)
