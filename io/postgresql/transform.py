"""Reads tables of PostgreSQL, and writes into them, in a Beam pipeline."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

from vecferry.beam import MakeOperator, MakeSource, OperatorTransform, ReaderTransform
from vecferry.io.postgresql.settings import (
    PostgresConnection,
    PostgresSettings,
    PostgresWriterSettings,
    WriterSettings,
)
from vecferry.io.postgresql.source import PostgresSource
from vecferry.io.postgresql.target import PostgresTarget
from vecferry.io.sink.target import make_writer
from vecferry.io.tables.connection import TableConnection
from vecferry.steps import StepContext


@dataclass(kw_only=True, eq=False)
class ReadFromPostgres(ReaderTransform):
    """Reads tables of PostgreSQL as rows, in parallel by ranges of a key.

    Takes the beginning of a pipeline; gives `rows` (dicts that know their origin) and `rejected`
    (`vecferry.rows.Reject`, rows with a value that Python can't hold).

    Args:
      settings: the tables or queries, and their columns.
      connection: the database; None where `settings.connection` says where the tables are.
      context: the run that this step is part of; needed for throttling only.
    """

    settings: PostgresSettings
    connection: PostgresConnection | None = None

    step_type = "postgresql"

    def __post_init__(self) -> None:
        context = self.context or StepContext(step="Read", step_type=self.step_type)
        PostgresSource(self.settings, self.connection, context)

    def reader(self, context: StepContext) -> MakeSource:
        """Makes a `PostgresSource`."""
        return functools.partial(PostgresSource, self.settings, self.connection, context)


@dataclass(kw_only=True, eq=False)
class WriteToTable(OperatorTransform):
    """The base of writers into tables: one row for each primary key."""

    settings: WriterSettings
    connection: TableConnection | None = None
    prepared: bool = False

    target: ClassVar[type[PostgresTarget]] = PostgresTarget
    main = "written"
    verb = "Write"

    def __post_init__(self) -> None:
        # No super().__init__(): the base is a dataclass, whose __init__ would clear the context.
        settings = self.settings
        if self.prepared:
            return
        if settings.schema_create_mode == "recreate":
            raise ValueError(
                "schemaCreateMode 'recreate' would drop the table again with each bundle that is "
                "repeated; drop it before the pipeline and use 'createIfNotExist'"
            )
        if settings.pre_sql or settings.post_sql:
            raise ValueError(
                "preSql and postSql run once in a job; run them before and after the pipeline"
            )

    def operator(self, context: StepContext) -> MakeOperator:
        """A picklable function that makes the writer."""
        make_target = functools.partial(self.target, self.settings, self.connection)
        return functools.partial(make_writer, make_target, self.prepared, context)


@dataclass(kw_only=True, eq=False)
class WriteToPostgres(WriteToTable):
    """Write each row into a table of PostgreSQL.

    Takes dicts or `Change`s. Gives each on the output `written`, as it came in, once the server has
    committed it. What the server can't take is a `Reject` on `rejected`. Vectors are 1-D float32
    arrays (lists are taken too). Rows that come twice leave one copy: the table must have a
    primary key.

    The table must exist, or `schemaCreateMode` be createIfNotExist; `recreate`, `preSql` and
    `postSql` are for jobs only, as bundles are repeated.

    Args:
      settings: the table and its columns.
      connection: the server; by default what `settings.connection` names.
      prepared: the target has been made ready before the pipeline; workers create nothing.

    Raises:
      ValueError: `recreate`, `preSql` or `postSql` without `prepared`.
      JobError: at run time, where the rows can't fit the table.
    """

    settings: PostgresWriterSettings

    step_type = "postgresql"
