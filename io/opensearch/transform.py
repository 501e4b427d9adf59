"""Writes rows into an index of OpenSearch."""

from __future__ import annotations

from dataclasses import dataclass

from vecferry.io.opensearch.settings import OpenSearchConnection, OpenSearchSettings
from vecferry.io.opensearch.target import OpenSearchTarget
from vecferry.io.sink.transform import WriteTransform


@dataclass(kw_only=True, eq=False)
class WriteToOpenSearch(WriteTransform):
    """Write each row into an index of OpenSearch, or PolarSearch, with the k-NN plugin.

    Takes dicts or `Change`s. The output `written` gives each as it came in, once the server has
    acknowledged it. The output `rejected` gives a `Reject` for each row that can't be written.

    Vectors are 1-D float32 arrays or lists. If rows have an id of their own, a row that comes twice
    leaves one document. A change with a version is never overwritten by an older one.

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

    step_type = "opensearch"
    target = OpenSearchTarget
