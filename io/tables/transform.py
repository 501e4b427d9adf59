"""The base of public readers of tables: PTransforms that make a source on each worker."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

from vecferry.beam import MakeSource, ReaderTransform
from vecferry.io.tables.connection import TableConnection
from vecferry.io.tables.settings import TableSettings
from vecferry.io.tables.source import TableSource
from vecferry.steps import StepContext


@dataclass(kw_only=True, eq=False)
class ReadTables(ReaderTransform):
    """Reads tables of a database as rows; a subclass names its `source`.

    Args:
      settings: the tables or queries, and their columns.
      connection: the database; None where `settings.connection` says where the tables are.
      context: the run that this step is part of; needed for throttling only.

    Raises:
      JobError: no connection, or the connection of another kind of database.
    """

    settings: TableSettings
    connection: TableConnection | None = None

    source: ClassVar[type[TableSource]]

    def __post_init__(self) -> None:
        self.reader(self.context or StepContext(step="Read", step_type=self.step_type))()

    def reader(self, context: StepContext) -> MakeSource:
        """A picklable function that makes the source."""
        return functools.partial(self.source, self.settings, self.connection, context)
