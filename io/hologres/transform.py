"""Writes rows into a table of Hologres."""

from __future__ import annotations

from dataclasses import dataclass

from vecferry.io.hologres.settings import HologresSettings
from vecferry.io.hologres.target import HologresTarget
from vecferry.io.sink.transform import WriteTransform
from vecferry.io.tables.connection import TableConnection


@dataclass(kw_only=True, eq=False)
class WriteToHologres(WriteTransform):
    """Write each row into a table of Hologres, or of PostgreSQL in its place.

    Takes dicts or `Change`s. Gives each on the output `written`, as it came in, once the server has
    committed it. What the server can't take is a `Reject` on `rejected`. Vectors are 1-D float32
    arrays and become ``float4[]``. Rows that come twice leave one copy: the table must have a
    primary key. `schemaCreateMode`, `preSql` and `postSql` as for `WriteToPostgres`.

    Args:
      settings: the table and its columns.
      connection: a `HologresConnection`; by default what `settings.connection` names.
      prepared: the target has been made ready before the pipeline; workers create nothing.

    Raises:
      ValueError: `recreate`, `preSql` or `postSql` without `prepared`.
      JobError: nothing says where the table is; at run time, where the rows can't fit the table.
    """

    settings: HologresSettings
    connection: TableConnection | None = None

    step_type = "hologres"
    target = HologresTarget
