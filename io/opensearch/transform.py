"""Writes rows into an index of OpenSearch."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from vecferry.beam import MakeOperator, OperatorTransform
from vecferry.io.opensearch.settings import OpenSearchConnection, OpenSearchSettings
from vecferry.io.opensearch.target import OpenSearchTarget
from vecferry.io.search.target import make_writer, refuse_recreate
from vecferry.steps import StepContext


@dataclass(kw_only=True, eq=False)
class WriteToOpenSearch(OperatorTransform):
    """Write each row into an index of OpenSearch, or PolarSearch, with the k-NN plugin.

    Takes dicts or `Change`s; gives each as it came in once the server has acknowledged it, on the
    output `written`, and what it can't take as a `Reject` on `rejected`. Vectors are 1-D float32
    arrays (lists are taken too). With an id of its own a row that comes twice leaves one document;
    a change with a version is never overwritten by an older one.

    Args:
      settings: the index and its columns.
      connection: the cluster.
      prepared: the index has been made ready before the pipeline; workers create nothing.

    Raises:
      ValueError: `recreate` or `cleanup` without `prepared`.
      JobError: at run time, where the rows can't fit the index.
    """

    settings: OpenSearchSettings
    connection: OpenSearchConnection
    prepared: bool = False

    main = "written"
    verb = "Write"
    step_type = "opensearch"

    def __post_init__(self) -> None:
        refuse_recreate(self.settings, self.prepared)

    def operator(self, context: StepContext) -> MakeOperator:
        """A picklable function that makes the writer."""
        target = functools.partial(OpenSearchTarget, self.settings, self.connection)
        return functools.partial(make_writer, target, self.prepared, context)
