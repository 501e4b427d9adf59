"""Reads tables of PostgreSQL, and writes into them, in a Beam pipeline."""

from __future__ import annotations

from dataclasses import dataclass

from vecferry.io.postgresql.settings import (
    PostgresConnection,
    PostgresSettings,
    PostgresWriterSettings,
)
from vecferry.io.postgresql.source import PostgresSource
from vecferry.io.postgresql.target import PostgresTarget
from vecferry.io.sink.transform import WriteTransform
from vecferry.io.tables.connection import TableConnection
from vecferry.io.tables.transform import ReadTables


@dataclass(kw_only=True, eq=False)
class ReadFromPostgres(ReadTables):
    """Reads tables of PostgreSQL as rows, in parallel by ranges of a key.

    Takes the beginning of a pipeline; gives `rows` (dicts that know their origin) and `rejected`
    (`vecferry.rows.Reject`, rows with a value that Python can't hold).

    See `ReadTables` for the arguments and the errors.
    """

    settings: PostgresSettings
    connection: PostgresConnection | None = None

    step_type = "postgresql"
    source = PostgresSource


@dataclass(kw_only=True, eq=False)
class WriteToPostgres(WriteTransform):
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
      JobError: nothing says where the table is; at run time, where the rows can't fit the table.
    """

    settings: PostgresWriterSettings
    connection: TableConnection | None = None

    step_type = "postgresql"
    target = PostgresTarget
