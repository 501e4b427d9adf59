"""Reads a MaxCompute table in an own Beam pipeline."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from vecferry.beam import MakeSource, ReaderTransform
from vecferry.io.odps.settings import OdpsConnection, OdpsSettings
from vecferry.io.odps.source import OdpsSource
from vecferry.steps import StepContext


@dataclass(kw_only=True, eq=False)
class ReadFromOdps(ReaderTransform):
    """Reads a MaxCompute table, or partitions of it, as rows, in parallel.

    Takes the beginning of a pipeline; gives `rows` (dicts that know their origin) and `rejected`
    (`vecferry.rows.Reject`, records with a value that Python can't hold).

    Args:
      settings: the table, its partitions and its columns.
      connection: the project and its access key.
      context: the run that this step is part of; needed for throttling only.
    """

    settings: OdpsSettings
    connection: OdpsConnection

    step_type = "odps"

    def reader(self, context: StepContext) -> MakeSource:
        """Makes an `OdpsSource`."""
        return functools.partial(OdpsSource, self.settings, self.connection, context)
