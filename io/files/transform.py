"""Reads files in an own Beam pipeline."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from vecferry.beam import MakeSource, ReaderTransform
from vecferry.io.files.followed import FollowedFiles
from vecferry.io.files.settings import FilesSettings
from vecferry.settings import Settings
from vecferry.steps import StepContext


@dataclass(kw_only=True, eq=False)
class ReadFiles(ReaderTransform):
    """Reads the files of a pattern as rows, in parallel.

    Takes the beginning of a pipeline; gives `rows` (dicts that know their origin) and `rejected`
    (`vecferry.rows.Reject`, records that became no rows).

    Raises JobError at construction where the data source holds no files.

    Args:
      settings: the files, their format and their columns.
      connection: the data source, such as `LocalConnection`; None for standard input.
      context: the run that this step is part of; needed for throttling only.
    """

    settings: FilesSettings
    connection: Settings | None = None

    step_type = "file"

    def __post_init__(self) -> None:
        context = self.context or StepContext(step="Read", step_type=self.step_type)
        FollowedFiles(self.settings, self.connection, context)

    def reader(self, context: StepContext) -> MakeSource:
        """Makes a `FollowedFiles`, which also reads files once."""
        return functools.partial(FollowedFiles, self.settings, self.connection, context)
