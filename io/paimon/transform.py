"""Reads a table of Paimon in an own Beam pipeline."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from vecferry.beam import MakeSource, ReaderTransform
from vecferry.io.paimon.settings import PaimonConnection, PaimonSettings
from vecferry.io.paimon.source import PaimonSource
from vecferry.steps import StepContext


@dataclass(kw_only=True, eq=False)
class ReadFromPaimon(ReaderTransform):
    """Reads a snapshot of a Paimon table as rows, in parallel.

    Takes the beginning of a pipeline; gives `rows` (dicts that know their origin) and `rejected`
    (`vecferry.rows.Reject`, records with a value that Python can't hold). The table is read once,
    whatever `scanMode` says.

    Args:
      settings: the table, its columns, a condition, the snapshot.
      connection: the catalog.
      context: the run that this step is part of; needed for throttling only.
    """

    settings: PaimonSettings
    connection: PaimonConnection

    step_type = "paimon"

    def reader(self, context: StepContext) -> MakeSource:
        """Makes a `PaimonSource`."""
        return functools.partial(PaimonSource, self.settings, self.connection, context)
