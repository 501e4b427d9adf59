"""Reads PostgreSQL tables in an own Beam pipeline."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from vecferry.beam import MakeReader, ReaderTransform
from vecferry.io.postgresql_reader import PostgresReader
from vecferry.io.postgresql_settings import PostgresConnection, PostgresSettings
from vecferry.steps import StepContext


@dataclass(kw_only=True, eq=False)
class ReadFromPostgres(ReaderTransform):
    """Reads tables of PostgreSQL as rows, in parallel by ranges of a key.

    Takes the beginning of a pipeline; gives `rows` (dicts that know their origin) and `rejected`
    (`vecferry.rows.Reject`, rows with a value that Python can't hold).

    Args:
      settings: which tables or queries, with which columns.
      connection: the database; None where `settings.connection` says where the tables are.
      context: the run that this step is part of; needed for throttling only.
    """

    settings: PostgresSettings
    connection: PostgresConnection | None = None

    step_type = "postgresql"

    def __post_init__(self) -> None:
        context = self.context or StepContext(step="Read", step_type=self.step_type)
        PostgresReader(self.settings, self.connection, context)

    def reader(self, context: StepContext) -> MakeReader:
        """Makes a `PostgresReader`."""
        return functools.partial(PostgresReader, self.settings, self.connection, context)
