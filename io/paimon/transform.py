"""Reads a table of Paimon in an own Beam pipeline."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from vecferry.beam import MakeSource, ReaderTransform
from vecferry.io.paimon.changes import PaimonChanges, PaimonChangesBetween
from vecferry.io.paimon.settings import PaimonConnection, PaimonSettings
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
        """Makes a `PaimonChanges`, which also reads a table once."""
        return functools.partial(PaimonChanges, self.settings, self.connection, context)


@dataclass(kw_only=True, eq=False)
class ReadPaimonChanges(ReaderTransform):
    """Reads what happened to a Paimon table behind a snapshot, as changes, in parallel.

    Takes the beginning of a pipeline; gives `rows` (`vecferry.rows.Change`) and `rejected`. Each
    key that was touched comes once, as it is at `until`: an upsert (``+U``), or a delete (``-D``)
    with the key's columns alone. The table needs a primary key, or `settings.key`. A step of a job
    (`vecferry run`) keeps positions as well, and needs no snapshots to be named.

    Args:
      settings: the table, its columns, a condition.
      connection: the catalog.
      since: the snapshot whose rows are known; 0 is before the first one.
      until: the last snapshot to read; None for the newest one there is.
      context: the run that this step is part of; needed for throttling only.
    """

    settings: PaimonSettings
    connection: PaimonConnection
    since: int
    until: int | None = None

    step_type = "paimon"

    def reader(self, context: StepContext) -> MakeSource:
        """Makes a `PaimonChangesBetween`."""
        return functools.partial(
            PaimonChangesBetween,
            self.settings,
            self.connection,
            context,
            since=self.since,
            until=self.until,
        )
