"""Writes rows into a table of PostgreSQL, with vectors of pgvector."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from vecferry.beam import MakeOperator, MakeSource, OperatorTransform, ReaderTransform
from vecferry.io.postgresql.settings import (
    PostgresConnection,
    PostgresSettings,
    PostgresWriterSettings,
    WriterSettings,
)
from vecferry.io.postgresql.source import PostgresSource
from vecferry.io.postgresql.target import TableTarget
from vecferry.io.sink.writer import SinkWriter
from vecferry.io.tables.settings import TableConnection
from vecferry.process import once
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
        return functools.partial(
            make_writer, self.settings, self.connection, self.prepared, context
        )


@dataclass(kw_only=True, eq=False)
class WriteToPostgres(WriteToTable):
    """Write each row into a table of PostgreSQL.

    Takes dicts or `Change`s; gives each as it came in once the server has committed it, on the
    output `written`, and what it can't take as a `Reject` on `rejected`. Vectors are 1-D float32
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


def make_writer(
    settings: WriterSettings,
    connection: TableConnection | None,
    prepared: bool,
    context: StepContext,
) -> SinkWriter:
    """The writer of one bundle; the first one in a process makes the target ready if need be."""
    target = TableTarget(settings, connection, context)
    if not prepared:
        once(("table-prepared", context.run, context.step), lambda: _prepare(target))
    return target.operator()


def _prepare(target: TableTarget) -> bool:
    if target.settings.schema_create_mode != "ignore":
        target.prepare()
    return True
